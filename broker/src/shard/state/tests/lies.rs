//! X1: entries and states, mutated. An entry that a disk or a leader gives is applied by every replica: none may panic.

use stratalog_mutation::Decoder;
use stratalog_proto::fuzzing::commands;

use super::*;

/// An entry, applied to a shard that hosts a topic with some records.
const APPLY: Decoder = Decoder { name: "apply", samples: entries, run: apply_bytes, words: &[], memory_bytes: 4 << 20 };

/// The topic that the sample commands are about.
const SAMPLE: TopicId = TopicId(Uuid::from_bytes(stratalog_proto::fuzzing::TOPIC));

fn hosting_samples() -> ShardState {
    let mut state = ShardState::new();
    let append = |batch| Command::Append(Append { topic: SAMPLE, partition: PartitionId(0), batch });
    let put = internal::PutTopic {
        topic: SAMPLE.to_bytes(),
        partitions: vec![0, 1],
        config: Some(TopicConfig::default().to_internal()),
    };
    apply(&mut state, 1, 1, &[Command::PutTopic(put)]);
    apply(&mut state, 2, 2, &[append(batch(20, Some((1, 0, 0)))), append(batch(4, None))]);
    state
}

fn entries() -> Vec<Vec<u8>> {
    let of_shards: Vec<Command> = commands().into_iter().filter(|command| *command != check_of_nothing()).collect();
    let (front, back) = of_shards.split_at(of_shards.len() / 2);
    let real = Command::Append(Append { topic: SAMPLE, partition: PartitionId(1), batch: batch(3, Some((1, 0, 20))) });
    [front, back, &[real]].map(|commands| entry(3, commands).to_vec()).into()
}

/// It stops a replica, as it should: its state is another one.
fn check_of_nothing() -> Command {
    commands().into_iter().find(|command| matches!(command, Command::CheckState(_))).unwrap()
}

fn apply_bytes(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(Bytes::copy_from_slice(bytes)) else { return false };
    let mut state = hosting_samples();
    let applied = state.apply(RaftIndex(30), Term(1), &entry).is_ok();
    // Whatever it came to, it can be kept, and goes on.
    if applied {
        assert_eq!(
            ShardState::decode(state.encode().into()).as_ref(),
            Ok(&state),
            "a state that was applied can be kept"
        );
        let later = Entry::parse(super::entry(4, &[put_topic(&[0]), append(0, batch(1, None))])).unwrap();
        assert!(state.apply(RaftIndex(31), Term(1), &later).is_ok());
    }
    applied
}

#[test]
fn x1_entries_that_lie_are_applied_or_refused() {
    APPLY.check();
}

/// The image of a state.
const STATE: Decoder = Decoder { name: "state", samples: states, run: read_state, words: &[], memory_bytes: 4 << 20 };

fn states() -> Vec<Vec<u8>> {
    let mut state = hosting_samples();
    let before = state.encode();
    let kept = commands().into_iter().filter(|command| matches!(command, Command::Seal(_) | Command::Erase(_)));
    apply(&mut state, 30, 3, &kept.collect::<Vec<_>>());
    let sealed = state.encode();
    let of_groups = |command: &Command| matches!(command, Command::GroupState(_) | Command::CommitOffsets(_));
    let of_groups: Vec<_> = commands().into_iter().filter(of_groups).collect();
    let mut joined = ShardState::new();
    let done = apply(&mut joined, 1, 3, &of_groups[..3]);
    assert!(done.results.iter().all(Result::is_ok), "{:?}", done.results);
    vec![before, sealed, joined.encode()]
}

fn read_state(bytes: &[u8]) -> bool {
    let Ok(mut state) = ShardState::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(ShardState::decode(state.encode().into()).as_ref(), Ok(&state));
    let later = Entry::parse(entry(4, &[put_topic(&[0]), append(0, batch(1, None))])).unwrap();
    let _ = state.apply(RaftIndex(1 << 40), Term(9), &later);
    true
}

#[test]
fn x1_states_that_lie() {
    STATE.check();
}
