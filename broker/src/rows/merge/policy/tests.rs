use proptest::prelude::*;
use stratalog_proto::{TimeBucket, TopicId};
use stratalog_storage::OffsetRange;

use super::*;

const HOUR: i64 = 3_600_000_000_000;
const MIB: u64 = 1 << 20;

fn segment(hour: i64, bytes: u64) -> SegmentMeta {
    let bucket = TimeBucket::of(hour * HOUR, HOUR);
    SegmentMeta {
        id: SegmentId::new(),
        topic: TopicId::new(),
        kind: SegmentKind::Column,
        bucket,
        min_time_ns: bucket.start_ns,
        max_time_ns: bucket.start_ns,
        max_ingested_ns: 0,
        rows: 100,
        dead_rows: 0,
        bytes,
        ranges: vec![OffsetRange { partition: PartitionId(0), first: Offset(100), next: Offset(200) }],
        blake3: [0; 32],
        analyzer_version: 1,
    }
}

fn mixed(hours: i64, bytes: u64) -> SegmentMeta {
    let column = segment(hours, bytes);
    SegmentMeta { kind: SegmentKind::Mixed, min_time_ns: 0, ..column }
}

fn next(segments: &[SegmentMeta], log_start: u64, to_the_end: bool, put_aside: &[SegmentId]) -> Option<Vec<SegmentId>> {
    let segments: Vec<_> = segments.iter().cloned().map(Arc::new).collect();
    let view = View {
        segments: &segments,
        log_starts: &BTreeMap::from([(PartitionId(0), Offset(log_start))]),
        bucket_ns: HOUR as u64,
        put_aside: &put_aside.iter().copied().collect(),
        limits: Limits { bytes: 64 * MIB, rows: 10_000 },
    };
    view.next(to_the_end).map(|inputs| inputs.iter().map(|meta| meta.id).collect())
}

fn of(segments: &[SegmentMeta], which: &[usize]) -> Option<Vec<SegmentId>> {
    Some(which.iter().map(|at| segments[*at].id).collect())
}

#[test]
fn four_of_one_bucket_and_size_are_merged_and_fewer_are_not() {
    let segments = [1, 1, 1, 2].map(|hour| segment(hour, MIB));
    assert_eq!(next(&segments, 0, false, &[]), None, "never across buckets");
    let sizes = [MIB, MIB, MIB, 8 * MIB].map(|bytes| segment(1, bytes));
    assert_eq!(next(&sizes, 0, false, &[]), None, "never a large one with small ones");
    let four = [MIB, 2 * MIB, 3 * MIB, MIB + 1].map(|bytes| segment(1, bytes));
    assert_eq!(next(&four, 0, false, &[]), of(&four, &[0, 3, 1, 2]), "the smallest first");
    assert_eq!(next(&four, 0, false, &[four[0].id]), None, "what was put aside stays so");
}

#[test]
fn a_merge_is_bounded() {
    let large = [17, 17, 17, 17].map(|mib| segment(1, mib * MIB));
    assert_eq!(next(&large, 0, false, &[]), None, "by bytes");
    let long: Vec<_> = (0..6).map(|_| SegmentMeta { rows: 2_000, ..segment(1, MIB) }).collect();
    assert_eq!(next(&long, 0, false, &[]).unwrap().len(), 5, "by rows");
    let many: Vec<_> = (0..40).map(|_| segment(1, 20_000)).collect();
    assert_eq!(next(&many, 0, false, &[]).unwrap().len(), MAX_INPUTS, "by inputs");
}

#[test]
fn a_segment_of_which_log_start_has_passed_half_is_rewritten() {
    let segments = [segment(1, MIB)];
    assert_eq!(next(&segments, 149, false, &[]), None);
    assert_eq!(next(&segments, 150, false, &[]), of(&segments, &[0]));
    assert_eq!((next(&segments, 100, true, &[]), next(&segments, 101, true, &[])), (None, of(&segments, &[0])));
}

#[test]
fn mixed_segments_are_split_whole_or_a_few_at_once() {
    let few_buckets = [mixed(31, MIB)];
    assert_eq!(next(&few_buckets, 0, false, &[]), of(&few_buckets, &[0]));
    let many_buckets = [32, 50, 60, 70].map(|hours| mixed(hours, MIB));
    assert_eq!(next(&many_buckets[..3], 0, false, &[]), None);
    assert_eq!(next(&many_buckets, 0, false, &[]).unwrap().len(), 4);
    assert_eq!(next(&many_buckets[..1], 0, true, &[]), of(&many_buckets, &[0]));
}

#[test]
fn to_the_end_a_bucket_has_as_few_as_fit() {
    let segments = [segment(1, MIB), segment(1, 60 * MIB), segment(2, MIB), segment(1, 10 * MIB)];
    assert_eq!(next(&segments, 0, false, &[]), None);
    assert_eq!(next(&segments, 0, true, &[]), of(&segments, &[0, 3]));
    assert_eq!(next(&segments[1..], 0, true, &[]), None, "the two do not fit together");
}

proptest! {
    /// However seals come, a bucket keeps few segments, and a row is written once for each power of [`FAN_IN`] at most.
    #[test]
    fn segments_stay_few_and_write_amplification_logarithmic(sizes in prop::collection::vec(20_000..200_000_u64, 1..300)) {
        let (mut live, mut written, total) = (Vec::<SegmentMeta>::new(), 0_u64, sizes.iter().sum::<u64>());
        for size in sizes {
            live.push(segment(1, size));
            while let Some(ids) = next(&live, 0, false, &[]) {
                prop_assert!(ids.len() >= FAN_IN);
                let (inputs, rest): (Vec<_>, Vec<_>) = live.into_iter().partition(|meta| ids.contains(&meta.id));
                let bytes: u64 = inputs.iter().map(|meta| meta.bytes).sum();
                live = rest;
                live.push(SegmentMeta { rows: 1, ..segment(1, bytes) });
                written += bytes;
            }
        }
        let levels = u64::from(level(64 * MIB)) + 1;
        prop_assert!(live.len() as u64 <= FAN_IN as u64 * levels, "{} segments", live.len());
        prop_assert!(written <= total * levels, "{written} of {total}");
    }
}
