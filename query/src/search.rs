//! Log search: the newest rows that match a query, as the SQL that a user would have to write.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use futures::TryStreamExt;
use stratalog_proto::{Code, Error, Token};

use crate::admission::About;
use crate::catalog::TopicSnapshot;
use crate::core::Core;
use crate::delivery::{Batches, Rows, execute};
use crate::error::from_datafusion;
use crate::matching::{Compiler, parse_query};
use crate::query::Query;
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
    /// The id in `system.queries`; one is chosen if there is none.
    pub id: Option<String>,
    /// Who asks, as `system.queries` shows it.
    pub client: String,
}

pub(crate) async fn prepare(core: &Core, request: SearchRequest, running: &Arc<Query>) -> Result<Rows, Error> {
    let limit = request.limit.filter(|limit| *limit > 0).unwrap_or(core.options.search_limit);
    if limit > MAX_LIMIT {
        let message = format!("a search returns at most {MAX_LIMIT} rows, not {limit}; use SQL for more");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let query = parse_query(&request.query)?;
    let topic = core.topic(&request.topic, "").await?;
    let place = core.admission.enter(running, About::Rows).await?;
    let rows = core.snapshot(&topic, &request.tokens, running).await?;
    let snapshot = rows.snapshot.clone();
    let meter = running.meter.clone();
    meter.dead_letters(&rows);
    let indexes = core.indexes.clone();
    let table = TopicTable::new(rows, meter, indexes, |column| column != names::RAW);
    let compiler = Compiler::new(columns(&table));
    let filter = within(compiler.compile(&query), &request);
    let plan = plan(&snapshot, table, filter, limit).map_err(from_datafusion)?;
    Ok(Rows { batches: run(core, &plan, running).await?, place: Some(place) })
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

/// Runs the plan to its end: only then is it known which columns have a value.
async fn run(core: &Core, plan: &LogicalPlan, running: &Query) -> Result<Batches, Error> {
    let state = core.session(Tables::default(), running)?;
    let memory = MemoryConsumer::new("rows of a search").register(&state.runtime_env().memory_pool);
    let stream = execute(&state, plan).await?;
    let schema = stream.schema();
    let batches = collect(stream, &memory).await.map_err(from_datafusion)?;
    let kept = columns_with_values(&schema, &batches);
    let projected = batches.iter().map(|batch| batch.project(&kept));
    let batches = projected.collect::<Result<_, _>>().map_err(|error| from_datafusion(error.into()))?;
    let schema = schema.project(&kept).map_err(|error| from_datafusion(error.into()))?;
    Ok(Batches::Ready { schema: Arc::new(schema), batches, memory })
}

/// All batches; their bytes are taken from `memory`.
///
/// # Errors
/// Those of the stream, and [`DataFusionError::ResourcesExhausted`].
async fn collect(
    mut stream: SendableRecordBatchStream,
    memory: &MemoryReservation,
) -> Result<Vec<RecordBatch>, DataFusionError> {
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        memory.try_grow(bytes(&batch))?;
        batches.push(batch);
    }
    Ok(batches)
}

/// Bytes of the rows of a batch: batches that are slices of the same arrays do not count them twice.
fn bytes(batch: &RecordBatch) -> usize {
    let column = |column: &Arc<dyn Array>| column.to_data().get_slice_memory_size();
    batch.columns().iter().map(|array| column(array).unwrap_or_else(|_| array.get_array_memory_size())).sum()
}

/// The columns that are not null in every row, and those that every row has.
fn columns_with_values(schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<usize> {
    let has_value = |batch: &RecordBatch, column: usize| batch.column(column).null_count() < batch.num_rows();
    let is_kept = |column: &usize| {
        SHOWN.contains(&schema.field(*column).name().as_str()) || batches.iter().any(|batch| has_value(batch, *column))
    };
    (0..schema.fields().len()).filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool};
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

    use super::*;

    /// Two slices of the same 1,000 rows.
    fn stream() -> SendableRecordBatchStream {
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(|row| format!("row {row:04}"))));
        let whole = RecordBatch::try_from_iter([("text", text)]).unwrap();
        let slices = [whole.slice(0, 500), whole.slice(500, 500)];
        Box::pin(RecordBatchStreamAdapter::new(whole.schema(), futures::stream::iter(slices.map(Ok))))
    }

    #[tokio::test]
    async fn rows_are_counted_once_and_refused_beyond_the_budget() {
        let rows = 8 * 1_000 + 4 * 1_000;
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(rows + 8));
        let memory = MemoryConsumer::new("test").register(&pool);
        assert_eq!(collect(stream(), &memory).await.unwrap().len(), 2);
        assert!((rows..=rows + 8).contains(&pool.reserved()), "{}", pool.reserved());
        let error = from_datafusion(collect(stream(), &memory).await.unwrap_err());
        assert_eq!(error.code, Code::QueryBudget, "{error}");
        drop(memory);
        assert_eq!(pool.reserved(), 0);
    }
}
