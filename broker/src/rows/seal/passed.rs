//! Records that were deleted before rows were made of them: a seal counts their offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use stratalog_proto::PartitionId;
use stratalog_query::TailChunk;
use stratalog_storage::col::system;

use crate::rows::tail::Capture;
use crate::shard::Passed;

/// Adds the offsets of which no row was made, since log start has passed them, to those without a row (S1). Where
/// the tail has rows of deleted records, these are sealed and count as rows.
pub(super) fn count_passed(captured: &mut Capture, passed: &BTreeMap<PartitionId, Passed>) {
    for (partition, passed) in passed {
        let Some(end) = passed.end.or_else(|| captured.ends.get(partition).copied()) else { continue };
        let rowless = captured.rowless.get(partition).copied().unwrap_or(0);
        let known = rows_of(&captured.chunks, *partition) + rowless;
        // What is missing beyond that is no deletion: the seal is refused for it, and says so.
        let missing = end.0.saturating_sub(passed.sealed.0).saturating_sub(known).min(passed.most(end));
        if missing > 0 {
            captured.rowless.insert(*partition, rowless + missing);
        }
        if end > passed.sealed {
            captured.ends.insert(*partition, end);
        }
    }
}

fn rows_of(chunks: &[Arc<TailChunk>], partition: PartitionId) -> u64 {
    let in_chunk = |chunk: &Arc<TailChunk>| {
        let partitions = chunk.rows.column_by_name(system::PARTITION)?.as_primitive_opt::<Int32Type>()?;
        Some(partitions.values().iter().filter(|found| i64::from(**found) == i64::from(partition.0)).count() as u64)
    };
    chunks.iter().filter_map(in_chunk).sum()
}
