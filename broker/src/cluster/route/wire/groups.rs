//! The consumer groups of a shard, as its leader knows them.

use bytes::Bytes;
use prost::Message;
use stratalog_proto::{Error, Offset, PartitionId, ShardId, internal};
use stratalog_transport::Frame;

use super::super::decode;
use super::{Missed, request, success, topic_id};
use crate::groups::{Committed, Described, DescribedMember, GroupState, GroupStatus};

/// Asks for one group, or for all in short.
pub(crate) fn groups_of(shard: ShardId, group: Option<&str>) -> Frame {
    let asked = internal::GroupsOf { shard: shard.0, group: group.map(str::to_owned) };
    Frame::head(asked.encode_to_vec())
}

/// Reads such a frame.
pub(crate) fn read_groups_of(frame: Frame) -> Result<(ShardId, Option<String>), Error> {
    let asked: internal::GroupsOf = request(frame.head)?;
    Ok((ShardId(asked.shard), asked.group))
}

/// The groups as the frame of an answer.
pub(crate) fn groups_answer(groups: &[GroupStatus]) -> Frame {
    success(&internal::GroupsAnswer { groups: groups.iter().map(to_wire).collect() }, Vec::new())
}

/// Reads such an answer.
pub(crate) fn read_groups(body: Bytes) -> Result<Vec<GroupStatus>, Missed> {
    let answer: internal::GroupsAnswer = decode(body)?;
    answer.groups.into_iter().map(from_wire).collect()
}

/// By their numbers on the wire.
const STATES: [GroupState; 5] = [
    GroupState::Dead,
    GroupState::Empty,
    GroupState::PreparingRebalance,
    GroupState::CompletingRebalance,
    GroupState::Stable,
];

fn to_wire(status: &GroupStatus) -> internal::GroupAnswer {
    let described = &status.described;
    let state = STATES.iter().position(|state| *state == described.state).expect("all are listed");
    internal::GroupAnswer {
        group: status.group.clone(),
        state: state as u32,
        protocol_type: described.protocol_type.clone(),
        protocol: described.protocol.clone(),
        generation: described.generation,
        members: described.members.iter().map(member_to_wire).collect(),
        offsets: status.offsets.iter().map(offset_to_wire).collect(),
    }
}

fn from_wire(answer: internal::GroupAnswer) -> Result<GroupStatus, Missed> {
    let unknown = || Missed::Unknown(format!("another node says that a group is in the state {}", answer.state));
    let state = *STATES.get(answer.state as usize).ok_or_else(unknown)?;
    let described = Described {
        state,
        protocol_type: answer.protocol_type,
        protocol: answer.protocol,
        generation: answer.generation,
        members: answer.members.into_iter().map(member_from_wire).collect(),
    };
    let offsets = answer.offsets.into_iter().map(offset_from_wire).collect::<Result<_, _>>()?;
    Ok(GroupStatus { group: answer.group, described, offsets })
}

fn member_to_wire(member: &DescribedMember) -> internal::GroupMemberAnswer {
    internal::GroupMemberAnswer {
        member: member.member_id.clone(),
        instance: member.instance.clone().unwrap_or_default(),
        client: member.client_id.clone(),
        host: member.host.clone(),
        metadata: member.metadata.clone(),
        assignment: member.assignment.clone(),
    }
}

fn member_from_wire(answer: internal::GroupMemberAnswer) -> DescribedMember {
    DescribedMember {
        member_id: answer.member,
        instance: Some(answer.instance).filter(|instance| !instance.is_empty()),
        client_id: answer.client,
        host: answer.host,
        metadata: answer.metadata,
        assignment: answer.assignment,
    }
}

fn offset_to_wire(committed: &Committed<'_>) -> internal::GroupOffsetAnswer {
    internal::GroupOffsetAnswer {
        topic: committed.topic.to_bytes(),
        partition: committed.partition.0,
        offset: committed.offset.0,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone().into_owned(),
    }
}

fn offset_from_wire(committed: internal::GroupOffsetAnswer) -> Result<Committed<'static>, Missed> {
    Ok(Committed {
        topic: topic_id(&committed.topic).map_err(|error| Missed::Unknown(error.message))?,
        partition: PartitionId(committed.partition),
        offset: Offset(committed.offset),
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.into(),
    })
}
