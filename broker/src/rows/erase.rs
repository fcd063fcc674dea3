//! What erasing asks of rows: the rows of a segment or of batches as something to ask a condition of, and segments
//! without some of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::AsArray;
use arrow::datatypes::{Field, Int32Type, Int64Type, Schema};
use bytes::Bytes;
use stratalog_proto::config::ColumnSpec;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, ShardId};
use stratalog_query::{RawRecords, ShardSnapshot, TailChunk, TopicInfo, TopicSnapshot, merge_schemas};
use stratalog_storage::col::{ColReader, system};
use stratalog_storage::{ErasedOffsets, SegmentHandle};

use super::merge::Edit;
use super::parse::{column_type, empty_schema, parse};
use super::runtime::{CATCH_UP, Rows};
use crate::shard::AppliedBatch;

/// A row, by where its record is.
pub(crate) type Position = (PartitionId, Offset);

impl Rows {
    /// Waits until the rows of all that is applied in a shard now are seen.
    ///
    /// # Errors
    /// [`Code::Timeout`]: they are still being made.
    pub(crate) async fn caught_up_in(&self, shard: ShardId) -> Result<(), Error> {
        self.replicas.led_in(shard)?.caught_up(Instant::now() + CATCH_UP).await
    }

    /// The live column segments of a topic in a shard, each with its file, which stays while this is held.
    ///
    /// # Errors
    /// [`Code::NotLeader`] for a shard that is not led here.
    pub(crate) fn segments_in(&self, shard: ShardId, topic: &TopicInfo) -> Result<Vec<Arc<SegmentHandle>>, Error> {
        let shard = self.replicas.led_in(shard)?;
        Ok(shard.files.resolve(|| (shard.segments(topic.id), ())).0)
    }

    /// Rewrites those of the segments that have rows at any of the offsets; how many rows were erased.
    ///
    /// # Errors
    /// [`Code::Conflict`] if one of them is no longer live: look again. Those of reading, writing and proposing.
    pub(crate) async fn erase_in(
        &self,
        shard: ShardId,
        topic: &TopicInfo,
        segment: &Arc<SegmentHandle>,
        erased: &Arc<ErasedOffsets>,
    ) -> Result<u64, Error> {
        let shard = self.replicas.led_in(shard)?;
        let (handle, offsets, id) = (Arc::clone(segment), Arc::clone(erased), topic.id);
        let held = move || holds_any(&handle, |at| offsets.contains(id, at.0, at.1));
        if !blocking(held).await? {
            return Ok(0);
        }
        let of_topic = erased.iter().filter(|((of, _), _)| *of == topic.id);
        let erase = of_topic.map(|((_, partition), offsets)| (partition, offsets.clone())).collect();
        let edit = Edit { erase, ..Edit::default() };
        let inputs = [Arc::clone(&segment.meta)];
        Ok(self.merger.rewrite(&shard, topic.id, &inputs, edit).await?.erased)
    }

    /// Has segment files of a shard that no manifest names be looked for, and collected, soon.
    pub(crate) fn suspect_garbage(&self, shard: ShardId) {
        if let Some(replica) = self.replicas.get(shard) {
            replica.garbage.suspect();
        }
    }
}

/// The rows of one segment below the `ends` of their partitions: those below log start, too, whose bytes are still there.
/// Opens the segment: blocks.
///
/// # Errors
/// Those of opening it.
pub(crate) fn rows_of_segment(
    topic: &Arc<TopicInfo>,
    shard: ShardId,
    segment: &Arc<SegmentHandle>,
    ends: &Arc<BTreeMap<PartitionId, Offset>>,
) -> Result<TopicSnapshot, Error> {
    let schema = merge_schemas([&*empty_schema(), &**segment.reader()?.schema()]);
    let mut snapshot = snapshot(shard, vec![Arc::clone(segment)], Vec::new());
    snapshot.ends = Some(Arc::clone(ends));
    Ok(TopicSnapshot { topic: Arc::clone(topic), schema, version: 0, shards: vec![snapshot] })
}

