//! Rows that are stored and not seen: those below log start, deleted records whose rows lie in a segment or chunk together
//! with others that are not, and those behind the end of what a snapshot shows.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{Array, AsArray, Int32Array, Int64Array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::common::{Result, exec_datafusion_err};
use stratalog_proto::{Offset, PartitionId};
use stratalog_storage::SegmentMeta;
use stratalog_storage::col::ColReader;

use crate::catalog::ShardSnapshot;
use crate::schema::names;

/// Where the partitions of a shard begin, as far as rows lie below; see
/// [`ShardSnapshot::log_starts`](crate::ShardSnapshot::log_starts).
pub(super) type LogStarts = BTreeMap<PartitionId, Offset>;

/// What is seen of the partitions of a shard.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    log_starts: &'a LogStarts,
    ends: Option<&'a LogStarts>,
}

impl<'a> Seen<'a> {
    pub(super) fn of(shard: &'a ShardSnapshot) -> Self {
        Self { log_starts: &shard.log_starts, ends: shard.ends.as_deref() }
    }

    /// Whether no row of the shard is hidden.
    pub(super) fn is_all(self) -> bool {
        self.log_starts.is_empty() && self.ends.is_none()
    }

    /// Whether a segment has rows that are hidden.
    pub(super) fn hides_rows_of(self, meta: &SegmentMeta) -> bool {
        meta.ranges.iter().any(|range| {
            let seen = self.offsets(range.partition);
            range.first.0 < seen.start || range.next.0 > seen.end
        })
    }

    /// The offsets of a partition whose rows are seen.
    fn offsets(self, partition: PartitionId) -> Range<u64> {
        let start = self.log_starts.get(&partition).map_or(0, |start| start.0);
        let end = |ends: &LogStarts| ends.get(&partition).map_or(0, |end| end.0);
        start..self.ends.map_or(u64::MAX, end)
    }
}

/// A bit for every row: whether it is seen.
///
/// # Errors
/// A negative partition or offset: the rows are not what a node writes.
pub(super) fn visible(seen: Seen<'_>, partitions: &Int32Array, offsets: &Int64Array) -> Result<BooleanBuffer> {
    let negative = || exec_datafusion_err!("a row has a negative partition or offset");
    // Rows of one partition mostly lie together: the last one that was looked up is remembered.
    let (mut known, mut within) = (None, 0..0);
    let mut bits = arrow::array::BooleanBufferBuilder::new(offsets.len());
    for (&partition, &offset) in partitions.values().iter().zip(offsets.values()) {
        if known != Some(partition) {
            let id = PartitionId(u32::try_from(partition).map_err(|_| negative())?);
            (known, within) = (Some(partition), seen.offsets(id));
        }
        bits.append(within.contains(&u64::try_from(offset).map_err(|_| negative())?));
    }
    Ok(bits.finish())
}

/// For each granule of a segment, whether it may have rows at or above log start.
pub(super) fn granules_with_rows(log_starts: &LogStarts, reader: &ColReader) -> Vec<bool> {
    let all = || vec![true; reader.granules()];
    let zone = |name: &str, of: fn(&ColReader, usize) -> arrow::array::ArrayRef| {
        reader.schema().index_of(name).ok().map(|column| of(reader, column))
    };
    let lowest = zone(names::PARTITION, ColReader::zone_min);
    let highest = zone(names::PARTITION, ColReader::zone_max);
    let last = zone(names::OFFSET, ColReader::zone_max);
    let (Some(lowest), Some(highest), Some(last)) = (lowest, highest, last) else { return all() };
    let partitions = (lowest.as_primitive_opt::<Int32Type>(), highest.as_primitive_opt::<Int32Type>());
    let ((Some(lowest), Some(highest)), Some(last)) = (partitions, last.as_primitive_opt::<Int64Type>()) else {
        return all();
    };
    let may_have = |granule: usize| {
        let known = lowest.is_valid(granule) && highest.is_valid(granule) && last.is_valid(granule);
        !known || !is_passed(log_starts, lowest.value(granule), highest.value(granule), last.value(granule))
    };
    (0..reader.granules()).map(may_have).collect()
}

/// Whether every partition from `lowest` to `highest` begins above the offset `last`.
fn is_passed(log_starts: &LogStarts, lowest: i32, highest: i32, last: i64) -> bool {
    let (Ok(lowest), Ok(highest), Ok(last)) = (u32::try_from(lowest), u32::try_from(highest), u64::try_from(last))
    else {
        return false;
    };
    if lowest > highest {
        return false;
    }
    let passed = log_starts.range(PartitionId(lowest)..=PartitionId(highest)).filter(|(_, start)| last < start.0);
    passed.count() as u64 == u64::from(highest - lowest) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(of: &[(u32, u64)]) -> LogStarts {
        of.iter().map(|(partition, offset)| (PartitionId(*partition), Offset(*offset))).collect()
    }

    #[test]
    fn rows_at_log_start_are_visible_and_those_below_are_not() {
        let partitions = Int32Array::from(vec![0, 0, 1, 1, 2, 0]);
        let offsets = Int64Array::from(vec![4, 5, 4, 5, 0, 6]);
        let log_starts = starts(&[(0, 5), (1, 6)]);
        let seen = Seen { log_starts: &log_starts, ends: None };
        let bits = visible(seen, &partitions, &offsets).unwrap();
        assert_eq!(bits.iter().collect::<Vec<_>>(), [false, true, false, false, true, true]);
        assert!(visible(seen, &Int32Array::from(vec![-1]), &Int64Array::from(vec![1])).is_err());
        assert!(visible(seen, &Int32Array::from(vec![0]), &Int64Array::from(vec![-1])).is_err());
        let ends = starts(&[(0, 6), (2, 0)]);
        let bits = visible(Seen { ends: Some(&ends), ..seen }, &partitions, &offsets).unwrap();
        assert_eq!(bits.iter().collect::<Vec<_>>(), [false, true, false, false, false, false]);
    }

    #[test]
    fn a_granule_is_passed_only_if_every_partition_of_it_begins_behind_it() {
        let starts = starts(&[(1, 10), (2, 10), (4, 10)]);
        let cases = [
            ((1, 2, 9), true),
            ((1, 1, 9), true),
            ((1, 2, 10), false),
            ((1, 4, 9), false),
            ((0, 2, 9), false),
            ((2, 1, 9), false),
            ((-1, 1, 9), false),
        ];
        for ((lowest, highest, last), expected) in cases {
            assert_eq!(is_passed(&starts, lowest, highest, last), expected, "{lowest}..={highest} up to {last}");
        }
    }
}
