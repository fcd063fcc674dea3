//! Replay segments and the replay frontier.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rec::{ErasedOffsets, RecRange, RecTopicMeta};

/// A range of ten offsets a step: partition `p` of a segment that ends at entry `through`.
fn range(partition: u32, through: u64) -> RecRange {
    RecRange {
        partition: PartitionId(partition),
        first: Offset(through * 10 - 10),
        next: Offset(through * 10),
        bytes: 100,
        max_timestamp_ms: through as i64,
    }
}

pub(super) fn rec(number: u8, after: u64, through: u64, topics: &[(TopicId, &[u32])]) -> RecMeta {
    let topic = |(topic, partitions): &(TopicId, &[u32])| RecTopicMeta {
        topic: *topic,
        ranges: partitions.iter().map(|partition| range(*partition, through)).collect(),
    };
    RecMeta {
        id: segment_id(number),
        after: RaftIndex(after),
        through: RaftIndex(through),
        bytes: 10_000,
        blake3: [number; 32],
        max_entry_time_ns: 0,
        topics: topics.iter().map(topic).collect(),
    }
}

pub(super) fn roll(expect: u64, next: u64, segments: &[RecMeta]) -> internal::Roll {
    internal::Roll { expect, next, segments: segments.iter().map(internal::RecMeta::from).collect() }
}

fn repack(remove: u8, add: Option<&RecMeta>) -> internal::Repack {
    internal::Repack {
        remove: segment_id(remove).to_bytes(),
        add: add.map(internal::RecMeta::from),
        erased: Vec::new(),
    }
}

/// Three rolls: both topics packed, then one file each, then topic one alone.
fn rolled() -> Manifest {
    let mut manifest = Manifest::default();
    manifest.roll(&roll(0, 10, &[rec(3, 0, 10, &[(TOPIC, &[0, 1]), (OTHER_TOPIC, &[0])])])).unwrap();
    manifest.roll(&roll(10, 20, &[rec(2, 10, 20, &[(OTHER_TOPIC, &[0])]), rec(1, 10, 20, &[(TOPIC, &[1])])])).unwrap();
    manifest.roll(&roll(20, 30, &[rec(4, 20, 30, &[(TOPIC, &[0, 1])])])).unwrap();
    manifest
}

fn ids<'a>(recs: impl IntoIterator<Item = &'a Arc<RecMeta>>) -> Vec<u128> {
    recs.into_iter().map(|meta| meta.id.0.as_u128()).collect()
}

/// Applies a change that has to be rejected, and checks that nothing changed.
fn rejected(manifest: &Manifest, change: impl FnOnce(&mut Manifest) -> RollRejected) -> RollRejected {
    let mut changed = manifest.clone();
    let error = change(&mut changed);
    assert_eq!(changed, *manifest, "S2: what was rejected changes nothing");
    error
}

fn rejected_roll(manifest: &Manifest, roll: &internal::Roll) -> RollRejected {
    rejected(manifest, |manifest| manifest.roll(roll).unwrap_err())
}

fn rejected_repack(manifest: &Manifest, repack: &internal::Repack) -> RollRejected {
    rejected(manifest, |manifest| manifest.repack(repack).unwrap_err())
}

#[test]
fn rolls_move_the_frontier_and_segments_ascend() {
    let manifest = rolled();
    assert_eq!((manifest.replay_frontier(), manifest.version()), (RaftIndex(30), 3));
    assert_eq!(ids(manifest.recs()), [3, 1, 2, 4]);
    assert_eq!(ids(manifest.recs_of(TOPIC)), [3, 1, 4]);
    assert_eq!(ids(manifest.recs_of(OTHER_TOPIC)), [3, 2]);
    assert_eq!(ids(manifest.recs_after(RaftIndex(9))), [3, 1, 2, 4]);
    assert_eq!(ids(manifest.recs_after(RaftIndex(10))), [1, 2, 4]);
    assert!(manifest.recs_after(RaftIndex(30)).is_empty());
    assert_eq!(manifest.rec(segment_id(2)).unwrap().through, RaftIndex(20));
}

#[test]
fn s2_a_roll_retried_after_failover_is_ignored() {
    let manifest = rolled();
    let stale = RollRejected::Stale { expect: RaftIndex(20), frontier: RaftIndex(30) };
    assert_eq!(rejected_roll(&manifest, &roll(20, 30, &[rec(4, 20, 30, &[(TOPIC, &[0])])])), stale);
    assert_eq!(rejected_roll(&manifest, &roll(20, 40, &[rec(9, 20, 40, &[(TOPIC, &[0])])])), stale);
    assert!(matches!(rejected_roll(&manifest, &roll(30, 30, &[])), RollRejected::Backwards { .. }));
    let ahead = RollRejected::Stale { expect: RaftIndex(31), frontier: RaftIndex(30) };
    assert_eq!(rejected_roll(&manifest, &roll(31, 40, &[])), ahead);
}

