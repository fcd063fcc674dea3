//! X1: entries and states of the metadata, mutated.

use bytes::Bytes;
use stratalog_mutation::Decoder;
use stratalog_proto::RaftIndex;
use stratalog_proto::entry::{Command, Entry, EntryBuilder};
use stratalog_proto::fuzzing::commands;

use super::state::MetaState;

/// An entry, applied to the metadata of a new cluster.
const APPLY: Decoder =
    Decoder { name: "meta_apply", samples: entries, run: apply_bytes, words: &[], memory_bytes: 4 << 20 };

fn of_meta() -> Vec<Command> {
    let is_of_meta = |command: &Command| {
        use Command::{Append, Barrier, Drop, Seal};
        !matches!(command, Append(_) | Barrier(_) | Drop(_) | Seal(_))
    };
    commands().into_iter().filter(is_of_meta).collect()
}

fn entry(commands: &[Command]) -> Bytes {
    let mut builder = EntryBuilder::with_capacity(0);
    commands.iter().for_each(|command| builder.push(command));
    builder.finish(5)
}

fn entries() -> Vec<Vec<u8>> {
    let all = of_meta();
    all.chunks(6).map(|commands| entry(commands).to_vec()).collect()
}

fn begun() -> MetaState {
    let mut state = MetaState::default();
    let begin: Vec<Command> = of_meta()
        .into_iter()
        .filter(|command| matches!(command, Command::InitCluster(_) | Command::PutNode(_) | Command::CreateTopic(_)))
        .collect();
    state.apply(RaftIndex(1), &Entry::parse(entry(&begin)).unwrap()).unwrap();
    state
}

fn apply_bytes(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(Bytes::copy_from_slice(bytes)) else { return false };
    let mut state = begun();
    let applied = state.apply(RaftIndex(2), &entry).is_ok();
    if applied {
        assert_eq!(MetaState::decode(state.encode().into()).map(|state| state.encode()), Ok(state.encode()));
    }
    applied
}

/// The image of a state.
const STATE: Decoder =
    Decoder { name: "meta_state", samples: states, run: read_state, words: &[], memory_bytes: 4 << 20 };

fn states() -> Vec<Vec<u8>> {
    vec![MetaState::default().encode(), begun().encode()]
}

fn read_state(bytes: &[u8]) -> bool {
    let Ok(mut state) = MetaState::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(MetaState::decode(state.encode().into()).map(|state| state.encode()), Ok(state.encode()));
    let _ = state.apply(RaftIndex(9), &Entry::parse(entry(&of_meta())).unwrap());
    true
}

#[test]
fn x1_metadata_that_lies() {
    APPLY.check();
    STATE.check();
}
