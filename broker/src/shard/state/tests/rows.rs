//! Merges and log starts: no row goes without being counted (S1).

use stratalog_storage::RowCounts;

use super::rolling::roll;
use super::*;
use crate::shard::testing::rec_of;

/// Ten sealed records of each of two partitions, in the segments 1 and 2; the log is at index 3.
fn sealed() -> ShardState {
    let mut state = hosting(&[0, 1]);
    apply(&mut state, 2, 0, &[append(0, batch(10, None)), append(1, batch(10, None))]);
    let segments = vec![segment(1, &[(0, 0, 6), (1, 0, 10)]), segment(2, &[(0, 6, 10)])];
    assert_eq!(codes(apply(&mut state, 3, 0, &[seal(1, 2, segments)])), [Ok(CommandResult::Done)]);
    state
}

fn merge(remove: &[u128], add: Vec<internal::SegmentMeta>) -> internal::Merge {
    let remove = remove.iter().map(|id| SegmentId(Uuid::from_u128(*id)).to_bytes()).collect();
    internal::Merge { topic: TOPIC.to_bytes(), remove, add, ..Default::default() }
}

fn delete_records(before: &[(u32, u64)]) -> Command {
    Command::DeleteRecords(internal::DeleteRecords { topic: TOPIC.to_bytes(), before: counts(before) })
}

fn live(state: &ShardState) -> Vec<u128> {
    state.manifest().topic(TOPIC).unwrap().segments.keys().map(|id| id.0.as_u128()).collect()
}

fn row_counts(state: &ShardState) -> RowCounts {
    state.manifest().topic(TOPIC).unwrap().counts
}

fn log_start(state: &ShardState, partition: u32) -> u64 {
    state.partition(TOPIC, PartitionId(partition)).unwrap().log_start().0
}

fn dropped(effects: &Effects) -> Vec<u128> {
    effects.removed.iter().map(|meta| meta.id.0.as_u128()).collect()
}

#[test]
fn s2_a_merge_applies_once_and_gives_its_inputs_back() {
    let mut state = sealed();
    let command = Command::Merge(merge(&[1, 2], vec![segment(3, &[(0, 0, 10), (1, 0, 10)])]));
    let effects = apply(&mut state, 4, 0, &[command.clone(), command]);
    assert_eq!(dropped(&effects), [1, 2]);
    assert_eq!(codes(effects), [Ok(CommandResult::Done), Err(Code::Conflict)]);
    assert_eq!((live(&state), row_counts(&state)), (vec![3], RowCounts::default()));
}

#[test]
fn s2_of_a_merge_and_a_drop_of_the_same_segment_the_first_applies() {
    let mut state = sealed();
    let command = Command::Merge(merge(&[1, 2], vec![segment(3, &[(0, 0, 10), (1, 0, 10)])]));
    let effects = apply(&mut state, 4, 0, &[drop_segment(2), command]);
    assert_eq!(codes(effects)[1], Err(Code::Conflict));
    assert_eq!((live(&state), row_counts(&state).dropped), (vec![1], 4));
}

#[test]
fn s1_a_merge_whose_rows_do_not_agree_is_refused() {
    let whole = || segment(3, &[(0, 0, 10), (1, 0, 10)]);
    let mut foreign = whole();
    foreign.topic = TopicId::new().to_bytes();
    let wrong = [
        ("no input", merge(&[], vec![whole()])),
        ("an input twice", merge(&[1, 1], vec![segment(3, &[(0, 0, 6), (1, 0, 10)])])),
        ("an unknown input", merge(&[1, 9], vec![whole()])),
        ("too few rows", merge(&[1, 2], vec![segment(3, &[(0, 0, 10), (1, 0, 9)])])),
        ("too many rows", merge(&[2], vec![segment(3, &[(0, 5, 10)])])),
        ("nothing at all", merge(&[2], vec![])),
        ("an output twice", merge(&[1, 2], vec![segment(3, &[(0, 0, 10)]), segment(3, &[(1, 0, 10)])])),
        ("a live output", merge(&[1], vec![segment(2, &[(0, 0, 6), (1, 0, 10)])])),
        ("offsets of no input", merge(&[2], vec![segment(3, &[(0, 7, 11)])])),
        ("a partition of no input", merge(&[2], vec![segment(3, &[(1, 6, 10)])])),
        ("another topic's segment", merge(&[1, 2], vec![foreign])),
        ("a number that overflows", internal::Merge { trimmed: u64::MAX, ..merge(&[2], vec![whole()]) }),
    ];
    for (what, command) in wrong {
        let mut state = sealed();
        let code = codes(apply(&mut state, 4, 0, &[Command::Merge(command)])).remove(0).unwrap_err();
        assert!(matches!(code, Code::Conflict | Code::CorruptData), "{what}: {code}");
        assert_eq!((live(&state), row_counts(&state)), (vec![1, 2], RowCounts::default()), "{what}");
    }
}

#[test]
fn delete_records_moves_log_start_to_at_most_the_high_watermark_and_never_back() {
    let mut state = sealed();
    apply(&mut state, 4, 0, &[append(0, batch(5, None))]);
    for (index, (to, expected)) in [(3, 3), (1, 3), (12, 12), (u64::MAX, 15)].into_iter().enumerate() {
        let effects = apply(&mut state, 5 + index as u64, 0, &[delete_records(&[(0, to)])]);
        let Ok(CommandResult::RecordsDeleted { log_starts, .. }) = &effects.results[0] else { panic!("{effects:?}") };
        assert_eq!(log_starts[..], [(PartitionId(0), Offset(expected))]);
        assert_eq!((log_start(&state, 0), log_start(&state, 1)), (expected, 0));
        assert_eq!(state.unaccounted(TOPIC), 0);
    }
    assert_eq!(live(&state), [1], "partition 1 has rows in it that can be read");
    let unknown = apply(&mut state, 20, 0, &[delete_records(&[(1, 3), (7, 1)])]);
    assert_eq!((codes(unknown), log_start(&state, 1)), (vec![Err(Code::UnknownPartition)], 0));
}

