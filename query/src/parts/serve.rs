//! The other side: parts of the queries of other nodes, over rows that are here.
//!
//! A part is a snapshot and a query of its own: it has a budget, a deadline, a line in `system.queries`, and goes with the
//! first of `ClosePart`, `KILL QUERY` and its time. It takes no place among the queries that run: two nodes whose places
//! are all taken by queries that wait for each other would wait for ever. So their number is bounded instead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::StreamExt;
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Token, TopicId, internal};
use tokio::sync::mpsc;

use super::codec;
use super::ipc::{self, Encoder};
use super::workers::PartBytes;
use crate::catalog::{TopicInfo, TopicSnapshot};
use crate::core::Core;
use crate::error::from_datafusion;
use crate::meter::Meter;
use crate::queries::{Listed, Outcome};
use crate::query::{Phase, Query};
use crate::runtime::Task;
use crate::scan::{Counts, Ends, ScanTable, ends, sees_every_row};
use crate::schema::names;
use crate::session::Tables;
use crate::system;

/// Parts that are open at once; beyond, they are refused.
const MAX_OPEN: usize = 16_384;
/// Shards of one part.
const MAX_SHARDS: usize = 65_536;
/// Who asks, as `system.queries` shows it.
const CLIENT: &str = "another node";

/// Where frames of an answer go.
pub(crate) type Frames = mpsc::Sender<Result<PartBytes, Error>>;

/// The parts that are open here.
#[derive(Debug, Default)]
pub(crate) struct OpenParts {
    open: Mutex<BTreeMap<u64, Arc<OpenPart>>>,
    next: AtomicU64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct OpenPart {
    snapshot: Arc<TopicSnapshot>,
    query: Mutex<Listed>,
    running: Arc<Query>,
    /// Closes it at the end of its time.
    _timer: Task,
}

impl OpenParts {
    /// What is open under a number.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: it was closed, or the node has been started again since.
    fn get(&self, part: u64) -> Result<Arc<OpenPart>, Error> {
        let gone = || Error::new(Code::Unavailable, format!("part {part} of a query is not open here any more"));
        self.open.lock().get(&part).cloned().ok_or_else(gone)
    }

