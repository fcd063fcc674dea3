//! The state in bytes, damaged and whole. That every state survives is a property of histories.

use prost::Message;

use super::*;

fn refused(change: impl FnOnce(&mut internal::ShardState)) -> Code {
    let mut state = hosting(&[0, 1]);
    let sent = |sequence| append(0, batch(2, Some((1, 0, sequence))));
    apply(&mut state, 2, 5, &[sent(0), append(1, batch(1, None)), sent(2)]);
    apply(&mut state, 3, 5, &[seal(1, 2, vec![segment(1, &[(0, 0, 4), (1, 0, 1)])]), sent(4)]);
    let mut raw = internal::ShardState::decode(Bytes::from(state.encode())).unwrap();
    assert_eq!(ShardState::decode(raw.encode_to_vec().into()), Ok(state));
    change(&mut raw);
    ShardState::decode(raw.encode_to_vec().into()).unwrap_err().code
}

#[test]
fn x1_a_state_that_contradicts_itself_is_refused() {
    type Change = fn(&mut internal::ShardState);
    fn partition(state: &mut internal::ShardState) -> &mut internal::PartitionState {
        &mut state.topics[0].partitions[0]
    }
    let changes: &[(&str, Change)] = &[
        ("topics twice", |s| s.topics.push(s.topics[0].clone())),
        ("partitions out of order", |s| s.topics[0].partitions.swap(0, 1)),
        ("no settings", |s| s.topics[0].config = None),
        ("a topic id of 3 bytes", |s| s.topics[0].topic = Bytes::from_static(b"abc")),
        ("a hole", |s| _ = partition(s).batches.remove(1)),
        ("an overlap", |s| partition(s).batches[1].base_offset -= 1),
        ("no records", |s| partition(s).batches[0].records = 0),
        ("offsets past the end of i64", |s| partition(s).batches[0].base_offset = u64::MAX),
        ("batches out of order", |s| partition(s).batches[1].at = 0),
        ("batches behind the replay frontier", |s| s.replay_frontier = 2),
        ("a high watermark elsewhere", |s| partition(s).high_watermark += 1),
        ("a log start above the high watermark", |s| partition(s).log_start = 7),
        ("sealed above the high watermark", |s| partition(s).sealed = 7),
        ("no epoch", |s| partition(s).epochs.clear()),
        ("an epoch above the high watermark", |s| {
            partition(s).epochs.push(internal::LeaderEpoch { term: 9, first: 6 });
        }),
        ("epochs out of order", |s| {
            partition(s).epochs.push(internal::LeaderEpoch { term: 0, first: 3 });
        }),
        ("producers twice", |s| s.producers.push(s.producers[0].clone())),
        ("too many batches of a producer", |s| {
            let first = s.producers[0].recent[0];
            s.producers[0].recent.resize(6, first);
        }),
        ("no batches of a producer", |s| s.producers[0].recent.clear()),
        ("a producer's epoch of 32 bits", |s| s.producers[0].epoch = 70_000),
        ("a hash of no bytes", |s| s.hashed_at = 4_096),
    ];
    for (name, change) in changes {
        assert_eq!(refused(change), Code::CorruptData, "{name}");
    }
}

#[test]
fn a_state_of_a_newer_version_is_refused_as_such() {
    assert_eq!(refused(|state| state.topics[0].config.as_mut().unwrap().format = 99), Code::NewerVersion);
    assert_eq!(refused(|state| state.topics[0].segments[0].kind = 99), Code::NewerVersion);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn x1_damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut state = hosting(&[0, 1]);
        apply(&mut state, 2, 5, &[append(0, batch(2, Some((1, 0, 0)))), append(1, batch(1, None))]);
        let mut bytes = state.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = ShardState::decode(bytes.into());
    }
}
