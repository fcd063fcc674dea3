//! Which segments are to become one: pure plans over a manifest.
//!
//! Segments of a bucket are merged when there are [`FAN_IN`] of about the same size. What comes out is that many times
//! larger, so that a row is written once for each power of [`FAN_IN`] between the size of a seal and the largest merge.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use stratalog_proto::{Offset, PartitionId, SegmentId};
use stratalog_storage::{SegmentKind, SegmentMeta};

use super::output::MAX_BUCKETS;

/// Segments of about the same size that are worth a merge.
pub(super) const FAN_IN: usize = 4;
/// The most segments that become one at once.
const MAX_INPUTS: usize = 16;
/// Segments up to this size are all of the lowest level.
const LEAST_BYTES: u64 = 16 << 10;

/// How large a merge may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of all inputs.
    pub(super) bytes: u64,
    /// Rows of all inputs.
    pub(super) rows: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 20, rows: 8 << 20 }
    }
}

/// What a plan looks at.
pub(super) struct View<'a> {
    pub(super) segments: &'a [Arc<SegmentMeta>],
    pub(super) log_starts: &'a BTreeMap<PartitionId, Offset>,
    pub(super) bucket_ns: u64,
    /// Segments that were tried and are better left alone.
    pub(super) put_aside: &'a HashSet<SegmentId>,
    pub(super) limits: Limits,
}

/// A bucket's segments of one kind.
type Groups<'a> = BTreeMap<(i64, i64, u32), Vec<&'a Arc<SegmentMeta>>>;

impl View<'_> {
    /// The next merge that pays; `None` if nothing has to be done. `to_the_end`: whatever makes fewer segments, or gets rid
    /// of rows that nobody sees.
    pub(super) fn next(&self, to_the_end: bool) -> Option<Vec<Arc<SegmentMeta>>> {
        let free = || self.segments.iter().filter(|meta| !self.put_aside.contains(&meta.id));
        let (columns, mixed): (Vec<_>, Vec<_>) = free().partition(|meta| meta.kind == SegmentKind::Column);
        let straddler = free().find(|meta| self.is_mostly_passed(meta, to_the_end));
        let splits = mixed.iter().find(|meta| to_the_end || self.splits_whole(meta));
        let alone = straddler.or(splits.copied()).map(|meta| vec![meta]);
        let inputs = alone.or_else(|| self.of_one_size(&mixed, 1)).or_else(|| match to_the_end {
            true => self.whatever_fits(&columns),
            false => self.of_one_size(&columns, 0),
        });
        inputs.map(|inputs| inputs.into_iter().cloned().collect())
    }

    /// Whether at least half of a segment's offsets lie below log start; any, `to_the_end`. As many of its rows as a range
    /// is dense.
    fn is_mostly_passed(&self, meta: &SegmentMeta, to_the_end: bool) -> bool {
        let (mut passed, mut all) = (0, 0);
        for range in &meta.ranges {
            let start = self.log_starts.get(&range.partition).copied().unwrap_or_default();
            passed += start.0.clamp(range.first.0, range.next.0) - range.first.0;
            all += range.next.0 - range.first.0;
        }
        passed > 0 && (to_the_end || passed >= all - passed)
    }

    /// Whether the rows of a mixed segment are of so few buckets that none is left over.
    fn splits_whole(&self, meta: &SegmentMeta) -> bool {
        let width = i128::from(self.bucket_ns.max(1));
        let bucket = |time_ns: i64| i128::from(time_ns).div_euclid(width);
        bucket(meta.max_time_ns) - bucket(meta.min_time_ns) < MAX_BUCKETS as i128
    }

    /// Segments of one level, of one bucket unless they are mixed; of the lowest level, then the oldest bucket, there is
    /// one of.
    fn of_one_size<'a>(&self, metas: &[&'a Arc<SegmentMeta>], mixed: u8) -> Option<Vec<&'a Arc<SegmentMeta>>> {
        let mut groups = Groups::new();
        for meta in metas {
            let (start, end) = if mixed == 1 { (0, 0) } else { (meta.bucket.start_ns, meta.bucket.end_ns) };
            groups.entry((start, end, level(meta.bytes))).or_default().push(meta);
        }
        let mut full: Vec<_> = groups.into_iter().filter(|(_, group)| group.len() >= FAN_IN).collect();
        full.sort_by_key(|((start, _, level), _)| (*level, *start));
        full.into_iter().map(|(_, group)| self.cut(group)).find(|group| group.len() >= FAN_IN)
    }

    /// The segments of one bucket that become one within the limits, if any do.
    fn whatever_fits<'a>(&self, metas: &[&'a Arc<SegmentMeta>]) -> Option<Vec<&'a Arc<SegmentMeta>>> {
        let mut groups = Groups::new();
        for meta in metas {
            groups.entry((meta.bucket.start_ns, meta.bucket.end_ns, 0)).or_default().push(meta);
        }
        groups.into_values().map(|group| self.cut(group)).find(|group| group.len() > 1)
    }

    /// As many as the limits allow, the smallest first.
    fn cut<'a>(&self, mut group: Vec<&'a Arc<SegmentMeta>>) -> Vec<&'a Arc<SegmentMeta>> {
        group.sort_by_key(|meta| (meta.bytes, meta.id));
        let (mut bytes, mut rows) = (0_u64, 0_u64);
        let fits = |meta: &&Arc<SegmentMeta>| {
            (bytes, rows) = (bytes.saturating_add(meta.bytes), rows.saturating_add(meta.rows));
            bytes <= self.limits.bytes && rows <= self.limits.rows
        };
        group.into_iter().take(MAX_INPUTS).take_while(fits).collect()
    }
}

/// Sizes of one level differ by a factor of [`FAN_IN`] at most.
fn level(bytes: u64) -> u32 {
    (bytes / LEAST_BYTES).checked_ilog(FAN_IN as u64).map_or(0, |log| log + 1)
}

#[cfg(test)]
mod tests;
