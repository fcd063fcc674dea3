//! Column segments and row frontiers.

use proptest::collection::vec;
use proptest::prelude::*;
use stratalog_proto::TimeBucket;

use super::*;
use crate::segment::{OffsetRange, SegmentKind};

pub(super) fn segment(topic: TopicId, number: u8) -> internal::SegmentMeta {
    let meta = SegmentMeta {
        id: segment_id(number),
        topic,
        kind: SegmentKind::Column,
        bucket: TimeBucket { start_ns: 0, end_ns: 10 },
        min_time_ns: 1,
        max_time_ns: 2,
        max_ingested_ns: 3,
        rows: 1,
        dead_rows: 0,
        bytes: 100,
        ranges: vec![OffsetRange {
            partition: PartitionId(0),
            first: Offset(number.into()),
            next: Offset(u64::from(number) + 1),
        }],
        blake3: [0; 32],
        analyzer_version: 1,
    };
    (&meta).into()
}

pub(super) fn seal(topic: TopicId, expect: u64, next: u64, segments: &[u8]) -> internal::Seal {
    internal::Seal {
        topic: topic.to_bytes(),
        expect,
        next,
        segments: segments.iter().map(|&number| segment(topic, number)).collect(),
        rowless: vec![],
        ends: vec![],
    }
}

pub(super) fn hosting() -> Manifest {
    let mut manifest = Manifest::default();
    manifest.put_topic(TOPIC, RaftIndex(0));
    manifest
}

/// Applies a seal that has to be rejected, and checks that nothing changed.
fn rejected(manifest: &mut Manifest, seal: &internal::Seal) -> SealRejected {
    let before = manifest.clone();
    let error = manifest.seal(seal).unwrap_err();
    assert_eq!(*manifest, before, "S2: a rejected seal changes nothing");
    error
}

#[test]
fn s2_seal_retried_after_failover_is_ignored() {
    let mut manifest = hosting();
    let first = seal(TOPIC, 0, 10, &[1, 2]);
    manifest.seal(&first).unwrap();
    let stale = SealRejected::Stale { topic: TOPIC, expect: RaftIndex(0), frontier: RaftIndex(10) };
    assert_eq!(rejected(&mut manifest, &first), stale);
    let rival = seal(TOPIC, 0, 12, &[3]);
    assert_eq!(rejected(&mut manifest, &rival), stale);
    manifest.seal(&seal(TOPIC, 10, 12, &[3])).unwrap();
    assert_eq!(manifest.topic(TOPIC).unwrap().segments.len(), 3);
}

#[test]
fn s2_a_seal_of_a_topic_that_was_removed_does_not_bring_it_back() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1])).unwrap();
    assert_eq!(manifest.remove_topic(TOPIC).unwrap().segments.len(), 1);
    assert_eq!(rejected(&mut manifest, &seal(TOPIC, 5, 6, &[2])), SealRejected::UnknownTopic(TOPIC));
    assert_eq!(rejected(&mut manifest, &seal(TOPIC, 0, 6, &[2])), SealRejected::UnknownTopic(TOPIC));
    assert!(manifest.remove_topic(TOPIC).is_none());
}

#[test]
fn s2_a_seal_with_a_segment_that_is_live_or_anothers_is_rejected_whole() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1])).unwrap();
    let duplicate = SealRejected::Duplicate { topic: TOPIC, segment: segment_id(1) };
    assert_eq!(rejected(&mut manifest, &seal(TOPIC, 5, 6, &[2, 1])), duplicate);
    let twice = SealRejected::Duplicate { topic: TOPIC, segment: segment_id(2) };
    assert_eq!(rejected(&mut manifest, &seal(TOPIC, 5, 6, &[2, 2])), twice);
    let mut foreign = seal(TOPIC, 5, 6, &[2]);
    foreign.segments.push(segment(OTHER_TOPIC, 3));
    assert!(matches!(rejected(&mut manifest, &foreign), SealRejected::Malformed(_)));
}

#[test]
fn a_malformed_seal_is_rejected() {
    let mut manifest = hosting();
    let mut nameless = seal(TOPIC, 0, 5, &[1]);
    nameless.topic = bytes::Bytes::from_static(b"topic");
    assert!(matches!(rejected(&mut manifest, &nameless), SealRejected::Malformed(_)));
    let mut newer = seal(TOPIC, 0, 5, &[1]);
    newer.segments[0].kind = 77;
    assert!(matches!(rejected(&mut manifest, &newer), SealRejected::Malformed(_)));
}

