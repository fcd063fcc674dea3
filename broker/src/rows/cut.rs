//! Chunks of the tail in which a row frontier lies.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type};
use stratalog_proto::{Offset, PartitionId, RaftIndex};
use stratalog_query::TailChunk;
use stratalog_storage::col::system;

use super::extent::Sealed;

/// The rows of a chunk that are in no column segment; `None` if all are. A seal takes whole chunks, so that there is something
/// to cut only where somebody else has moved the row frontier.
pub(super) fn cut(chunk: &Arc<TailChunk>, sealed: &Sealed) -> Option<Arc<TailChunk>> {
    if chunk.first_index > sealed.row_frontier {
        return Some(chunk.clone());
    }
    if chunk.last_index <= sealed.row_frontier {
        return None;
    }
    let offsets = column(chunk, system::OFFSET).as_primitive::<Int64Type>().values();
    let places = partitions(chunk).zip(offsets);
    let stays: BooleanArray =
        places.map(|(partition, offset)| Some(!sealed.has(partition, Offset(*offset as u64)))).collect();
    if stays.true_count() == 0 {
        return None;
    }
    let rows = filter_record_batch(&chunk.rows, &stays).expect("there is a mark for each row");
    // Its rows lie above the row frontier, one by one.
    let first_index = RaftIndex(sealed.row_frontier.0 + 1);
    Some(Arc::new(TailChunk::new(first_index, chunk.last_index, rows)))
}

/// How many rows of each partition chunks have.
pub(super) fn rows_by_partition(chunks: &[Arc<TailChunk>]) -> BTreeMap<PartitionId, u64> {
    let mut rows = BTreeMap::new();
    chunks.iter().flat_map(|chunk| partitions(chunk)).for_each(|partition| *rows.entry(partition).or_default() += 1);
    rows
}

fn partitions(chunk: &TailChunk) -> impl Iterator<Item = PartitionId> {
    let partitions = column(chunk, system::PARTITION).as_primitive::<Int32Type>().values();
    partitions.iter().map(|partition| PartitionId(*partition as u32))
}

fn column<'a>(chunk: &'a TailChunk, name: &str) -> &'a ArrayRef {
    chunk.rows.column_by_name(name).expect("a chunk has every system column")
}