/// The columns of a schema that are no system columns, as a command carries them.
///
/// # Errors
/// [`Code::Internal`] for a type that no column of a topic has.
pub(crate) fn column_specs(schema: &Schema) -> Result<Vec<ColumnSpec>, Error> {
    let user = schema.fields().iter().filter(|field| !system::is_system(field.name()));
    let spec = |field: &Arc<Field>| {
        let (name, data_type) = (field.name().clone(), field.data_type());
        let message = format!("column `{name}` is of type {data_type}, which no topic has: a defect");
        let column_type = column_type(data_type).ok_or_else(|| Error::new(Code::Internal, message))?;
        Ok(ColumnSpec { name, column_type, required: false })
    };
    user.map(spec).collect()
}

/// The rows of batches of a topic by its settings of now, and where they are. Takes long: blocks.
pub(crate) fn rows_of_batches(
    topic: &Arc<TopicInfo>,
    shard: ShardId,
    batches: &[AppliedBatch],
) -> (TopicSnapshot, Vec<Position>) {
    let chunks: Vec<Arc<TailChunk>> = parse(&topic.config, batches).chunks.into_iter().map(Arc::new).collect();
    let positions = chunks.iter().flat_map(|chunk| {
        let column = |name| chunk.rows.column_by_name(name).expect("a chunk has all system columns");
        let (partitions, offsets) = (column(system::PARTITION), column(system::OFFSET));
        let pairs =
            partitions.as_primitive::<Int32Type>().values().iter().zip(offsets.as_primitive::<Int64Type>().values());
        pairs.map(|(partition, offset)| position(*partition, *offset)).collect::<Vec<_>>()
    });
    let positions = positions.collect();
    let schemas: Vec<_> = chunks.iter().map(|chunk| chunk.rows.schema()).chain([empty_schema()]).collect();
    let schema = merge_schemas(schemas.iter().map(|schema| &**schema));
    let snapshot = snapshot(shard, Vec::new(), chunks);
    (TopicSnapshot { topic: Arc::clone(topic), schema, version: 0, shards: vec![snapshot] }, positions)
}

fn snapshot(shard: ShardId, segments: Vec<Arc<SegmentHandle>>, tail: Vec<Arc<TailChunk>>) -> ShardSnapshot {
    let (log_starts, raw) = (Arc::new(BTreeMap::new()), Arc::new(NoRaw));
    ShardSnapshot { shard, fence: RaftIndex(u64::MAX), lag: 0, segments, tail, log_starts, ends: None, raw }
}

/// Whether a segment has a row that is meant. Blocks.
fn holds_any(segment: &SegmentHandle, is_meant: impl Fn(Position) -> bool) -> Result<bool, Error> {
    let reader = segment.reader()?;
    for granule in 0..reader.granules() {
        if places(&reader, granule)?.into_iter().any(&is_meant) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The places of a granule's rows.
pub(super) fn places(reader: &ColReader, granule: usize) -> Result<Vec<Position>, Error> {
    let column = |name| reader.schema().index_of(name).expect("a segment has every system column");
    let partitions = reader.read(column(system::PARTITION), granule)?;
    let offsets = reader.read(column(system::OFFSET), granule)?;
    let pairs =
        partitions.as_primitive::<Int32Type>().values().iter().zip(offsets.as_primitive::<Int64Type>().values());
    Ok(pairs.map(|(partition, offset)| position(*partition, *offset)).collect())
}

fn position(partition: i32, offset: i64) -> Position {
    (PartitionId(partition as u32), Offset(offset as u64))
}

/// A condition that says what to erase names no `_raw`.
struct NoRaw;

impl RawRecords for NoRaw {
    fn raw(&self, _: &[Position]) -> Result<Vec<Option<Bytes>>, Error> {
        Err(Error::new(Code::Internal, "`_raw` is not read to erase records: a defect"))
    }
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a step of an erasure failed: {panic}"))))
}
