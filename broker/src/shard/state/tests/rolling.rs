//! Rolls and repacks: what leaves the state, and what they refuse.

use std::sync::Arc;

use stratalog_proto::RaftIndex;
use stratalog_storage::RecMeta;

use super::*;
use crate::shard::PendingRec;
use crate::shard::testing::rec_of;

const OTHER: TopicId = TopicId(Uuid::from_u128(8));

fn id(number: u128) -> SegmentId {
    SegmentId(Uuid::from_u128(number))
}

pub(super) fn roll(expect: u64, next: u64, segments: Vec<internal::RecMeta>) -> Command {
    Command::Roll(internal::Roll { expect, next, segments })
}

/// The roll of all that the state has up to `next`, in one packed segment.
fn roll_of(state: &ShardState, number: u128, next: u64) -> Command {
    let expect = state.replay_frontier();
    let batches = state.batches_between(expect, RaftIndex(next));
    let segments = if batches.is_empty() { vec![] } else { vec![rec_of(number, expect.0, next, &batches)] };
    roll(expect.0, next, segments)
}

fn repack(remove: u128, add: Option<internal::RecMeta>) -> Command {
    Command::Repack(internal::Repack { remove: id(remove).to_bytes(), add, erased: Vec::new() })
}

fn put_other() -> Command {
    let Command::PutTopic(mut put) = put_topic(&[0]) else { unreachable!() };
    put.topic = OTHER.to_bytes();
    Command::PutTopic(put)
}

fn append_other(batch: Bytes) -> Command {
    Command::Append(Append { topic: OTHER, partition: PartitionId(0), batch })
}

/// Two topics with batches at the indexes 2, 3 and 4.
fn two_topics() -> ShardState {
    let mut state = hosting(&[0, 1]);
    apply(&mut state, 2, 0, &[put_other(), append(0, batch(2, None)), append_other(batch(1, None))]);
    apply(&mut state, 3, 0, &[append(1, batch(3, None)), append(0, batch(1, None))]);
    apply(&mut state, 4, 0, &[append(0, batch(5, None))]);
    state
}

fn rolled_ids(effects: &Effects) -> Vec<SegmentId> {
    effects.rolled.iter().map(|rec| rec.meta.id).collect()
}

#[test]
fn a_roll_takes_its_batches_out_of_the_state_and_hands_them_over() {
    let mut state = two_topics();
    let before = state.batches_between(RaftIndex(0), RaftIndex(3));
    let command = roll_of(&state, 1, 3);
    let mut effects = apply(&mut state, 5, 0, &[command]);
    let PendingRec { meta, batches, replaces, .. } = effects.rolled.pop().unwrap();
    assert_eq!((meta.id, batches, replaces), (id(1), before, None));
    assert_eq!(state.manifest().recs(), [meta]);
    assert_eq!((state.replay_frontier(), codes(effects)), (RaftIndex(3), vec![Ok(CommandResult::Done)]));

    let partition = |p| state.partition(TOPIC, PartitionId(p)).unwrap();
    let shown = |p| (partition(p).log_start().0, partition(p).rolled().0, partition(p).high_watermark().0);
    assert_eq!([shown(0), shown(1)], [(0, 3, 8), (0, 3, 3)]);
    assert_eq!((partition(0).batch_with(Offset(2)), partition(0).batches().count()), (None, 1));
    let lengths: u64 = [2, 1, 5].map(|records| batch(records, None).len() as u64).iter().sum();
    assert_eq!(partition(0).bytes(), lengths, "bytes in replay segments count");
}

#[test]
fn s2_roll_applies_only_on_the_frontier_it_was_built_on() {
    let mut state = two_topics();
    let first = roll_of(&state, 1, 3);
    let effects = apply(&mut state, 5, 0, &[first.clone(), first, roll(3, 5, vec![]), roll(3, 3, vec![])]);
    let rejected = [Err(Code::Conflict), Err(Code::InvalidRequest), Err(Code::Conflict)];
    assert_eq!(rolled_ids(&effects).len(), 1);
    assert_eq!(codes(effects)[1..], rejected);
    assert_eq!(state.replay_frontier(), RaftIndex(3));
}

