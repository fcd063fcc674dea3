//! G1: members and offsets of consumer groups.

use prost::Message;

use super::super::digest::HASH_EVERY;
use super::*;
use crate::shard::{MAX_MEMBERS, Phase};

const GROUP: &str = "readers";

fn member(id: &str) -> internal::GroupMember {
    internal::GroupMember {
        member: id.to_owned(),
        session_timeout_ms: 6_000,
        protocols: vec![internal::GroupProtocol { name: "range".to_owned(), ..Default::default() }],
        ..Default::default()
    }
}

fn change(expect: u64, generation: u32, phase: u32, members: &[&str]) -> internal::GroupState {
    let is_empty = members.is_empty();
    internal::GroupState {
        group: GROUP.to_owned(),
        expect,
        generation,
        phase,
        protocol_type: "consumer".to_owned(),
        protocol: if is_empty { String::new() } else { "range".to_owned() },
        leader: members.first().map(|id| (*id).to_owned()).unwrap_or_default(),
        members: members.iter().map(|id| member(id)).collect(),
    }
}

fn commit(generation: i32, member: &str, offsets: &[(u32, u64)]) -> Command {
    let offset = |&(partition, offset): &(u32, u64)| internal::CommittedOffset {
        topic: TOPIC.to_bytes(),
        partition,
        offset,
        ..Default::default()
    };
    Command::CommitOffsets(internal::CommitOffsets {
        group: GROUP.to_owned(),
        generation,
        member: member.to_owned(),
        instance: String::new(),
        offsets: offsets.iter().map(offset).collect(),
    })
}

fn places(partitions: &[u32]) -> Vec<internal::OffsetPlace> {
    partitions.iter().map(|&partition| internal::OffsetPlace { topic: TOPIC.to_bytes(), partition }).collect()
}

fn expire(before_ns: i64, partitions: &[u32]) -> Command {
    Command::ExpireOffsets(internal::ExpireOffsets { group: GROUP.to_owned(), before_ns, offsets: places(partitions) })
}

fn delete() -> Command {
    Command::DeleteGroup(internal::DeleteGroup { group: GROUP.to_owned() })
}

/// Applies a command; its code, if it is refused.
fn one(state: &mut ShardState, time_ns: i64, command: Command) -> Result<(), Code> {
    let index = 1 + state.groups().iter().count() as u64;
    let result = codes(apply(state, index, time_ns, &[command])).remove(0);
    assert_eq!(ShardState::decode(state.encode().into()).as_ref(), Ok(&*state), "it can be kept");
    result.map(|result| assert_eq!(result, CommandResult::Done))
}

/// With members `a`, which leads, and `b`, in generation 1.
fn stable() -> ShardState {
    let mut state = ShardState::new();
    assert_eq!(one(&mut state, 1, Command::GroupState(change(0, 1, 2, &["a", "b"]))), Ok(()));
    assert_eq!(one(&mut state, 2, Command::GroupState(change(1, 1, 3, &["a", "b"]))), Ok(()));
    state
}

fn offsets(state: &ShardState) -> Vec<(u32, u64, i64)> {
    let group = state.groups().get(GROUP);
    let offsets = group.iter().flat_map(|group| group.offsets());
    offsets.map(|((_, partition), of)| (partition.0, of.offset.0, of.time_ns)).collect()
}

#[test]
fn g1_a_generation_is_one_more_than_the_one_before() {
    let mut state = stable();
    for (generation, phase) in [(0, 2), (1, 2), (3, 2), (1, 1), (2, 3), (0, 3)] {
        let members: &[&str] = if phase == 1 { &[] } else { &["a"] };
        let changed = one(&mut state, 3, Command::GroupState(change(2, generation, phase, members)));
        assert_eq!(changed, Err(Code::InvalidRequest), "generation {generation}, phase {phase}");
    }
    assert_eq!(one(&mut state, 3, Command::GroupState(change(1, 2, 2, &["a"]))), Err(Code::Conflict));
    assert_eq!(one(&mut state, 3, Command::GroupState(change(2, 2, 1, &[]))), Ok(()));
    assert_eq!(one(&mut state, 3, Command::GroupState(change(3, 2, 3, &["a"]))), Err(Code::InvalidRequest));
    assert_eq!(one(&mut state, 3, Command::GroupState(change(3, 3, 2, &["a"]))), Ok(()));
    let of = state.groups().get(GROUP).unwrap().membership();
    assert_eq!((of.revision, of.generation, of.phase), (4, 3, Phase::Completing));
}

