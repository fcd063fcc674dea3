//! Which rows segments had that nobody can read any more: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::{Offset, PartitionId, TimeBucket};
use stratalog_storage::{OffsetRange, SegmentKind, SegmentMeta};

use crate::rows::merge::Offsets;

/// What the manifest says of the rows of lost segments.
#[derive(Debug, Default)]
pub(super) struct Lost {
    rows: u64,
    /// Of the segments of one time bucket, by its start and width.
    of_buckets: BTreeMap<(i64, i64), Spans>,
    widths: BTreeSet<i64>,
    /// Of mixed segments.
    mixed: Spans,
}

/// Offsets that segments may have rows at, by partition: ranges that do not touch, ascending.
#[derive(Debug, Default)]
struct Spans(BTreeMap<PartitionId, Vec<(Offset, Offset)>>);

impl Spans {
    fn add(&mut self, range: &OffsetRange) {
        self.0.entry(range.partition).or_default().push((range.first, range.next));
    }

    /// Joins what overlaps.
    fn settle(&mut self) {
        for ranges in self.0.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, before| {
                let joins = next.0 <= before.1;
                if joins {
                    before.1 = before.1.max(next.1);
                }
                joins
            });
        }
    }

    fn has(&self, partition: PartitionId, offset: Offset) -> bool {
        let Some(ranges) = self.0.get(&partition) else { return false };
        let at = ranges.partition_point(|(first, _)| *first <= offset);
        at.checked_sub(1).is_some_and(|at| offset < ranges[at].1)
    }

    fn overlaps(&self, range: &OffsetRange) -> bool {
        let ranges = self.0.get(&range.partition).map_or(&[][..], Vec::as_slice);
        ranges.iter().any(|(first, next)| *first < range.next && range.first < *next)
    }

    fn below(&self, starts: &BTreeMap<PartitionId, Offset>) -> u64 {
        let below = |(partition, ranges): (&PartitionId, &Vec<(Offset, Offset)>)| -> u64 {
            let start = starts.get(partition).copied().unwrap_or_default();
            ranges.iter().map(|(first, next)| start.min(*next).0.saturating_sub(first.0)).sum()
        };
        self.0.iter().map(below).sum()
    }
}

impl Lost {
    pub(super) fn of(segments: &[Arc<SegmentMeta>]) -> Self {
        let mut lost = Self::default();
        for meta in segments {
            lost.rows += meta.rows;
            let spans = match meta.kind {
                SegmentKind::Mixed => &mut lost.mixed,
                SegmentKind::Column => {
                    let (start, width) =
                        (meta.bucket.start_ns, meta.bucket.end_ns.saturating_sub(meta.bucket.start_ns));
                    lost.widths.insert(width);
                    lost.of_buckets.entry((start, width)).or_default()
                }
            };
            meta.ranges.iter().for_each(|range| spans.add(range));
        }
        lost.mixed.settle();
        lost.of_buckets.values_mut().for_each(Spans::settle);
        lost
    }

    /// How many rows they had.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether a row may have been in one of them: it was, unless another segment has it or had it.
    pub(super) fn may_have_had(&self, partition: PartitionId, offset: Offset, time_ns: i64) -> bool {
        let of_bucket = |width: &i64| {
            let start = TimeBucket::of(time_ns, (*width).max(1)).start_ns;
            self.of_buckets.get(&(start, *width)).is_some_and(|spans| spans.has(partition, offset))
        };
        self.mixed.has(partition, offset) || self.widths.iter().any(of_bucket)
    }

    /// Whether another segment may have rows at the same offsets.
    pub(super) fn overlaps(&self, other: &SegmentMeta) -> bool {
        let spans = || self.of_buckets.values().chain([&self.mixed]);
        other.ranges.iter().any(|range| spans().any(|spans| spans.overlaps(range)))
    }

    /// How many of their rows may lie below log start, at most, so that their records are gone.
    pub(super) fn below(&self, starts: &BTreeMap<PartitionId, Offset>) -> u64 {
        self.of_buckets.values().chain([&self.mixed]).map(|spans| spans.below(starts)).sum()
    }
}

/// Whether a place is among these.
pub(super) fn holds(offsets: &Offsets, partition: PartitionId, offset: Offset) -> bool {
    offsets.get(&partition).is_some_and(|of| of.contains(offset.0))
}
