//! Where seals end.

use stratalog_proto::RaftIndex;

use super::rolling::roll;
use super::*;
use crate::shard::testing::rec_of;

/// A seal of so many offsets without a row.
fn sealing(expect: u64, next: u64, ends: &[(u32, u64)], rowless: u64) -> Command {
    let Command::Seal(mut command) = seal(expect, next, vec![]) else { unreachable!() };
    command.ends = counts(ends);
    command.rowless = counts(&[(0, rowless)]);
    Command::Seal(command)
}

fn sealed(state: &ShardState) -> [u64; 2] {
    [0, 1].map(|partition| state.partition(TOPIC, PartitionId(partition)).unwrap().sealed().0)
}

/// Batches of 2, 3 and 4 records at the indexes 2, 3 and 4, the second in partition 1.
fn three_batches() -> ShardState {
    let mut state = hosting(&[0, 1]);
    for (index, partition, records) in [(2, 0, 2), (3, 1, 3), (4, 0, 4)] {
        apply(&mut state, index, 0, &[append(partition, batch(records, None))]);
    }
    state
}

/// The same, and everything up to 4 is in a replay segment.
fn three_rolled() -> ShardState {
    let mut state = three_batches();
    let rec = rec_of(1, 0, 4, &state.batches_between(RaftIndex(0), RaftIndex(4)));
    apply(&mut state, 5, 0, &[roll(0, 4, vec![rec])]);
    state
}

#[test]
fn a_seal_of_release_0_1_ends_where_the_log_says() {
    let mut state = three_batches();
    assert_eq!(codes(apply(&mut state, 5, 0, &[sealing(1, 3, &[], 5)])), [Ok(CommandResult::Done)]);
    assert_eq!(sealed(&state), [2, 3]);
    apply(&mut state, 6, 0, &[sealing(3, 4, &[], 4)]);
    assert_eq!(sealed(&state), [6, 3]);
}

#[test]
fn s1_a_seal_that_ends_elsewhere_than_the_log_says_is_refused() {
    for wrong in [&[(0, 1), (1, 3)][..], &[(0, 2)], &[(0, 2), (1, 3), (7, 1)], &[(0, 6), (1, 3)]] {
        let mut state = three_batches();
        assert_eq!(codes(apply(&mut state, 5, 0, &[sealing(1, 3, wrong, 5)])), [Err(Code::Conflict)], "{wrong:?}");
        assert_eq!((sealed(&state), state.manifest().topic(TOPIC).unwrap().row_frontier), ([0, 0], RaftIndex(1)));
    }
    let mut state = three_batches();
    assert_eq!(codes(apply(&mut state, 5, 0, &[sealing(1, 3, &[(0, 2), (1, 3)], 5)])), [Ok(CommandResult::Done)]);
    assert_eq!(codes(apply(&mut state, 6, 0, &[sealing(3, 4, &[(0, 6), (1, 3)], 4)])), [Ok(CommandResult::Done)]);
    assert_eq!(sealed(&state), [6, 3]);
}

#[test]
fn behind_the_replay_frontier_a_seal_says_itself_where_it_ends() {
    let mut state = three_rolled();
    let first = sealing(1, 3, &[(0, 2), (1, 3)], 5);
    assert_eq!(codes(apply(&mut state, 6, 0, &[first])), [Ok(CommandResult::Done)]);
    assert_eq!(sealed(&state), [2, 3]);
    assert_eq!(codes(apply(&mut state, 7, 0, &[sealing(3, 4, &[(0, 6)], 4)])), [Ok(CommandResult::Done)]);
    assert_eq!(sealed(&state), [6, 3]);
}

#[test]
fn s1_a_seal_cannot_end_at_offsets_that_are_impossible() {
    let apply_to = |ends: &[(u32, u64)]| {
        let mut state = three_rolled();
        apply(&mut state, 6, 0, &[append(0, batch(1, None)), sealing(1, 2, &[(0, 2)], 2)]);
        assert_eq!(sealed(&state), [2, 0]);
        codes(apply(&mut state, 7, 0, &[sealing(2, 3, ends, 3)])).remove(0)
    };
    let refused = [&[][..], &[(0, 1)], &[(0, 7)], &[(1, 4)], &[(9, 1)]];
    refused.iter().for_each(|ends| assert_eq!(apply_to(ends), Err(Code::Conflict), "{ends:?}"));
    assert_eq!(apply_to(&[(1, 3)]), Ok(CommandResult::Done));
    assert_eq!(apply_to(&[(0, 2), (1, 3)]), Ok(CommandResult::Done), "one that does not move");
}

#[test]
fn s1_a_seal_accounts_for_each_offset_once() {
    let rows = |rowless, ranges: &[(u32, u64, u64)]| {
        let Command::Seal(mut command) = sealing(1, 3, &[(0, 2), (1, 3)], rowless) else { unreachable!() };
        command.segments = if ranges.is_empty() { vec![] } else { vec![segment(9, ranges)] };
        Command::Seal(command)
    };
    let wrong =
        [rows(4, &[]), rows(6, &[]), rows(u64::MAX, &[]), rows(1, &[(0, 0, 2)]), rows(1, &[(0, 0, 2), (1, 0, 3)])];
    for command in wrong {
        let mut state = three_batches();
        assert_eq!(codes(apply(&mut state, 5, 0, &[command])), [Err(Code::Conflict)]);
        assert_eq!((sealed(&state), state.unaccounted(TOPIC)), ([0, 0], 0));
    }
    for right in [rows(5, &[]), rows(3, &[(0, 0, 2)]), rows(0, &[(0, 0, 2), (1, 0, 3)])] {
        let mut state = three_batches();
        assert_eq!(codes(apply(&mut state, 5, 0, &[right])), [Ok(CommandResult::Done)]);
        assert_eq!((sealed(&state), state.unaccounted(TOPIC)), ([2, 3], 0));
    }
}