#[test]
fn g1_offsets_are_moved_by_members_of_the_generation_alone() {
    let mut state = stable();
    assert_eq!(one(&mut state, 5, commit(1, "b", &[(0, 10), (1, 7)])), Ok(()));
    assert_eq!(one(&mut state, 6, commit(0, "b", &[(0, 1)])), Err(Code::IllegalGeneration));
    assert_eq!(one(&mut state, 6, commit(2, "b", &[(0, 1)])), Err(Code::IllegalGeneration));
    assert_eq!(one(&mut state, 6, commit(1, "c", &[(0, 1)])), Err(Code::UnknownMember));
    assert_eq!(one(&mut state, 6, commit(-1, "", &[(0, 1)])), Err(Code::UnknownMember));
    assert_eq!(one(&mut state, 6, Command::GroupState(change(2, 2, 2, &["a"]))), Ok(()));
    assert_eq!(one(&mut state, 7, commit(1, "a", &[(0, 1)])), Err(Code::IllegalGeneration));
    assert_eq!(one(&mut state, 7, commit(2, "a", &[(0, 1)])), Err(Code::RebalanceInProgress));
    assert_eq!(one(&mut state, 7, Command::GroupState(change(3, 2, 3, &["a"]))), Ok(()));
    assert_eq!(one(&mut state, 8, commit(2, "a", &[(0, 11)])), Ok(()));
    assert_eq!(offsets(&state), [(0, 11, 8), (1, 7, 5)]);
}

#[test]
fn g1_an_instance_that_another_process_has_commits_nothing() {
    let mut state = ShardState::new();
    let mut with_instance = change(0, 1, 2, &["a", "b"]);
    with_instance.members[1].instance = "box".to_owned();
    assert_eq!(one(&mut state, 1, Command::GroupState(with_instance.clone())), Ok(()));
    let stable = internal::GroupState { expect: 1, phase: 3, ..with_instance };
    assert_eq!(one(&mut state, 1, Command::GroupState(stable)), Ok(()));
    let of = |member: &str, instance: &str| {
        let Command::CommitOffsets(mut commit) = commit(1, member, &[(0, 1)]) else { unreachable!() };
        commit.instance = instance.to_owned();
        Command::CommitOffsets(commit)
    };
    assert_eq!(one(&mut state, 2, of("a", "box")), Err(Code::FencedInstance));
    assert_eq!(one(&mut state, 2, of("b", "crate")), Err(Code::UnknownMember));
    assert_eq!(one(&mut state, 2, of("b", "box")), Ok(()));
}

#[test]
fn consumers_without_a_group_protocol_commit_while_nobody_is_in_the_group() {
    let mut state = ShardState::new();
    assert_eq!(one(&mut state, 1, commit(1, "a", &[(0, 1)])), Err(Code::IllegalGeneration));
    assert_eq!(one(&mut state, 1, commit(-1, "", &[])), Ok(()));
    assert!(state.groups().get(GROUP).is_none(), "nothing was committed");
    assert_eq!(one(&mut state, 2, commit(-1, "", &[(0, 5)])), Ok(()));
    assert_eq!(one(&mut state, 3, commit(-1, "", &[(0, 2)])), Ok(()), "an explicit reset");
    assert_eq!(offsets(&state), [(0, 2, 3)]);
    assert_eq!(one(&mut state, 4, Command::GroupState(change(0, 1, 2, &["a"]))), Ok(()));
    assert_eq!(one(&mut state, 4, commit(-1, "", &[(0, 9)])), Err(Code::UnknownMember));
    assert_eq!(offsets(&state), [(0, 2, 3)], "they are the group's");
}