    /// Keeps what `part` makes for its number.
    fn insert(&self, part: impl FnOnce(u64) -> OpenPart) -> Result<u64, Error> {
        let mut open = self.open.lock();
        if open.len() >= MAX_OPEN {
            let message = format!("{MAX_OPEN} parts of queries are open here, which is the most; ask again later");
            return Err(Error::new(Code::Overloaded, message));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(number, Arc::new(part(number)));
        Ok(number)
    }

    /// Lets go of a part, and ends what runs over it.
    pub(crate) fn close(&self, part: u64) {
        let Some(part) = self.open.lock().remove(&part) else { return };
        part.query.lock().ends(Outcome::Done);
        part.running.kill();
    }

    /// How many are open.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }
}

/// Takes the snapshot of a part and keeps it.
///
/// # Errors
/// [`Code::InvalidRequest`] for a request that is none, [`Code::Unavailable`] for a topic that this node does not know yet,
/// [`Code::Overloaded`]; what the catalogue reports.
pub(crate) async fn open(core: &Arc<Core>, request: internal::OpenPart) -> Result<internal::PartOpened, Error> {
    let topic = topic_of(core, &request)?;
    if request.shards.len() > MAX_SHARDS {
        return Err(Error::new(Code::InvalidRequest, format!("a part has at most {MAX_SHARDS} shards")));
    }
    let shards: Vec<ShardId> = request.shards.iter().copied().map(ShardId).collect();
    let token = |token: &internal::PartToken| Token { shard: ShardId(token.shard), index: RaftIndex(token.index) };
    let tokens: Vec<Token> = request.tokens.iter().map(token).collect();
    let text = format!("part of query {}: {}", request.query, request.text);
    let timeout = Duration::from_millis(request.timeout_ms.max(1));
    let query = core.arrived(None, &text, CLIENT.to_owned(), Some(timeout))?;
    let listed = core.queries.begin(query.clone())?;
    let snapshot = core.catalog.snapshot_of(&topic, &shards, &tokens, query.deadline());
    let mut snapshot = query.unless_stopped(snapshot).await??;
    snapshot.shards.sort_by_key(|shard| shard.shard);
    let snapshot = Arc::new(snapshot);
    query.meter.fence(&snapshot.clone().into());
    query.enter(Phase::Running);
    let mut opened = describe(&snapshot);
    let deadline = query.deadline();
    let close = |core: Arc<Core>, number| async move {
        tokio::time::sleep_until(deadline.into()).await;
        core.parts.close(number);
    };
    // Whoever asked may have gone by now: it ends by itself.
    opened.part = core.parts.insert(|number| OpenPart {
        snapshot,
        query: Mutex::new(listed),
        running: query,
        _timer: Task::beside(close(core.clone(), number)),
    })?;
    Ok(opened)
}

fn topic_of(core: &Core, request: &internal::OpenPart) -> Result<Arc<TopicInfo>, Error> {
    let id = TopicId::from_slice(&request.topic);
    let id = id.ok_or_else(|| Error::new(Code::InvalidRequest, "a part of a query names its topic by 16 bytes"))?;
    let found = core.catalog.topics().into_iter().find(|topic| topic.id == id);
    found.ok_or_else(|| Error::new(Code::Unavailable, format!("topic {id} is not known here, or not yet")))
}

/// What the node that asks needs to plan.
fn describe(snapshot: &TopicSnapshot) -> internal::PartOpened {
    let segments = || snapshot.shards.iter().flat_map(|shard| &shard.segments);
    let chunks = snapshot.shards.iter().flat_map(|shard| &shard.tail);
    let tail_rows: usize = chunks.map(|chunk| chunk.rows.num_rows()).sum();
    let sealed: u64 = segments().map(|segment| segment.meta.rows).sum();
    let fence = |shard: &crate::ShardSnapshot| internal::PartFence {
        shard: shard.shard.0,
        index: shard.fence.0,
        lag: shard.lag,
    };
    internal::PartOpened {
        part: 0,
        schema: ipc::encode_schema(&snapshot.schema),
        fences: snapshot.shards.iter().map(fence).collect(),
        version: snapshot.version,
        rows: sealed + tail_rows as u64,
        exact: sees_every_row(snapshot),
        segments: segments().count() as u64,
        tail_rows: tail_rows as u64,
        dead_letters: system::may_have_dead_rows(snapshot),
        time: written(ends(snapshot, names::TIME)),
        partition: written(ends(snapshot, names::PARTITION)),
        offset: written(ends(snapshot, names::OFFSET)),
    }
}

fn written(ends: Ends) -> Option<internal::PartEnds> {
    let number = |value: &ScalarValue| match value {
        ScalarValue::TimestampNanosecond(value, _) | ScalarValue::Int64(value) => *value,
        ScalarValue::Int32(value) => value.map(i64::from),
        _ => None,
    };
    match ends {
        Ends::Unknown => None,
        Ends::NoRows => Some(internal::PartEnds::default()),
        Ends::Values(least, greatest) => {
            Some(internal::PartEnds { least: Some(number(&least)?), greatest: Some(number(&greatest)?) })
        }
    }
}

/// Runs a plan over a part, or reads a table of the schema `system`. Sends the rows, then how it ended.
pub(crate) async fn run(core: Arc<Core>, request: internal::RunPart, frames: Frames) {
    use internal::run_part::What;
    let ran = match request.what {
        Some(What::Plan(plan)) => run_plan(&core, &plan, &frames).await,
        Some(What::System(table)) => run_system(&core, &table, &frames).await,
        Some(What::Kill(kill)) => match core.queries.kill(&kill.id) {
            Ok(()) => send_end(&frames, Bytes::new(), internal::PartEnd::default()).await,
            Err(error) => Err(error),
        },
        None => Err(Error::new(Code::InvalidRequest, "nothing was asked to be run")),
    };
    if let Err(error) = ran {
        // Who asked may have gone.
        let _ = frames.send(Err(error)).await;
    }
}

async fn run_plan(core: &Arc<Core>, request: &internal::PartPlan, frames: &Frames) -> Result<(), Error> {
    let part = core.parts.get(request.part)?;
    let query = part.running.clone();
    let _sharing = core.memory.share_with_one_more();
    let ran = query.unless_stopped(async {
        let (rows, counts) = start(core, &part, &request.plan)?;
        let rest = send_all(rows, frames).await?;
        let (peak_memory, spilled_bytes) = (query.memory.peak() as u64, query.spill.written());
        send_end(frames, rest, internal::PartEnd { peak_memory, spilled_bytes, ..counts.end() }).await
    });
    ran.await?.map_err(|error| query.error_or(error))
}

/// The rows of a plan over a part, in one stream and in the plan's order.
fn start(core: &Core, part: &OpenPart, plan: &[u8]) -> Result<(SendableRecordBatchStream, Counts), Error> {
    let state = core.session(Tables::default(), &part.running)?;
    let table = ScanTable {
        snapshot: part.snapshot.clone(),
        parts: Vec::new(),
        schema: part.snapshot.schema.clone(),
        meter: Arc::new(Meter::start()),
        indexes: core.indexes.clone(),
    };
    let partitions = state.config().target_partitions();
    let context = state.task_ctx();
    let (plan, counts) = codec::decode(plan, table, partitions, &context).map_err(from_datafusion)?;
    // The top-k of the part tells its scan what it does not need any more.
    let plan = FilterPushdown::new_post_optimization().optimize(plan, state.config_options());
    let rows = execute_stream(in_one_stream(plan.map_err(from_datafusion)?), context).map_err(from_datafusion)?;
    Ok((rows, counts))
}

fn in_one_stream(plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    match plan.output_ordering().cloned() {
        _ if plan.output_partitioning().partition_count() == 1 => plan,
        Some(ordering) => {
            let fetch = plan.fetch();
            Arc::new(SortPreservingMergeExec::new(ordering, plan).with_fetch(fetch))
        }
        None => Arc::new(CoalescePartitionsExec::new(plan)),
    }
}

/// Gives the end of the stream, which goes with the figures.
async fn send_all(mut rows: SendableRecordBatchStream, frames: &Frames) -> Result<Bytes, Error> {
    let mut encoder = Encoder::new(&rows.schema()).map_err(|error| from_datafusion(error.into()))?;
    while let Some(batch) = rows.next().await {
        send_batch(&mut encoder, &batch.map_err(from_datafusion)?, frames).await?;
    }
    encoder.finish().map_err(|error| from_datafusion(error.into()))
}

async fn send_batch(encoder: &mut Encoder, batch: &RecordBatch, frames: &Frames) -> Result<(), Error> {
    for body in encoder.frames(batch).map_err(|error| from_datafusion(error.into()))? {
        send(frames, PartBytes { body, ..PartBytes::default() }).await?;
    }
    Ok(())
}

async fn send_end(frames: &Frames, rest: Bytes, end: internal::PartEnd) -> Result<(), Error> {
    send(frames, PartBytes { frame: internal::PartFrame { end: Some(end) }, body: rest }).await
}

/// # Errors
/// [`Code::Cancelled`]: who asked has gone.
async fn send(frames: &Frames, frame: PartBytes) -> Result<(), Error> {
    frames.send(Ok(frame)).await.map_err(|_| Error::new(Code::Cancelled, "the node that asked has gone"))
}

async fn run_system(core: &Arc<Core>, request: &internal::SystemTable, frames: &Frames) -> Result<(), Error> {
    let batch = system::rows_here(core, &request.name)?;
    let mut encoder = Encoder::new(&batch.schema()).map_err(|error| from_datafusion(error.into()))?;
    send_batch(&mut encoder, &batch, frames).await?;
    let rest = encoder.finish().map_err(|error| from_datafusion(error.into()))?;
    send_end(frames, rest, internal::PartEnd { output_rows: batch.num_rows() as u64, ..internal::PartEnd::default() })
        .await
}