#[test]
fn segments_that_log_start_has_passed_leave_the_manifest_and_are_counted() {
    let mut state = sealed();
    let effects = apply(&mut state, 4, 0, &[delete_records(&[(0, 10)])]);
    assert_eq!((dropped(&effects), live(&state)), (vec![2], vec![1]));
    let Ok(CommandResult::RecordsDeleted { dropped, .. }) = &effects.results[0] else { panic!("{effects:?}") };
    assert_eq!((dropped.len(), row_counts(&state).dropped), (1, 4));
    apply(&mut state, 5, 0, &[delete_records(&[(1, 10)])]);
    assert_eq!((live(&state), row_counts(&state).dropped, state.unaccounted(TOPIC)), (vec![], 20, 0));
}

#[test]
fn s1_records_that_are_deleted_before_they_are_sealed_are_counted_all_the_same() {
    let mut state = sealed();
    apply(&mut state, 4, 0, &[append(0, batch(5, None))]);
    apply(&mut state, 5, 0, &[delete_records(&[(0, 12)])]);
    let sealed_rows = vec![segment(4, &[(0, 12, 15)])];
    let Command::Seal(command) = seal(2, 5, sealed_rows) else { unreachable!() };
    let rowless = internal::Seal { rowless: counts(&[(0, 2)]), ..command.clone() };
    let effects = apply(&mut state, 6, 0, &[Command::Seal(command), Command::Seal(rowless)]);
    assert_eq!(codes(effects), [Err(Code::Conflict), Ok(CommandResult::Done)]);
    assert_eq!(
        (live(&state), row_counts(&state)),
        (vec![1, 4], RowCounts { rowless: 2, dropped: 4, ..RowCounts::default() })
    );
}

#[test]
fn rows_below_log_start_that_are_sealed_go_at_once() {
    let mut state = sealed();
    apply(&mut state, 4, 0, &[append(0, batch(5, None)), delete_records(&[(0, 15)])]);
    let effects = apply(&mut state, 5, 0, &[seal(2, 4, vec![segment(4, &[(0, 10, 15)])])]);
    assert_eq!((dropped(&effects), live(&state), row_counts(&state).dropped), (vec![4], vec![1], 9));
}

#[test]
fn replay_segments_of_deleted_records_leave_the_manifest_although_rows_of_them_are_not_sealed() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[append(0, batch(10, None))]);
    let rec = rec_of(1, 0, 2, &state.batches_between(RaftIndex(0), RaftIndex(2)));
    apply(&mut state, 3, 0, &[roll(0, 2, vec![rec])]);
    let effects = apply(&mut state, 4, 0, &[delete_records(&[(0, 10)])]);
    assert_eq!((effects.removed_recs.len(), state.manifest().recs().len()), (1, 0));
    assert_eq!(state.partition(TOPIC, PartitionId(0)).unwrap().bytes(), 0);
}

#[test]
fn s1_a_merge_trims_only_what_log_start_has_passed() {
    let trimmed = |log_starts: &[(u32, u64)], trimmed, from| {
        let add = vec![segment(3, &[(0, from, 6), (1, 0, 10)])];
        Command::Merge(internal::Merge { log_starts: counts(log_starts), trimmed, ..merge(&[1], add) })
    };
    let at = |log_start: u64, command: Command| {
        let mut state = sealed();
        apply(&mut state, 4, 0, &[delete_records(&[(0, log_start)])]);
        let result = codes(apply(&mut state, 5, 0, &[command])).remove(0);
        (result, row_counts(&state).trimmed)
    };
    assert_eq!(at(3, trimmed(&[(0, 3)], 3, 3)), (Ok(CommandResult::Done), 3));
    assert_eq!(at(5, trimmed(&[(0, 3)], 3, 3)), (Ok(CommandResult::Done), 3), "log start only moves forward");
    assert_eq!(at(2, trimmed(&[(0, 3)], 3, 3)), (Err(Code::Conflict), 0));
    assert_eq!(at(3, trimmed(&[], 3, 3)), (Err(Code::Conflict), 0));
    assert_eq!(at(3, trimmed(&[(9, 0)], 3, 3)), (Err(Code::Conflict), 0));
    assert_eq!(at(3, trimmed(&[(0, 3)], 2, 3)), (Err(Code::Conflict), 0));
}

#[test]
fn a_merge_that_leaves_nothing_is_counted_and_log_start_moves_on() {
    let mut state = sealed();
    apply(&mut state, 4, 0, &[delete_records(&[(0, 1)])]);
    let erase = internal::Erase {
        job: vec![1; 16].into(),
        topic: TOPIC.to_bytes(),
        predicate: "true".to_owned(),
        columns: Vec::new(),
    };
    let log_starts = counts(&[(0, 1)]);
    let all = internal::Merge { log_starts, trimmed: 1, erased: 15, ..merge(&[1], vec![]) };
    let effects = apply(&mut state, 5, 0, &[Command::Merge(all.clone()), Command::Erase(erase), Command::Merge(all)]);
    let refused_before = Err(Code::Conflict);
    assert_eq!(codes(effects), [refused_before, Ok(CommandResult::Done), Ok(CommandResult::Done)]);
    let counts = RowCounts { trimmed: 1, erased: 15, ..RowCounts::default() };
    assert_eq!((row_counts(&state), state.unaccounted(TOPIC)), (counts, 0));
    assert_eq!((log_start(&state, 0), log_start(&state, 1)), (6, 10));
}