#[test]
fn s2_a_roll_with_a_segment_that_does_not_fit_is_rejected_whole() {
    let manifest = rolled();
    let fits = || rec(8, 30, 40, &[(OTHER_TOPIC, &[0])]);
    for (after, through) in [(29, 40), (30, 41), (10, 20)] {
        let outside = rec(9, after, through, &[(TOPIC, &[0])]);
        let error = rejected_roll(&manifest, &roll(30, 40, &[fits(), outside]));
        assert!(matches!(error, RollRejected::Outside { segment, .. } if segment == segment_id(9)));
    }
    let live = rejected_roll(&manifest, &roll(30, 40, &[fits(), rec(4, 30, 40, &[(TOPIC, &[0])])]));
    assert_eq!(live, RollRejected::Duplicate(segment_id(4)));
    let twice = rejected_roll(&manifest, &roll(30, 40, &[fits(), rec(8, 30, 40, &[(TOPIC, &[0])])]));
    assert_eq!(twice, RollRejected::Duplicate(segment_id(8)));
    let topic = rejected_roll(&manifest, &roll(30, 40, &[fits(), rec(9, 30, 40, &[(OTHER_TOPIC, &[1])])]));
    assert_eq!(topic, RollRejected::TopicTwice(OTHER_TOPIC));
    let mut newer = roll(30, 40, &[fits()]);
    newer.segments[0].location = 7;
    assert!(matches!(rejected_roll(&manifest, &newer), RollRejected::Malformed(_)));
}

#[test]
fn a_roll_without_batches_moves_the_frontier() {
    let mut manifest = rolled();
    manifest.roll(&roll(30, 35, &[])).unwrap();
    assert_eq!((manifest.replay_frontier(), manifest.recs().len()), (RaftIndex(35), 4));
}

#[test]
fn the_segment_with_an_offset_is_found_where_others_lack_the_partition() {
    let manifest = rolled();
    let found = |topic, partition, offset| {
        manifest.rec_with(topic, PartitionId(partition), Offset(offset)).map(|meta| meta.id.0.as_u128())
    };
    assert_eq!([90, 99, 190, 199, 290, 299].map(|offset| found(TOPIC, 1, offset)), [3, 3, 1, 1, 4, 4].map(Some));
    assert_eq!([90, 290, 299].map(|offset| found(TOPIC, 0, offset)), [3, 4, 4].map(Some));
    assert_eq!([89, 100, 150, 199, 300].map(|offset| found(TOPIC, 0, offset)), [None; 5]);
    assert_eq!((found(OTHER_TOPIC, 0, 195), found(OTHER_TOPIC, 1, 195)), (Some(2), None));
    assert_eq!(found(TopicId(Uuid::from_u128(3)), 0, 0), None);
}

#[test]
fn a_repack_replaces_a_segment_by_a_part_of_it() {
    let mut manifest = rolled();
    let part = rec(9, 0, 10, &[(TOPIC, &[1])]);
    let removed = manifest.repack(&repack(3, Some(&part))).unwrap();
    assert_eq!(removed.id, segment_id(3));
    assert_eq!((ids(manifest.recs()), ids(manifest.recs_of(TOPIC))), (vec![9, 1, 2, 4], vec![9, 1, 4]));
    assert_eq!(ids(manifest.recs_of(OTHER_TOPIC)), [2]);
    assert_eq!(manifest.replay_frontier(), RaftIndex(30));
    assert_eq!(rejected_repack(&manifest, &repack(3, Some(&part))), RollRejected::NotLive(segment_id(3)));

    manifest.repack(&repack(2, None)).unwrap();
    let nothing = internal::Repack { add: Some(internal::RecMeta::default()), ..repack(9, None) };
    manifest.repack(&nothing).unwrap();
    assert_eq!(ids(manifest.recs()), [1, 4]);
    assert!(manifest.recs_of(OTHER_TOPIC).is_empty());
}

