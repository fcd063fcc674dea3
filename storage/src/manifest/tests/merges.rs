//! Merges, and what the manifest counts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::seals::{hosting, seal, segment};
use super::state::image;
use super::*;

fn merge(remove: &[u8], add: &[u8]) -> internal::Merge {
    internal::Merge {
        topic: TOPIC.to_bytes(),
        remove: remove.iter().map(|&number| segment_id(number).to_bytes()).collect(),
        add: add.iter().map(|&number| segment(TOPIC, number)).collect(),
        ..Default::default()
    }
}

/// A segment `number` with the one row of each of the others.
fn joined(number: u8, of: &[u8]) -> internal::SegmentMeta {
    let mut meta = segment(TOPIC, number);
    meta.rows = of.len() as u64;
    meta.ranges[0].first = of.iter().copied().min().unwrap().into();
    meta.ranges[0].next = u64::from(of.iter().copied().max().unwrap()) + 1;
    meta
}

#[test]
fn s2_a_merge_of_what_is_not_live_changes_nothing() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1, 2])).unwrap();
    let before = manifest.clone();
    let mut elsewhere = merge(&[1], &[]);
    elsewhere.topic = OTHER_TOPIC.to_bytes();
    assert_eq!(manifest.merge(&elsewhere), Err(MergeRejected::UnknownTopic(OTHER_TOPIC)));
    let not_live = MergeRejected::NotLive { topic: TOPIC, segment: segment_id(9) };
    assert_eq!(manifest.merge(&merge(&[1, 9], &[])), Err(not_live));
    let live = MergeRejected::Duplicate { topic: TOPIC, segment: segment_id(2) };
    assert_eq!(manifest.merge(&merge(&[1], &[2])), Err(live));
    let rows = MergeRejected::Rows { topic: TOPIC, removed: 1, added: 0, trimmed: 0, erased: 0 };
    assert_eq!(manifest.merge(&merge(&[1], &[])), Err(rows));
    let outside = MergeRejected::Outside { topic: TOPIC, segment: segment_id(3) };
    assert_eq!(manifest.merge(&merge(&[1], &[3])), Err(outside));
    let mut short = merge(&[1], &[]);
    short.remove[0] = bytes::Bytes::from_static(b"id");
    assert!(matches!(manifest.merge(&short), Err(MergeRejected::Malformed(_))));
    assert_eq!(manifest, before);
}

#[test]
fn segments_that_log_starts_have_passed_are_dropped_and_counted() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1, 2, 3])).unwrap();
    let passed = manifest.drop_passed(TOPIC, |_| Offset(3));
    assert_eq!(passed.iter().map(|meta| meta.id).collect::<Vec<_>>(), [segment_id(1), segment_id(2)]);
    let version = manifest.version();
    assert!(
        manifest.drop_passed(TOPIC, |_| Offset(3)).is_empty()
            && manifest.drop_passed(OTHER_TOPIC, |_| Offset(9)).is_empty()
    );
    assert_eq!((manifest.version(), manifest.topic(TOPIC).unwrap().counts.dropped), (version, 2));
}

#[test]
fn a_state_of_before_offsets_were_counted_takes_those_without_a_row_for_dropped() {
    let mut manifest = hosting();
    manifest.seal(&seal(TOPIC, 0, 5, &[1, 2])).unwrap();
    let mut old = image(&manifest);
    old.topics[0].counts = None;
    let sealed = |partition, sealed| internal::PartitionState { partition, sealed, ..Default::default() };
    old.topics[0].partitions = vec![sealed(0, 7), sealed(1, 3)];
    let restored = Manifest::from_proto(&old).unwrap();
    let live = restored.topic(TOPIC).unwrap();
    assert_eq!((live.counts, live.accounted()), (RowCounts { dropped: 8, ..RowCounts::default() }, 10));
}

proptest! {
    /// S1: whatever is sealed, merged and dropped, each row is in a live segment or counted.
    #[test]
    fn s1_rows_and_counts_are_conserved(steps in vec((vec(0..40_u8, 1..4), any::<bool>(), any::<bool>()), 0..30)) {
        let mut manifest = hosting();
        let mut next = 0_u8;
        for (picked, merges, erases) in steps {
            let live: Vec<SegmentId> = manifest.segment_ids().collect();
            if live.is_empty() || !merges {
                let frontier = u64::from(next);
                manifest.seal(&seal(TOPIC, frontier, frontier + 1, &[next])).unwrap();
                next += 1;
            } else {
                let metas = &manifest.topic(TOPIC).unwrap().segments;
                let mut inputs: Vec<_> = picked.iter().map(|at| live[usize::from(*at) % live.len()]).collect();
                inputs.sort_unstable();
                inputs.dedup();
                let rows: u64 = inputs.iter().map(|id| metas[id].rows).sum();
                let mut output = joined(100 + next, &[0, next]);
                output.rows = rows - u64::from(erases && rows > 1);
                let mut command = merge(&[], &[]);
                command.remove = inputs.iter().map(|id| id.to_bytes()).collect();
                command.erased = rows - output.rows;
                let ranges = inputs.iter().flat_map(|id| &metas[id].ranges);
                output.ranges[0].first = ranges.clone().map(|range| range.first.0).min().unwrap();
                output.ranges[0].next = ranges.map(|range| range.next.0).max().unwrap();
                output.id = SegmentId::new().to_bytes();
                command.add = vec![output];
                manifest.merge(&command).unwrap();
            }
            prop_assert_eq!(manifest.topic(TOPIC).unwrap().accounted(), u64::from(next));
        }
    }
}