#[test]
fn s2_a_roll_of_other_batches_than_there_are_is_refused_whole() {
    let state = two_topics();
    let all = state.batches_between(RaftIndex(0), RaftIndex(4));
    let good = || rec_of(1, 0, 4, &all);
    let changed = |change: fn(&mut internal::RecMeta)| {
        let mut meta = good();
        change(&mut meta);
        vec![meta]
    };
    let cases = [
        ("nothing", vec![]),
        ("a batch less", vec![rec_of(1, 0, 4, &all[1..])]),
        ("one topic twice", vec![good(), rec_of(2, 0, 4, &all[..1])]),
        ("a topic less", changed(|meta| drop(meta.topics.pop()))),
        ("other entries", changed(|meta| meta.after = 1)),
        ("another first offset", changed(|meta| meta.topics[0].ranges[0].first += 1)),
        ("another end", changed(|meta| meta.topics[0].ranges[0].next += 1)),
        ("other bytes", changed(|meta| meta.topics[0].ranges[0].bytes -= 1)),
        ("another time", changed(|meta| meta.topics[0].ranges[0].max_timestamp_ms += 1)),
        ("a partition that is not here", changed(|meta| meta.topics[0].ranges[1].partition = 7)),
    ];
    for (name, segments) in cases {
        let mut changed = state.clone();
        let effects = apply(&mut changed, 5, 0, &[roll(0, 4, segments)]);
        assert_eq!((effects.rolled.len(), codes(effects)), (0, vec![Err(Code::Conflict)]), "{name}");
        assert_eq!(changed, state, "{name}");
    }
}

#[test]
fn s2_a_roll_that_was_built_before_its_topic_was_removed_is_built_again() {
    let mut state = two_topics();
    let built = roll_of(&state, 1, 4);
    apply(&mut state, 5, 0, &[Command::RemoveTopic(internal::RemoveTopic { topic: OTHER.to_bytes() })]);
    assert_eq!(codes(apply(&mut state, 6, 0, &[built])), [Err(Code::Conflict)]);
    let again = roll_of(&state, 2, 4);
    assert_eq!(codes(apply(&mut state, 7, 0, &[again])), [Ok(CommandResult::Done)]);
}

#[test]
fn a_segment_that_needs_a_newer_version_stops_the_replica() {
    let mut state = two_topics();
    let mut meta = rec_of(1, 0, 4, &state.batches_between(RaftIndex(0), RaftIndex(4)));
    meta.location = 1;
    let stopped = apply_in(&mut state, Term(1), 5, 0, &[roll(0, 4, vec![meta])]);
    assert_eq!(stopped.unwrap_err().code, Code::NewerVersion);
}

#[test]
fn a_roll_without_batches_moves_the_frontier() {
    let mut state = hosting(&[0]);
    let effects = apply(&mut state, 3, 0, &[roll(0, 2, vec![])]);
    assert_eq!((effects.rolled.len(), codes(effects)), (0, vec![Ok(CommandResult::Done)]));
    assert_eq!(state.replay_frontier(), RaftIndex(2));
}