#[test]
fn a_seal_without_rows_moves_the_frontier() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[])).unwrap();
    assert_eq!(manifest.topic(TOPIC).unwrap().row_frontier, RaftIndex(5));
    assert!(matches!(rejected(&mut manifest, &seal(TOPIC, 5, 5, &[])), SealRejected::Backwards { .. }));
}

#[test]
fn hosting_a_topic_again_keeps_what_it_has() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1])).unwrap();
    let before = manifest.clone();
    manifest.put_topic(TOPIC, RaftIndex(99));
    assert_eq!(manifest, before);
}

#[test]
fn a_drop_gives_back_what_was_live_and_only_that() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1, 2, 3])).unwrap();
    let kept = manifest.clone();
    let dropped = manifest.drop_segments(TOPIC, &[segment_id(1), segment_id(9), segment_id(1), segment_id(3)]);
    assert_eq!(dropped.iter().map(|meta| meta.id).collect::<Vec<_>>(), [segment_id(1), segment_id(3)]);
    assert_eq!(manifest.segment_ids().collect::<Vec<_>>(), [segment_id(2)]);
    assert_eq!(manifest.topic(TOPIC).unwrap().lowest_offset(PartitionId(0)), Some(Offset(2)));
    assert_eq!(manifest.topic(TOPIC).unwrap().lowest_offset(PartitionId(1)), None);
    assert_eq!(kept.topic(TOPIC).unwrap().segments.len(), 3, "a clone is a value of its own");
    let version = manifest.version();
    assert!(manifest.drop_segments(TOPIC, &[segment_id(1)]).is_empty());
    assert!(manifest.drop_segments(OTHER_TOPIC, &[segment_id(2)]).is_empty());
    assert_eq!(manifest.version(), version);
}

#[derive(Clone, Debug)]
enum Step {
    Seal { expect: u64, next: u64, segments: Vec<u8> },
    Drop(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seals = (0..8_u64, 0..8_u64, vec(0..20_u8, 0..3));
    let seals = seals.prop_map(|(expect, next, segments)| Step::Seal { expect, next, segments });
    vec(prop_oneof![3 => seals, 1 => vec(0..20_u8, 0..3).prop_map(Step::Drop)], 0..40)
}

proptest! {
    /// Whatever arrives, in whatever order and however often: the seals that applied form one chain of frontiers, and
    /// the live segments are theirs less the dropped ones.
    #[test]
    fn s2_seals_that_apply_form_one_chain(steps in steps()) {
        let mut manifest = hosting();
        let (mut frontier, mut live) = (0, std::collections::BTreeSet::new());
        for step in steps {
            let before = manifest.clone();
            match step {
                Step::Seal { expect, next, segments } => {
                    let distinct = segments.iter().all(|one| segments.iter().filter(|other| *other == one).count() == 1);
                    let fresh = distinct && !segments.iter().any(|number| live.contains(number));
                    let applied = manifest.seal(&seal(TOPIC, expect, next, &segments)).is_ok();
                    prop_assert_eq!(applied, expect == frontier && next > expect && fresh);
                    if applied {
                        frontier = next;
                        live.extend(segments);
                        prop_assert_eq!(manifest.version(), before.version() + 1);
                    } else {
                        prop_assert_eq!(&manifest, &before);
                    }
                }
                Step::Drop(numbers) => {
                    let ids: Vec<SegmentId> = numbers.iter().map(|&number| segment_id(number)).collect();
                    let dropped = manifest.drop_segments(TOPIC, &ids).len();
                    prop_assert_eq!(dropped, numbers.iter().filter(|number| live.remove(number)).count());
                }
            }
            let topic = manifest.topic(TOPIC).unwrap();
            prop_assert_eq!(topic.row_frontier, RaftIndex(frontier));
            let ids: Vec<SegmentId> = live.iter().map(|&number| segment_id(number)).collect();
            prop_assert_eq!(manifest.segment_ids().collect::<Vec<_>>(), ids);
        }
    }
}