#[test]
fn a_group_with_members_is_not_deleted() {
    let mut state = stable();
    assert_eq!(one(&mut state, 3, commit(1, "a", &[(0, 1), (1, 1)])), Ok(()));
    assert_eq!(one(&mut state, 3, delete()), Err(Code::GroupNotEmpty));
    let forget = || internal::DeleteOffsets { group: GROUP.to_owned(), offsets: places(&[0, 9]) };
    assert_eq!(one(&mut state, 3, Command::DeleteOffsets(forget())), Ok(()));
    assert_eq!(offsets(&state), [(1, 1, 3)]);
    assert_eq!(one(&mut state, 4, Command::GroupState(change(2, 2, 1, &[]))), Ok(()));
    assert_eq!(one(&mut state, 5, delete()), Ok(()));
    assert_eq!(one(&mut state, 5, delete()), Err(Code::UnknownGroup));
    assert_eq!(one(&mut state, 5, Command::DeleteOffsets(forget())), Err(Code::UnknownGroup));
    assert_eq!(ShardState { time_ns: i64::MIN, ..state }, ShardState::new(), "nothing is left");
}

#[test]
fn offsets_expire_once_a_group_was_empty_for_long_and_what_was_used_meanwhile_stays() {
    let mut state = stable();
    assert_eq!(one(&mut state, 10, commit(1, "a", &[(0, 1), (1, 1)])), Ok(()));
    assert_eq!(one(&mut state, 11, expire(i64::MAX, &[0, 1])), Ok(()));
    assert_eq!(offsets(&state).len(), 2, "it has members");
    assert_eq!(one(&mut state, 20, Command::GroupState(change(2, 2, 1, &[]))), Ok(()));
    assert_eq!(one(&mut state, 21, expire(19, &[0, 1])), Ok(()));
    assert_eq!(offsets(&state).len(), 2, "it had members by then");
    assert_eq!(one(&mut state, 30, commit(-1, "", &[(1, 2)])), Ok(()));
    assert_eq!(one(&mut state, 31, expire(29, &[0, 1])), Ok(()));
    assert_eq!(offsets(&state), [(1, 2, 30)]);
    assert_eq!(one(&mut state, 32, expire(30, &[])), Ok(()));
    assert_eq!(offsets(&state).len(), 1, "only what is listed goes");
    assert_eq!(one(&mut state, 32, expire(30, &[1])), Ok(()));
    assert!(state.groups().get(GROUP).is_none(), "the group goes with its last offset");
}

#[test]
fn x1_members_that_contradict_each_other_are_refused() {
    type Change = fn(&mut internal::GroupState);
    let changes: &[(&str, Change)] = &[
        ("no id", |s| s.group.clear()),
        ("an id that is too long", |s| s.group = "g".repeat(1_025)),
        ("no members", |s| s.members.clear()),
        ("members out of order", |s| s.members.swap(0, 1)),
        ("a member twice", |s| s.members[1] = s.members[0].clone()),
        ("too many members", |s| s.members = (0..=MAX_MEMBERS).map(|n| member(&format!("{n:05}"))).collect()),
        ("a leader that is no member", |s| s.leader = "c".to_owned()),
        ("no type", |s| s.protocol_type.clear()),
        ("a way that nobody knows", |s| s.protocol = "sticky".to_owned()),
        ("a member that knows no way", |s| s.members[1].protocols.clear()),
        ("an instance twice", |s| s.members.iter_mut().for_each(|m| m.instance = "box".to_owned())),
        ("a name that is too long", |s| s.members[0].client = "c".repeat(513)),
        ("a generation above 2^31", |s| s.generation = 1 << 31),
        ("an empty group with members", |s| s.phase = 1),
    ];
    for (name, contradict) in changes {
        let mut raw = change(0, 1, 2, &["a", "b"]);
        contradict(&mut raw);
        assert_eq!(one(&mut ShardState::new(), 1, Command::GroupState(raw)), Err(Code::InvalidRequest), "{name}");
    }
    let mut large = change(0, 1, 2, &["a", "b"]);
    large.members[0].assignment = vec![0; 2 << 20].into();
    assert_eq!(one(&mut ShardState::new(), 1, Command::GroupState(large)), Err(Code::MessageTooLarge));
}

