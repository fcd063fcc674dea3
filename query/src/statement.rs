//! One SQL statement: names, snapshots, plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::execution::context::SQLOptions;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use stratalog_proto::{Code, Error, Token};

use crate::answer::Deadline;
use crate::engine::{Batches, Core, Rows, execute};
use crate::error::{from_datafusion, nearest, place};
use crate::meter::Meter;
use crate::session::Tables;
use crate::sql::{self, Command, Names, SYSTEM, TableName};
use crate::system;
use crate::table::TopicTable;

/// A SQL statement to run.
#[derive(Clone, Debug, Default)]
pub struct SqlRequest {
    /// One SELECT, EXPLAIN, SHOW TABLES or DESCRIBE, in PostgreSQL's dialect.
    pub sql: String,
    /// What the answer has to include; of tokens of one shard the highest counts.
    pub tokens: Vec<Token>,
    /// The deadline, from now.
    pub timeout: Option<Duration>,
}

pub(crate) async fn prepare(core: &Core, request: SqlRequest, deadline: Deadline) -> Result<Rows, Error> {
    let meter = Arc::new(Meter::start(core.catalog.version()));
    match sql::parse(&request.sql)? {
        Command::Query(statement) => query(core, statement, &request.tokens, deadline, meter).await,
        Command::ShowTables => {
            let statement = own("SELECT name, partitions, format, retention FROM system.topics ORDER BY name")?;
            query(core, statement, &[], deadline, meter).await
        }
        Command::Describe(name) => describe(core, &name, &request.tokens, deadline, meter).await,
    }
}

async fn query(
    core: &Core,
    mut statement: Box<Statement>,
    tokens: &[Token],
    deadline: Deadline,
    meter: Arc<Meter>,
) -> Result<Rows, Error> {
    let names = sql::resolve(&mut statement);
    let mut tables = topic_tables(core, &names, tokens, deadline, &meter).await?;
    for table in &names.system {
        tables.system.insert(table.name.clone(), system_table(core, table, deadline).await?);
    }
    run(core, statement, tables, meter).await
}

async fn run(core: &Core, statement: Box<Statement>, tables: Tables, meter: Arc<Meter>) -> Result<Rows, Error> {
    let state = core.session(tables)?;
    let statement = PlannerStatement::Statement(statement);
    let plan = state.statement_to_plan(statement).await.map_err(from_datafusion)?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|_| sql::refuse("SELECT INTO"))?;
    let batches = Batches::Stream(execute(&state, &plan).await?);
    Ok(Rows { meter, batches })
}

/// One snapshot of each topic of the statement, however often it names the topic.
async fn topic_tables(
    core: &Core,
    names: &Names,
    tokens: &[Token],
    deadline: Deadline,
    meter: &Arc<Meter>,
) -> Result<Tables, Error> {
    let mut topics = BTreeMap::new();
    for table in &names.topics {
        topics.insert(table.name.clone(), core.topic(&table.name, &place(table.at))?);
    }
    let mut tables = Tables::default();
    for (name, snapshot) in core.snapshots(&topics, tokens, deadline).await? {
        meter.fence(&snapshot);
        let table =
            TopicTable::new(snapshot, meter.clone(), core.indexes.clone(), |column| names.hidden.contains(column));
        tables.topics.insert(name, Arc::new(table));
    }
    Ok(tables)
}

async fn system_table(core: &Core, table: &TableName, deadline: Deadline) -> Result<Arc<dyn TableProvider>, Error> {
    let catalog = &*core.catalog;
    let provider = match table.name.as_str() {
        "topics" => system::topics(catalog),
        "partitions" => system::partitions(catalog),
        "segments" => system::segments(catalog),
        "columns" => {
            let topics = catalog.topics().into_iter().map(|topic| (topic.name.clone(), topic)).collect();
            let snapshots = core.snapshots(&topics, &[], deadline).await?;
            system::columns(snapshots.values().map(|snapshot| (&*snapshot.topic, &*snapshot.schema)))
        }
        name => {
            let near = nearest(name, system::TABLES).map(|near| format!("did you mean `{SYSTEM}.{near}`?"));
            let name: String = name.chars().take(100).collect();
            let hint = near.unwrap_or_else(|| format!("there are {}", system::TABLES.join(", ")));
            let message = format!("{}there is no table `{SYSTEM}.{name}`; {hint}", place(table.at));
            return Err(Error::new(Code::InvalidSql, message));
        }
    };
    provider.map_err(from_datafusion)
}

/// The columns of a topic, those that `SELECT *` hides included, or of a system table.
async fn describe(
    core: &Core,
    name: &ObjectName,
    tokens: &[Token],
    deadline: Deadline,
    meter: Arc<Meter>,
) -> Result<Rows, Error> {
    let mut tables = Tables::default();
    let table = TableName::of(name);
    let described = match table.name.strip_prefix("system.") {
        Some(system) => {
            let table = TableName { name: system.to_owned(), at: table.at };
            system::describe(&system_table(core, &table, deadline).await?.schema())
        }
        None => {
            let topic = core.topic(&table.name, &place(table.at))?;
            let snapshots = core.snapshots(&[(table.name, topic)].into(), tokens, deadline).await?;
            snapshots.values().for_each(|snapshot| meter.fence(snapshot));
            system::columns(snapshots.values().map(|snapshot| (&*snapshot.topic, &*snapshot.schema)))
        }
    };
    tables.system.insert("described".to_owned(), described.map_err(from_datafusion)?);
    let statement = own(r#"SELECT "column", "type", shown FROM system.described ORDER BY position"#)?;
    run(core, statement, tables, meter).await
}

/// A statement of ours.
fn own(text: &str) -> Result<Box<Statement>, Error> {
    match sql::parse(text)? {
        Command::Query(statement) => Ok(statement),
        other => Err(Error::new(Code::Internal, format!("a statement of ours is no query: {other:?}"))),
    }
}