#[test]
fn segments_that_nobody_can_read_leave_the_manifest() {
    let mut state = two_topics();
    let command = roll_of(&state, 1, 4);
    apply(&mut state, 5, 0, &[command]);
    let ends = [(0, 8), (1, 3)].map(|(partition, value)| internal::PartitionCount { partition, value });
    let mut sealed = seal(1, 3, vec![segment(9, &[(0, 0, 8), (1, 0, 3)])]);
    let Command::Seal(command) = &mut sealed else { unreachable!() };
    (command.next, command.ends) = (4, ends.to_vec());
    assert_eq!(codes(apply(&mut state, 6, 0, &[sealed])), [Ok(CommandResult::Done)]);
    assert!(apply(&mut state, 7, 0, &[drop_segment(9)]).removed_recs.is_empty(), "the other topic's batch is live");
    let partition = state.partition(TOPIC, PartitionId(0)).unwrap();
    assert_eq!((partition.log_start(), partition.bytes()), (Offset(8), 0));

    let remove = Command::RemoveTopic(internal::RemoveTopic { topic: OTHER.to_bytes() });
    let effects = apply(&mut state, 8, 0, &[remove]);
    assert_eq!((effects.removed_topics, effects.removed_recs.len()), (vec![OTHER], 1));
    assert!(state.manifest().recs().is_empty());
}

#[test]
fn batches_that_log_start_passed_are_rolled_and_their_segment_goes_at_once() {
    let mut state = hosting(&[0]);
    apply(&mut state, 2, 0, &[append(0, batch(4, None))]);
    apply(&mut state, 3, 0, &[seal(1, 2, vec![segment(9, &[(0, 0, 4)])])]);
    apply(&mut state, 4, 0, &[drop_segment(9)]);
    let command = roll_of(&state, 1, 3);
    let effects = apply(&mut state, 5, 0, &[command]);
    let gone: Vec<SegmentId> = effects.removed_recs.iter().map(|meta| meta.id).collect();
    assert_eq!((rolled_ids(&effects), gone), (vec![], vec![id(1)]), "it has to be made nowhere");
    assert!(state.manifest().recs().is_empty() && state.batches_between(RaftIndex(0), RaftIndex(9)).is_empty());
}

#[test]
fn a_repack_leaves_out_what_cannot_be_read() {
    let mut state = two_topics();
    let all = state.batches_between(RaftIndex(0), RaftIndex(4));
    apply(&mut state, 5, 0, &[roll(0, 4, vec![rec_of(1, 0, 4, &all)])]);
    let of = |topic| all.iter().copied().filter(|(of, ..)| *of == topic).collect::<Vec<_>>();
    let (kept, other) = (rec_of(2, 0, 4, &of(TOPIC)), rec_of(3, 0, 4, &of(OTHER)));

    let early = apply(&mut state, 6, 0, &[repack(1, Some(kept.clone())), repack(1, None), repack(4, None)]);
    assert_eq!(codes(early), [Err(Code::Conflict), Err(Code::Conflict), Err(Code::Conflict)], "L1");
    apply(&mut state, 7, 0, &[Command::RemoveTopic(internal::RemoveTopic { topic: OTHER.to_bytes() })]);
    let live = state.manifest().recs()[0].clone();
    let effects = apply(&mut state, 8, 0, &[repack(1, Some(other)), repack(1, Some(kept.clone())), repack(1, None)]);
    let meta = Arc::new(RecMeta::try_from(&kept).unwrap());
    assert_eq!(
        effects.rolled,
        [PendingRec { meta: meta.clone(), batches: vec![], replaces: Some(live), erased: Arc::default() }]
    );
    assert!(effects.removed_recs.is_empty(), "the new segment is made of the old one");
    assert_eq!(codes(effects), [Err(Code::Conflict), Ok(CommandResult::Done), Err(Code::Conflict)]);
    assert_eq!(state.manifest().recs(), [meta]);
}

#[test]
fn offsets_behind_the_replay_frontier_are_known_at_the_row_frontier_only() {
    let mut state = two_topics();
    assert_eq!(state.offsets_through(TOPIC, RaftIndex(2)), Some(2));
    apply(&mut state, 5, 0, &[seal(1, 3, vec![segment(9, &[(0, 0, 3), (1, 0, 3)])])]);
    let command = roll_of(&state, 1, 4);
    apply(&mut state, 6, 0, &[command]);
    let known = [2, 3, 4, 6].map(|index| state.offsets_through(TOPIC, RaftIndex(index)));
    assert_eq!(known, [None, Some(6), Some(11), Some(11)]);
}
