//! From a plan to the batches that the caller of a query reads.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{StreamExt, stream};
use stratalog_proto::{Code, Error};
use tokio::sync::{mpsc, oneshot};

use crate::admission::Place;
use crate::answer::Part;
use crate::error::from_datafusion;
use crate::query::{Phase, Query};

/// Batches that wait for a slow reader before the query pauses.
const BATCHES_AHEAD: usize = 2;

/// Plans and starts a query.
///
/// # Errors
/// Those of DataFusion's planning.
pub(crate) async fn execute(state: &SessionState, plan: &LogicalPlan) -> Result<SendableRecordBatchStream, Error> {
    let plan = state.create_physical_plan(plan).await.map_err(from_datafusion)?;
    execute_stream(plan, state.task_ctx()).map_err(from_datafusion)
}

/// As [`execute`], with another plan in hand for when the memory does not suffice: a hash join has one side in memory,
/// a merge join sorts both, on disk if it has to.
///
/// # Errors
/// Those of DataFusion's planning.
pub(crate) async fn execute_with_fallback(
    state: SessionState,
    plan: LogicalPlan,
    query: &Query,
) -> Result<Batches, Error> {
    let physical = state.create_physical_plan(&plan).await.map_err(from_datafusion)?;
    let fallback = (query.spill.is_possible() && has_hash_join(&physical)).then(|| merging(&state, plan));
    let stream = execute_stream(physical, state.task_ctx()).map_err(from_datafusion)?;
    Ok(Batches::Stream { stream, fallback })
}

fn has_hash_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut found = false;
    let walked = plan.apply(|node| {
        found |= node.is::<HashJoinExec>();
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.is_ok() && found
}

/// The same query with merge joins. They are planned only where there is more than one stream.
fn merging(state: &SessionState, plan: LogicalPlan) -> Fallback {
    let mut config = state.config().clone();
    config.options_mut().optimizer.prefer_hash_join = false;
    let streams = config.target_partitions().max(2);
    let config = config.with_target_partitions(streams);
    let state = SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build();
    Fallback { state: Box::new(state), plan: Box::new(plan) }
}

/// A query that is about to give rows.
pub(crate) struct Rows {
    pub(crate) batches: Batches,
    /// Its place among the queries that run.
    pub(crate) place: Option<Place>,
}

/// Where its rows come from.
pub(crate) enum Batches {
    /// An execution, and what to do if it runs out of memory before its first row.
    Stream { stream: SendableRecordBatchStream, fallback: Option<Fallback> },
    /// An execution that has begun, and what it gave first, if anything.
    Begun { first: Option<RecordBatch>, stream: SendableRecordBatchStream },
    /// Rows that had to be seen as a whole first, and the memory that they have until they are delivered.
    Ready { schema: SchemaRef, batches: Vec<RecordBatch>, memory: MemoryReservation },
    /// One row, which is all.
    Row(RecordBatch),
}

/// Another way to execute a query.
pub(crate) struct Fallback {
    state: Box<SessionState>,
    plan: Box<LogicalPlan>,
}

/// What the caller of a query gets first.
pub(crate) struct Started {
    pub(crate) schema: SchemaRef,
    pub(crate) parts: mpsc::Receiver<Part>,
}

impl Rows {
    /// The same rows once the first of them is there.
    ///
    /// # Errors
    /// What the execution fails with before its first row.
    pub(crate) async fn begun(self) -> Result<Self, Error> {
        let batches = match self.batches {
            Batches::Stream { stream, fallback } => begin(stream, fallback).await?,
            other => other,
        };
        Ok(Self { batches, ..self })
    }

    /// Sends the rows to whoever reads; ends when they are read, the reader has gone, or the query has to stop.
    pub(crate) async fn deliver(self, started: oneshot::Sender<Result<Started, Error>>, query: &Query) {
        let Self { batches, place: _place } = self;
        let (parts, receiver) = mpsc::channel(BATCHES_AHEAD);
        let schema = match &batches {
            Batches::Stream { stream, .. } | Batches::Begun { stream, .. } => stream.schema(),
            Batches::Ready { schema, .. } => schema.clone(),
            Batches::Row(row) => row.schema(),
        };
        query.enter(Phase::Running);
        if started.send(Ok(Started { schema, parts: receiver })).is_err() {
            return;
        }
        // A reader that has gone closes the channel; one that does not read is cut off when the query has to end.
        let _ = query.unless_stopped(batches.send(&parts)).await;
    }
}

/// The reader has gone.
type Gone = mpsc::error::SendError<Part>;

impl Batches {
    async fn send(self, parts: &mpsc::Sender<Part>) -> Result<(), Gone> {
        let sent = match self {
            Self::Row(row) => forward(stream::iter([Ok(row)]), parts).await?,
            Self::Ready { batches, memory: _memory, .. } => {
                let sent = forward(stream::iter(batches).map(Ok), parts).await?;
                // The memory is theirs until the reader has taken them all.
                drop(parts.reserve_many(parts.max_capacity()).await);
                sent
            }
            Self::Stream { stream, fallback } => match begin(stream, fallback).await {
                Ok(Self::Begun { first, stream }) => send_begun(first, stream, parts).await?,
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
            Self::Begun { first, stream } => send_begun(first, stream, parts).await?,
        };
        parts.send(sent.map_or_else(Part::Failed, |()| Part::End)).await
    }
}

/// Waits for the first row of an execution; goes another way, if there is one, when that needs too much memory.
///
/// # Errors
/// Those of the execution.
async fn begin(stream: SendableRecordBatchStream, fallback: Option<Fallback>) -> Result<Batches, Error> {
    match (first_rows(stream).await, fallback) {
        // What the first execution has of the budget is gone with it: it is for the second.
        (Err(error), Some(Fallback { state, plan })) if error.code == Code::QueryBudget => {
            first_rows(execute(&state, &plan).await?).await
        }
        (begun, _) => begun,
    }
}

async fn first_rows(mut stream: SendableRecordBatchStream) -> Result<Batches, Error> {
    loop {
        match stream.next().await.transpose().map_err(from_datafusion)? {
            Some(batch) if batch.num_rows() == 0 => {}
            first => return Ok(Batches::Begun { first, stream }),
        }
    }
}

async fn send_begun(
    first: Option<RecordBatch>,
    stream: SendableRecordBatchStream,
    parts: &mpsc::Sender<Part>,
) -> Result<Result<(), Error>, Gone> {
    let Some(first) = first else { return Ok(Ok(())) };
    parts.send(Part::Batch(first)).await?;
    forward(stream, parts).await
}

/// Sends all batches; gives the error that ended them.
async fn forward(
    mut stream: impl futures::Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin,
    parts: &mpsc::Sender<Part>,
) -> Result<Result<(), Error>, Gone> {
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => parts.send(Part::Batch(batch)).await?,
            Err(error) => return Ok(Err(from_datafusion(error))),
        }
    }
    Ok(Ok(()))
}
