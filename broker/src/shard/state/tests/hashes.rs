//! A1: hashes of the state, and what comes of one that differs.

use super::super::digest::{DIGEST, HASH_EVERY};
use prost::Message;

use super::*;

fn check(index: u64, hash: [u8; 32]) -> Command {
    Command::CheckState(internal::CheckState { index, hash: hash.to_vec().into(), digest: DIGEST })
}

fn named(topic: u128) -> Command {
    let Command::PutTopic(mut put) = put_topic(&[1, 0]) else { unreachable!() };
    put.topic = TopicId(Uuid::from_u128(topic)).to_bytes();
    Command::PutTopic(put)
}

#[test]
fn a_hash_is_taken_once_in_each_run_of_indexes_although_entries_are_missing() {
    let mut state = hosting(&[0]);
    let mut taken = |index| apply(&mut state, index, 0, &[append(0, batch(1, None))]).hashed.map(|taken| taken.index.0);
    let indexes = [2, HASH_EVERY - 1, HASH_EVERY, HASH_EVERY + 1, 2 * HASH_EVERY + 5, 3 * HASH_EVERY - 1];
    let expected = [None, None, Some(HASH_EVERY), None, Some(2 * HASH_EVERY + 5), None];
    assert_eq!(indexes.map(&mut taken), expected);
}

#[test]
fn a1_a_replica_whose_hash_differs_stops() {
    let mut state = hosting(&[0]);
    let taken = apply(&mut state, HASH_EVERY, 0, &[append(0, batch(1, None))]).hashed.unwrap();
    let same = apply(&mut state, HASH_EVERY + 1, 0, &[check(HASH_EVERY, taken.hash)]);
    assert_eq!(codes(same), [Ok(CommandResult::Done)]);
    let other = apply(&mut state, HASH_EVERY + 2, 0, &[check(HASH_EVERY - 1, [0; 32])]);
    assert_eq!(codes(other), [Ok(CommandResult::Done)], "one of another index is not compared");
    let stopped = apply_in(&mut state, Term(1), HASH_EVERY + 3, 0, &[check(HASH_EVERY, [0; 32])]);
    assert!(stopped.unwrap_err().message.starts_with("A1"));
}

#[test]
fn a_hash_by_another_formula_is_not_compared() {
    let mut state = hosting(&[0]);
    let taken = apply(&mut state, HASH_EVERY, 0, &[append(0, batch(1, None))]).hashed.unwrap();
    let foreign =
        |digest| Command::CheckState(internal::CheckState { index: HASH_EVERY, hash: vec![7; 32].into(), digest });
    for digest in [0, DIGEST + 1] {
        let compared = apply(&mut state, HASH_EVERY + 1 + u64::from(digest), 0, &[foreign(digest)]);
        assert_eq!(codes(compared), [Ok(CommandResult::Done)], "formula {digest}");
    }
    let mut older = internal::ShardState::decode(&*state.encode()).unwrap();
    assert_eq!((older.hash_digest, &older.hash[..]), (DIGEST, &taken.hash[..]));
    older.hash_digest = 0;
    let mut older = ShardState::decode(older.encode_to_vec().into()).unwrap();
    let compared = apply(&mut older, HASH_EVERY + 9, 0, &[check(HASH_EVERY, [7; 32])]);
    assert_eq!(codes(compared), [Ok(CommandResult::Done)], "what was saved is by the older one");
    assert!(apply_in(&mut older, Term(1), HASH_EVERY + 10, 0, &[foreign(0)]).unwrap_err().message.starts_with("A1"));
}

/// The state as a release wrote it that did not count.
fn without_counts(state: &ShardState) -> ShardState {
    let mut image = internal::ShardState::decode(&*state.encode()).unwrap();
    image.topics.iter_mut().for_each(|topic| topic.counts = None);
    ShardState::decode(image.encode_to_vec().into()).unwrap()
}

#[test]
fn a1_states_of_before_rows_were_counted_hash_alike_whatever_index_they_were_of() {
    let mut early = hosting(&[0]);
    apply(&mut early, 2, 0, &[append(0, batch(5, None))]);
    let mut late = without_counts(&early);
    early = without_counts(&early);
    let Command::Seal(mut partly) = seal(1, 2, vec![segment(1, &[(0, 0, 3)])]) else { unreachable!() };
    partly.rowless = vec![internal::PartitionCount { partition: 0, value: 2 }];
    partly.ends = vec![internal::PartitionCount { partition: 0, value: 5 }];
    for state in [&mut early, &mut late] {
        let sealed = apply(state, 3, 0, &[Command::Seal(partly.clone())]);
        assert_eq!(codes(sealed), [Ok(CommandResult::Done)]);
    }
    late = without_counts(&late);
    assert_ne!(early, late, "what was rowless for one was dropped for the other");
    assert_eq!(early.digest(), late.digest());
}

#[test]
fn a1_the_digest_does_not_depend_on_the_order_of_insertion() {
    let sent = |producer| append(1, batch(1, Some((producer, 0, 0))));
    let mut states = [ShardState::new(), ShardState::new()];
    apply(&mut states[0], 1, 5, &[named(1), named(7), named(2)]);
    apply(&mut states[1], 1, 5, &[named(2), named(1), named(7)]);
    assert_eq!(states[0], states[1]);
    for state in &mut states {
        apply(state, 2, 5, &[sent(9), sent(3), sent(5)]);
    }
    let [first, second] = states.each_ref().map(ShardState::digest);
    assert_eq!(first, second);
    apply(&mut states[0], 3, 5, &[sent(4)]);
    assert_ne!(states[0].digest(), first);
}

#[test]
fn the_digest_covers_every_part_of_the_state() {
    let mut state = hosting(&[0]);
    let mut digests = std::collections::BTreeSet::from([state.digest()]);
    let changes = [
        (1, append(0, batch(1, Some((1, 0, 0))))),
        (1, put_topic(&[1])),
        (2, append(0, batch(1, None))),
        (2, seal(1, 3, vec![segment(1, &[(0, 0, 1)])])),
        (2, drop_segment(1)),
        (2, super::rolling::roll(0, 1, vec![])),
        (2, Command::RemoveTopic(internal::RemoveTopic { topic: TOPIC.to_bytes() })),
    ];
    let all = changes.len() + 1;
    for (at, (term, command)) in changes.into_iter().enumerate() {
        let effects = apply_in(&mut state, Term(term), at as u64 + 2, 0, &[command]).unwrap();
        assert!(effects.results[0].is_ok(), "{at}: {:?}", effects.results[0]);
        assert!(digests.insert(state.digest()), "change {at} does not show");
    }
    assert_eq!(digests.len(), all);
}
