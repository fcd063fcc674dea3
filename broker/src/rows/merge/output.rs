//! Which rows become which segment.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use stratalog_proto::TimeBucket;
use stratalog_storage::SegmentKind;

use super::order::{Ordered, Place};

/// The most segments of one time bucket that a merge makes; the rows of all other buckets become one mixed segment.
pub(super) const MAX_BUCKETS: usize = 32;

/// The rows of one segment.
#[derive(Debug, PartialEq)]
pub(super) struct Output {
    pub(super) kind: SegmentKind,
    /// The bucket of all rows; of a mixed segment, the newest row's.
    pub(super) bucket: TimeBucket,
    pub(super) ranges: Vec<Range<usize>>,
}

impl Output {
    /// Its rows in their order.
    pub(super) fn places(&self, ordered: &Ordered) -> Vec<Place> {
        self.ranges.iter().flat_map(|range| &ordered.places[range.clone()]).copied().collect()
    }
}

/// One segment for each of the [`MAX_BUCKETS`] fullest buckets, and one mixed one for the others.
pub(super) fn outputs(ordered: &Ordered) -> Vec<Output> {
    let mut by_bucket: BTreeMap<(i64, i64), Vec<Range<usize>>> = BTreeMap::new();
    for (bucket, range) in &ordered.runs {
        by_bucket.entry((bucket.start_ns, bucket.end_ns)).or_default().push(range.clone());
    }
    let rows = |ranges: &[Range<usize>]| ranges.iter().map(Range::len).sum::<usize>();
    let mut buckets: Vec<_> = by_bucket.into_iter().collect();
    let mut mixed = Vec::new();
    if buckets.len() > MAX_BUCKETS {
        buckets.sort_by_key(|((start, _), ranges)| (Reverse(rows(ranges)), Reverse(*start)));
        mixed = buckets.split_off(MAX_BUCKETS);
        buckets.sort_by_key(|(bucket, _)| *bucket);
        mixed.sort_by_key(|(bucket, _)| *bucket);
    }
    let bucket = |(start_ns, end_ns)| TimeBucket { start_ns, end_ns };
    let of_bucket = |(at, ranges)| Output { kind: SegmentKind::Column, bucket: bucket(at), ranges };
    let mut outputs: Vec<Output> = buckets.into_iter().map(of_bucket).collect();
    if let Some((newest, _)) = mixed.last() {
        let bucket = bucket(*newest);
        let mut ranges: Vec<_> = mixed.into_iter().flat_map(|(_, ranges)| ranges).collect();
        ranges.sort_by_key(|range| range.start);
        outputs.push(Output { kind: SegmentKind::Mixed, bucket, ranges });
    }
    outputs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn s1_each_row_is_in_one_output_and_a_mixed_one_takes_the_smallest_buckets(
            lengths in prop::collection::vec(1..20_usize, 0..80),
        ) {
            let mut at = 0;
            let mut ordered = Ordered::default();
            for (number, length) in lengths.iter().enumerate() {
                let start_ns = number as i64 * 10;
                ordered.runs.push((TimeBucket { start_ns, end_ns: start_ns + 10 }, at..at + length));
                at += length;
            }
            ordered.places = (0..at as u32).map(|row| Place { input: 0, row }).collect();
            let outputs = outputs(&ordered);
            let mut rows: Vec<u32> =
                outputs.iter().flat_map(|output| output.places(&ordered)).map(|place| place.row).collect();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..at as u32).collect::<Vec<_>>());
            prop_assert_eq!(outputs.len(), lengths.len().min(MAX_BUCKETS + 1));
            let mixed = outputs.iter().find(|output| output.kind == SegmentKind::Mixed);
            if let Some(mixed) = mixed {
                let largest = mixed.ranges.iter().map(Range::len).max().unwrap();
                let columns = outputs.iter().filter(|output| output.kind == SegmentKind::Column);
                prop_assert!(columns.map(|output| output.ranges[0].len()).min().unwrap() >= largest);
                prop_assert!(mixed.ranges.is_sorted_by_key(|range| range.start));
            }
        }
    }
}