#[test]
fn s2_a_repack_with_more_than_it_replaces_is_rejected() {
    let manifest = rolled();
    let grown = |change: fn(&mut RecMeta)| {
        let mut meta = rec(9, 0, 10, &[(TOPIC, &[1])]);
        change(&mut meta);
        rejected_repack(&manifest, &repack(3, Some(&meta)))
    };
    let not_a_part = RollRejected::NotAPart { remove: segment_id(3), add: segment_id(9) };
    assert_eq!(grown(|meta| meta.topics[0].ranges[0].partition = PartitionId(2)), not_a_part);
    assert_eq!(grown(|meta| meta.topics[0].ranges[0].next = Offset(99)), not_a_part);
    assert_eq!(grown(|meta| meta.topics[0].ranges[0].bytes += 1), not_a_part);
    assert_eq!(grown(|meta| meta.topics[0].topic = TopicId(Uuid::from_u128(3))), not_a_part);
    assert_eq!(grown(|meta| meta.after = RaftIndex(1)), not_a_part);
    assert_eq!(grown(|meta| meta.through = RaftIndex(20)), not_a_part);
    assert_eq!(grown(|meta| meta.id = segment_id(4)), RollRejected::Duplicate(segment_id(4)));
    assert!(matches!(grown(|meta| meta.bytes = 1), RollRejected::Malformed(_)));
    let short = internal::Repack { remove: bytes::Bytes::from_static(b"short"), add: None, erased: Vec::new() };
    assert!(matches!(rejected_repack(&manifest, &short), RollRejected::Malformed(_)));
}

#[test]
fn s2_a_repack_that_erases_changes_only_what_it_says() {
    let erased = |partition, offset| -> ErasedOffsets {
        [(TOPIC, PartitionId(partition), Offset(offset))].into_iter().collect()
    };
    let lighter = |erased: &ErasedOffsets| {
        let mut meta = rec(9, 0, 10, &[(TOPIC, &[1])]);
        meta.topics[0].ranges[0].bytes -= 1;
        meta.topics[0].ranges[0].max_timestamp_ms -= 1;
        internal::Repack { erased: erased.to_proto(), ..repack(3, Some(&meta)) }
    };
    let not_a_part = RollRejected::NotAPart { remove: segment_id(3), add: segment_id(9) };
    assert_eq!(rejected_repack(&rolled(), &lighter(&ErasedOffsets::default())), not_a_part);
    assert_eq!(rejected_repack(&rolled(), &lighter(&erased(0, 95))), not_a_part);
    assert_eq!(rejected_repack(&rolled(), &lighter(&erased(1, 100))), not_a_part);
    let mut manifest = rolled();
    manifest.repack(&lighter(&erased(1, 95))).unwrap();
    assert_eq!(manifest.recs_of(TOPIC)[0].id, segment_id(9));
}

#[test]
fn segments_wholly_below_log_start_are_removed() {
    let mut manifest = rolled();
    let before = manifest.clone();
    assert!(manifest.remove_recs(|_, _| Offset(99)).is_empty());
    assert_eq!(manifest, before, "the version stays while nothing changes");
    let start = |topic, partition| match (topic, partition) {
        (TOPIC, PartitionId(0)) => Offset(100),
        (TOPIC, _) => Offset(200),
        _ => Offset(u64::MAX),
    };
    assert_eq!(ids(&manifest.remove_recs(start)), [3, 1, 2]);
    assert_eq!((ids(manifest.recs()), ids(manifest.recs_of(TOPIC))), (vec![4], vec![4]));
    assert!(manifest.recs_of(OTHER_TOPIC).is_empty());
    assert_eq!((manifest.version(), before.recs().len()), (4, 4));
}

proptest! {
    /// Whatever the rolls hold: each offset is found in the segment that holds it, and in no other.
    #[test]
    fn every_offset_is_found_where_it_is(rolls in vec(vec(0..8_u32, 0..4), 0..30), drop_below in 0..30_u64) {
        let mut manifest = Manifest::default();
        for (at, partitions) in (0..).zip(&rolls) {
            let mut partitions = partitions.clone();
            partitions.sort_unstable();
            partitions.dedup();
            let segment = rec(at as u8, at, at + 1, &[(TOPIC, &partitions)]);
            let segments = if partitions.is_empty() { vec![] } else { vec![segment] };
            manifest.roll(&roll(at, at + 1, &segments)).unwrap();
        }
        manifest.remove_recs(|_, _| Offset(drop_below * 10));
        for (at, partitions) in (0..).zip(&rolls) {
            for partition in 0..8 {
                let held = at >= drop_below && partitions.contains(&partition);
                for offset in [at * 10, at * 10 + 9] {
                    let found = manifest.rec_with(TOPIC, PartitionId(partition), Offset(offset));
                    prop_assert_eq!(found.map(|meta| meta.through), held.then_some(RaftIndex(at + 1)));
                }
            }
        }
    }
}