#[test]
fn x1_groups_and_offsets_are_bounded() {
    let mut state = ShardState::new();
    let of_group = |group: u32, metadata: usize| {
        let Command::CommitOffsets(mut commit) = commit(-1, "", &[(0, 1)]) else { unreachable!() };
        (commit.group, commit.offsets[0].metadata) = (format!("g{group}"), "m".repeat(metadata));
        Command::CommitOffsets(commit)
    };
    assert_eq!(one(&mut state, 1, of_group(0, 4_097)), Err(Code::InvalidRequest));
    assert_eq!(one(&mut state, 1, commit(-1, "", &[(0, u64::MAX)])), Err(Code::InvalidRequest));
    let commits: Vec<_> = (0..10_001).map(|group| of_group(group, 0)).collect();
    let results = codes(apply(&mut state, 1, 1, &commits));
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10_000);
    assert_eq!(results[10_000], Err(Code::Overloaded));
    assert_eq!(one(&mut state, 2, of_group(3, 4_096)), Ok(()), "a group that there is goes on");

    let mut state = ShardState::new();
    let wide = |first: u32| {
        let Command::CommitOffsets(mut commit) = commit(-1, "", &[]) else { unreachable!() };
        let offset = |partition| internal::CommittedOffset {
            topic: TOPIC.to_bytes(),
            partition,
            metadata: "m".repeat(4_000),
            ..Default::default()
        };
        commit.offsets = (first..first + 1_000).map(offset).collect();
        Command::CommitOffsets(commit)
    };
    let commits: Vec<_> = (0..20).map(|part| wide(part * 1_000)).collect();
    let results = codes(apply(&mut state, 1, 1, &commits));
    assert_eq!((results[15].is_ok(), &results[16]), (true, &Err(Code::Overloaded)), "64 MiB");
    let held = offsets(&state).len();
    assert_eq!(codes(apply(&mut state, 2, 1, &[expire(1, &[0]), wide(0)]))[1], Ok(CommandResult::Done));
    assert_eq!(offsets(&state).len(), held);
}

#[test]
fn x1_a_state_whose_groups_contradict_themselves_is_refused() {
    type Change = fn(&mut internal::ShardState);
    let changes: &[(&str, Change)] = &[
        ("groups twice", |s| s.groups.push(s.groups[0].clone())),
        ("a group without an id", |s| s.groups[0].membership = None),
        ("offsets out of order", |s| s.groups[0].offsets.swap(0, 1)),
        ("a topic id of 3 bytes", |s| s.groups[0].offsets[0].topic = Bytes::from_static(b"abc")),
        ("an offset above 2^63", |s| s.groups[0].offsets[0].offset = 1 << 63),
        ("empty with members", |s| s.groups[0].empty_since_ns = 5),
        ("no leader", |s| s.groups[0].membership.as_mut().unwrap().leader.clear()),
    ];
    let mut state = stable();
    assert_eq!(one(&mut state, 3, commit(1, "a", &[(0, 1), (1, 1)])), Ok(()));
    for (name, contradict) in changes {
        let mut raw = internal::ShardState::decode(Bytes::from(state.encode())).unwrap();
        contradict(&mut raw);
        let refused = ShardState::decode(raw.encode_to_vec().into()).unwrap_err();
        assert_eq!(refused.code, Code::CorruptData, "{name}: {refused}");
    }
    let mut newer = internal::ShardState::decode(Bytes::from(state.encode())).unwrap();
    newer.groups[0].membership.as_mut().unwrap().phase = 9;
    assert_eq!(ShardState::decode(newer.encode_to_vec().into()).unwrap_err().code, Code::NewerVersion);
}

#[test]
fn a1_groups_are_part_of_the_hash_once_there_are_any() {
    let digest = |commands: &[Command]| {
        let mut state = ShardState::new();
        apply(&mut state, HASH_EVERY, 9, commands).hashed.unwrap().hash
    };
    let first = Command::GroupState(change(0, 1, 2, &["a"]));
    let all = [
        digest(&[Command::Barrier(internal::Barrier {})]),
        digest(std::slice::from_ref(&first)),
        digest(&[commit(-1, "", &[(0, 1)])]),
        digest(&[commit(-1, "", &[(0, 2)])]),
        digest(&[commit(-1, "", &[(0, 1)]), first]),
    ];
    assert!((1..all.len()).all(|n| !all[..n].contains(&all[n])), "each differs");
    assert_eq!(digest(&[commit(-1, "", &[(0, 1)]), delete()]), all[0]);
}
