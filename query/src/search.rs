//! Log search: the newest rows that match a query, as the SQL that a user would have to write.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::TryStreamExt;
use stratalog_proto::{Code, Error, Token};

use crate::answer::Deadline;
use crate::catalog::TopicSnapshot;
use crate::engine::{Batches, Core, Rows, execute};
use crate::error::from_datafusion;
use crate::matching::{Compiler, parse_query};
use crate::meter::Meter;
use crate::schema::{SHOWN, names};
use crate::session::Tables;
use crate::table::TopicTable;

/// The most rows that a search returns.
const MAX_LIMIT: usize = 10_000;

/// A log search to run.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    /// The topic's name.
    pub topic: String,
    /// Lucene-like: words, "phrases", `field:value`, `prefix*`, AND OR NOT, parentheses. Empty: every row.
    pub query: String,
    /// The lowest `_time`, inclusive.
    pub from_ns: Option<i64>,
    /// The highest `_time`, exclusive.
    pub to_ns: Option<i64>,
    /// The most rows; at most 10,000.
    pub limit: Option<usize>,
    /// What the answer has to include.
    pub tokens: Vec<Token>,
    /// The deadline, from now.
    pub timeout: Option<Duration>,
}

pub(crate) async fn prepare(core: &Core, request: SearchRequest, deadline: Deadline) -> Result<Rows, Error> {
    let limit = request.limit.filter(|limit| *limit > 0).unwrap_or(core.options.search_limit);
    if limit > MAX_LIMIT {
        let message = format!("a search returns at most {MAX_LIMIT} rows, not {limit}; use SQL for more");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let query = parse_query(&request.query)?;
    let topic = core.topic(&request.topic, "")?;
    let meter = Arc::new(Meter::start(core.catalog.version()));
    let topics = [(topic.name.clone(), topic)].into();
    let snapshots = core.snapshots(&topics, &request.tokens, deadline).await?;
    let mut batch = RecordBatch::new_empty(Arc::new(Schema::empty()));
    for snapshot in snapshots.into_values() {
        meter.fence(&snapshot);
        let table = TopicTable::new(snapshot.clone(), meter.clone(), |column| column != names::RAW);
        let compiler = Compiler::new(columns(&table));
        let filter = within(compiler.compile(&query), &request);
        let plan = plan(&snapshot, table, filter, limit).map_err(from_datafusion)?;
        batch = collect(core, &plan).await?;
    }
    Ok(Rows { meter, batches: Batches::Ready(without_empty_columns(&batch)?) })
}

fn columns(table: &TopicTable) -> Vec<(Column, arrow::datatypes::DataType)> {
    let schema = datafusion::catalog::TableProvider::schema(table);
    let column =
        |field: &Arc<arrow::datatypes::Field>| (Column::new_unqualified(field.name()), field.data_type().clone());
    schema.fields().iter().map(column).collect()
}

/// The filter within the time range of the request.
fn within(filter: Expr, request: &SearchRequest) -> Expr {
    let time = || column(names::TIME);
    let at = |ns: i64| Expr::Literal(ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())), None);
    let from = request.from_ns.map(|from| time().gt_eq(at(from)));
    let to = request.to_ns.map(|to| time().lt(at(to)));
    [from, to].into_iter().flatten().fold(filter, |filter, bound| bound.and(filter))
}

/// Newest first. Rows of one time are ordered by their place in the log, so that every run gives the same rows.
fn plan(
    snapshot: &TopicSnapshot,
    table: TopicTable,
    filter: Expr,
    limit: usize,
) -> Result<LogicalPlan, DataFusionError> {
    let user = snapshot.schema.fields().iter().map(|field| field.name().as_str());
    let user = user.filter(|name| !names::is_system(name));
    let shown = SHOWN.into_iter().chain([names::DEAD]).chain(user).map(column).collect::<Vec<_>>();
    let newest_first = vec![
        column(names::TIME).sort(false, false),
        column(names::PARTITION).sort(true, false),
        column(names::OFFSET).sort(false, false),
    ];
    LogicalPlanBuilder::scan("topic", provider_as_source(Arc::new(table)), None)?
        .filter(filter)?
        .project(shown)?
        .sort_with_limit(newest_first, Some(limit))?
        .build()
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

async fn collect(core: &Core, plan: &LogicalPlan) -> Result<RecordBatch, Error> {
    let state = core.session(Tables::default())?;
    let stream = execute(&state, plan).await?;
    let schema = stream.schema();
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(from_datafusion)?;
    concat_batches(&schema, &batches).map_err(|error| from_datafusion(error.into()))
}

/// Leaves out the columns that are null in every row, except those that every row has.
fn without_empty_columns(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let schema: SchemaRef = batch.schema();
    let is_kept = |column: &usize| {
        let name = schema.field(*column).name().as_str();
        SHOWN.contains(&name) || batch.column(*column).null_count() < batch.num_rows()
    };
    let kept: Vec<usize> = (0..batch.num_columns()).filter(is_kept).collect();
    let columns = kept.iter().map(|column| batch.column(*column).clone()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let project = |schema: Schema| RecordBatch::try_new_with_options(Arc::new(schema), columns, &options);
    schema.project(&kept).and_then(project).map_err(|error| from_datafusion(error.into()))
}
