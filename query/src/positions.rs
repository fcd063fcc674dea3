//! Which rows a condition is true of: what a job that erases rows asks, for days if need be.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::sql::parser::Statement as PlannerStatement;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Statement, Visit, visit_expressions};
use stratalog_proto::{Code, Error, Offset, PartitionId};

use crate::answer::Answer;
use crate::catalog::{TopicInfo, TopicSnapshot};
use crate::core::Core;
use crate::delivery::{Batches, Rows, execute};
use crate::error::from_datafusion;
use crate::query::Query;
use crate::schema::{merge_schemas, names};
use crate::session::Tables;
use crate::sql::{self, parse_predicate, select_positions};
use crate::table::TopicTable;
use crate::try_cast::NullForError;

/// The places of rows, while they are found. Dropping it ends the search.
#[derive(Debug)]
pub struct Positions {
    answer: Answer,
}

impl Positions {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer }
    }

    /// The next rows, at least one, in no order; `None` after the last. After an error there is nothing more.
    ///
    /// # Errors
    /// [`Code::InvalidSql`] for a value on which the condition cannot be evaluated, [`Code::QueryBudget`],
    /// [`Code::CorruptData`] and [`Code::Io`] of the storage.
    pub async fn next(&mut self) -> Option<Result<Vec<(PartitionId, Offset)>, Error>> {
        let batch = self.answer.next().await?;
        Some(batch.and_then(|batch| positions(&batch)))
    }
}

fn positions(batch: &RecordBatch) -> Result<Vec<(PartitionId, Offset)>, Error> {
    let defect = || Error::new(Code::Internal, "a row has no partition and offset: a defect");
    let partitions = batch.column(0).as_primitive_opt::<Int32Type>().ok_or_else(defect)?;
    let offsets = batch.column(1).as_primitive_opt::<Int64Type>().ok_or_else(defect)?;
    let position = |(partition, offset): (&i32, &i64)| {
        Some((PartitionId(u32::try_from(*partition).ok()?), Offset(u64::try_from(*offset).ok()?)))
    };
    partitions.values().iter().zip(offsets.values()).map(position).collect::<Option<_>>().ok_or_else(defect)
}

/// The rows of a snapshot for which a condition is true. The snapshot may have a part of the topic's rows. The columns that
/// the condition names get the types that they have in `asked`, what [`columns`] gave when the condition was checked, so
/// that it means what it meant then whatever was written since; without it, the types that those of the topic have now. A
/// column that nobody has is null, as in every row that lacks it, and so is a value that a cast cannot convert to what it is
/// compared with.
///
/// # Errors
/// Those of [`check`].
pub(crate) async fn find(
    core: &Core,
    snapshot: Arc<TopicSnapshot>,
    predicate: &str,
    asked: Option<&Schema>,
    query: &Arc<Query>,
) -> Result<Rows, Error> {
    let predicate = parse_predicate(predicate)?;
    let mut statement = select_positions(&snapshot.topic.name, predicate)?;
    let hidden = hidden_columns(&mut statement)?;
    let snapshot = match asked {
        Some(asked) => with_missing(snapshot, asked, &statement),
        None => {
            let of_topic = core.snapshot(&snapshot.topic, &[], query).await?.snapshot.schema.clone();
            with_missing(snapshot, &of_topic, &statement)
        }
    };
    let state = SessionStateBuilder::new_from_existing(session(core, snapshot, &hidden, query)?)
        .with_analyzer_rule(Arc::new(NullForError))
        .build();
    let plan = plan(&state, statement).await?;
    let batches = Batches::Stream { stream: execute(&state, &plan).await?, fallback: None };
    Ok(Rows { batches, place: None })
}

/// Checks a condition as [`check`] does; gives the columns of the topic that it names, with the types that they have now.
///
/// # Errors
/// Those of [`check`], and of taking a snapshot.
pub(crate) async fn columns(
    core: &Core,
    topic: &TopicInfo,
    predicate: &str,
    query: &Arc<Query>,
) -> Result<Schema, Error> {
    let predicate = parse_predicate(predicate)?;
    let snapshot = core.snapshot(topic, &[], query).await?.snapshot;
    let mut statement = select_positions(&topic.name, predicate.clone())?;
    hidden_columns(&mut statement)?;
    let named = names_in(&*statement);
    let fields = snapshot.schema.fields().iter();
    let fields: Vec<_> =
        fields.filter(|field| !names::is_system(field.name()) && named.contains(field.name())).cloned().collect();
    check(core, snapshot, predicate, query).await?;
    Ok(Schema::new(fields))
}

