//! One SQL statement: names, snapshots, plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::execution::context::SQLOptions;
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use stratalog_proto::{Code, Error, Token};

use crate::admission::{About, Place};
use crate::change;
use crate::core::Core;
use crate::delivery::{Rows, execute_with_fallback};
use crate::error::{from_datafusion, from_planning, nearest, place};
use crate::parameters::Parameter;
use crate::parts;
use crate::query::Query;
use crate::session::Tables;
use crate::sql::{self, Command, INFORMATION, Names, SYSTEM, TableName};
use crate::system;
use crate::table::TopicTable;

/// A SQL statement to run.
#[derive(Clone, Debug, Default)]
pub struct SqlRequest {
    /// One statement, in PostgreSQL's dialect.
    pub sql: String,
    /// What stands for `$1`, `$2`, … in it.
    pub parameters: Vec<Parameter>,
    /// What the answer has to include; of tokens of one shard the highest counts.
    pub tokens: Vec<Token>,
    /// The deadline, from now.
    pub timeout: Option<Duration>,
    /// The id in `system.queries` and for `KILL QUERY`; one is chosen if there is none.
    pub id: Option<String>,
    /// Who asks, as `system.queries` shows it.
    pub client: String,
}

pub(crate) async fn prepare(core: &Arc<Core>, request: SqlRequest, running: &Arc<Query>) -> Result<Rows, Error> {
    match sql::parse_with(&request.sql, &request.parameters)? {
        Command::Query(statement) => query(core, statement, &request.tokens, running).await,
        Command::ShowTables => {
            let statement =
                statement_of("SELECT name, partitions, format, retention FROM system.topics ORDER BY name")?;
            query(core, statement, &[], running).await
        }
        Command::Describe(name) => describe(core, &name, &request.tokens, running).await,
        Command::Change(change) => change::make(core, change, running).await,
        Command::Kill(id) => {
            kill(core, &id, running).await?;
            change::answer("killed", &id)
        }
    }
}

/// Ends a query at whichever node it runs.
async fn kill(core: &Core, id: &str, running: &Query) -> Result<(), Error> {
    let Err(not_here) = core.queries.kill(id) else { return Ok(()) };
    for node in core.workers.others() {
        if parts::kill(core, node, id, running).await.is_ok() {
            return Ok(());
        }
    }
    Err(not_here)
}

async fn query(
    core: &Arc<Core>,
    mut statement: Box<Statement>,
    tokens: &[Token],
    running: &Arc<Query>,
) -> Result<Rows, Error> {
    let names = sql::resolve(&mut statement);
    let of_node = names.topics.is_empty() && names.system.iter().all(|table| table.name != system::DEAD_LETTERS);
    let about = if of_node && !names.system.is_empty() { About::Node } else { About::Rows };
    let place = core.admission.enter(running, about).await?;
    let mut tables = topic_tables(core, &names, tokens, running).await?;
    for table in &names.system {
        tables.system.insert(table.name.clone(), system_table(core, table, running).await?);
    }
    for table in &names.information {
        tables.information.insert(table.name.clone(), information_table(core, table, running)?);
    }
    run(core, statement, tables, running, place).await
}

async fn run(
    core: &Arc<Core>,
    statement: Box<Statement>,
    tables: Tables,
    running: &Arc<Query>,
    place: Place,
) -> Result<Rows, Error> {
    let state = core.session(tables, running)?;
    let statement = PlannerStatement::Statement(statement);
    let explain = |error| from_planning(error, &running.meter.stats().dead_letter_topics);
    let plan = state.statement_to_plan(statement).await.map_err(explain)?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(|_| sql::refuse("SELECT INTO"))?;
    let batches = execute_with_fallback(state, plan, running).await?;
    Ok(Rows { batches, place: Some(place) })
}

/// One snapshot of each topic of the statement, however often it names the topic.
async fn topic_tables(
    core: &Arc<Core>,
    names: &Names,
    tokens: &[Token],
    running: &Arc<Query>,
) -> Result<Tables, Error> {
    let mut topics = BTreeMap::new();
    for table in &names.topics {
        topics.insert(table.name.clone(), core.topic(&table.name, &place(table.at)).await?);
    }
    let mut tables = Tables::default();
    for (name, rows) in core.snapshots(&topics, tokens, running).await? {
        running.meter.dead_letters(&rows);
        let (meter, indexes) = (running.meter.clone(), core.indexes.clone());
        let table = TopicTable::new(rows, meter, indexes, |column| names.hidden.contains(column));
        tables.topics.insert(name, Arc::new(table));
    }
    Ok(tables)
}

async fn system_table(
    core: &Arc<Core>,
    table: &TableName,
    running: &Arc<Query>,
) -> Result<Arc<dyn TableProvider>, Error> {
    let found = system::table(core, &table.name, running).await?;
    found.ok_or_else(|| unknown_table(SYSTEM, table, &system::TABLES))
}

fn information_table(
    core: &Arc<Core>,
    table: &TableName,
    running: &Arc<Query>,
) -> Result<Arc<dyn TableProvider>, Error> {
    let found = system::information_table(core, &table.name, running)?;
    found.ok_or_else(|| unknown_table(INFORMATION, table, &system::INFORMATION_TABLES))
}

fn unknown_table(schema: &str, table: &TableName, known: &[&str]) -> Error {
    let near = nearest(&table.name, known.iter().copied()).map(|near| format!("did you mean `{schema}.{near}`?"));
    let name: String = table.name.chars().take(100).collect();
    let hint = near.unwrap_or_else(|| format!("there are {}", known.join(", ")));
    Error::new(Code::InvalidSql, format!("{}there is no table `{schema}.{name}`; {hint}", place(table.at)))
}

/// The columns of a topic, those that `SELECT *` hides included, or of a system table.
async fn describe(core: &Arc<Core>, name: &ObjectName, tokens: &[Token], running: &Arc<Query>) -> Result<Rows, Error> {
    let place_among = core.admission.enter(running, About::Node).await?;
    let mut tables = Tables::default();
    let table = TableName::of(name);
    let own = table.name.split_once('.').filter(|(schema, _)| [SYSTEM, INFORMATION].contains(schema));
    let described = match own {
        Some((schema, name)) => {
            let own = TableName { name: name.to_owned(), at: table.at };
            let found = if schema == SYSTEM {
                system_table(core, &own, running).await?
            } else {
                information_table(core, &own, running)?
            };
            system::describe(&found.schema())
        }
        None => {
            let topic = core.topic(&table.name, &place(table.at)).await?;
            let rows = core.snapshots(&[(table.name, topic)].into(), tokens, running).await?;
            system::columns(rows.values().map(|rows| (&*rows.snapshot.topic, &*rows.snapshot.schema)))
        }
    };
    tables.system.insert("described".to_owned(), described.map_err(from_datafusion)?);
    let statement = statement_of(r#"SELECT "column", "type", shown FROM system.described ORDER BY position"#)?;
    run(core, statement, tables, running, place_among).await
}

/// A statement of ours.
fn statement_of(text: &str) -> Result<Box<Statement>, Error> {
    match sql::parse(text)? {
        Command::Query(statement) => Ok(statement),
        other => Err(Error::new(Code::Internal, format!("a statement of ours is no query: {other:?}"))),
    }
}