/// Checks that a condition can say what to erase: over the columns that the snapshot has, and of the same rows whenever
/// it is evaluated.
///
/// # Errors
/// [`Code::InvalidSql`], [`Code::InvalidSearch`].
pub(crate) async fn check(
    core: &Core,
    snapshot: Arc<TopicSnapshot>,
    predicate: SqlExpr,
    query: &Query,
) -> Result<(), Error> {
    let mut statement = select_positions(&snapshot.topic.name, predicate)?;
    let hidden = hidden_columns(&mut statement)?;
    let state = session(core, snapshot, &hidden, query)?;
    let plan = plan(&state, statement).await?;
    state.create_physical_plan(&plan).await.map(drop).map_err(from_datafusion)
}

/// Resolves the names of a statement; gives the hidden columns among them.
fn hidden_columns(statement: &mut Statement) -> Result<BTreeSet<&'static str>, Error> {
    let names = sql::resolve(statement);
    if names.hidden.contains(names::RAW) {
        return Err(sql::refused("`_raw` has no index, and is gone with the log"));
    }
    Ok(names.hidden)
}

fn session(
    core: &Core,
    snapshot: Arc<TopicSnapshot>,
    hidden: &BTreeSet<&'static str>,
    query: &Query,
) -> Result<SessionState, Error> {
    let name = snapshot.topic.name.clone();
    let table = TopicTable::new(snapshot, query.meter.clone(), core.indexes.clone(), |column| hidden.contains(column));
    let mut tables = Tables::default();
    tables.topics.insert(name, Arc::new(table));
    core.session(tables, query)
}

async fn plan(state: &SessionState, statement: Box<Statement>) -> Result<LogicalPlan, Error> {
    let plan = state.statement_to_plan(PlannerStatement::Statement(statement)).await.map_err(from_datafusion)?;
    check_immutable(&plan)?;
    Ok(plan)
}

/// A function of the clock or of chance is true of other rows each time.
fn check_immutable(plan: &LogicalPlan) -> Result<(), Error> {
    let mut volatile = None;
    let walked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    volatile = Some(call.func.name().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    walked.map_err(from_datafusion)?;
    match volatile {
        Some(name) => Err(sql::refused(&format!("{name}() has another value each time; write the value itself"))),
        None => Ok(()),
    }
}

/// The snapshot with the columns of `of_topic`, in its types, and with every other one that the statement names: of no type,
/// so that it can stand wherever one of some type may have stood.
fn with_missing(snapshot: Arc<TopicSnapshot>, of_topic: &Schema, statement: &Statement) -> Arc<TopicSnapshot> {
    let known = merge_schemas([&*snapshot.schema, of_topic]);
    let typed = known.fields().iter().map(|field| of_topic.field_with_name(field.name()).unwrap_or(field).clone());
    let unknown = |name: &String| !names::is_system(name) && known.index_of(name).is_err();
    let missing = names_in(statement).into_iter().filter(unknown);
    let missing = Schema::new(missing.map(|name| Field::new(name, DataType::Null, true)).collect::<Vec<_>>());
    let schema = merge_schemas([&Schema::new(typed.collect::<Vec<_>>()), &missing]);
    Arc::new(TopicSnapshot { schema, ..TopicSnapshot::clone(&snapshot) })
}

/// What may be names of columns.
fn names_in(node: &impl Visit) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let _ = visit_expressions(node, |expr| {
        let name = match expr {
            SqlExpr::Identifier(name) => Some(&name.value),
            SqlExpr::CompoundIdentifier(parts) => parts.last().map(|part| &part.value),
            _ => None,
        };
        found.extend(name.cloned());
        ControlFlow::<()>::Continue(())
    });
    found
}
