//! Groups as commands and states have them, their bounds checked. What is kept is copied: it does not hold an entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId, internal};

use super::super::digest::Sink;
use super::super::topic_id;
use super::apply::{check_bytes, check_id, invalid};
use super::{
    CommittedOffset, Group, GroupTable, MAX_INSTANCE_BYTES, MAX_MEMBERS, MAX_NAME_BYTES, MAX_OFFSET_METADATA_BYTES,
    MAX_OFFSETS, MAX_PROTOCOLS, Member, Membership, Phase,
};

impl Phase {
    fn number(self) -> u32 {
        match self {
            Phase::Empty => 1,
            Phase::Completing => 2,
            Phase::Stable => 3,
        }
    }
}

impl GroupTable {
    pub(in crate::shard::state) fn to_proto(&self) -> Vec<internal::ConsumerGroup> {
        self.iter().map(|(id, group)| group.to_proto(id)).collect()
    }

    /// # Errors
    /// [`Code::CorruptData`], [`Code::InvalidRequest`]: what contradicts itself in them, or is too much.
    pub(in crate::shard::state) fn from_proto(raw: &[internal::ConsumerGroup]) -> Result<Self, Error> {
        let mut groups = BTreeMap::<String, Arc<Group>>::new();
        for raw in raw {
            let (id, group) = decode(raw)?;
            if groups.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(invalid("its groups are not in their order"));
            }
            groups.insert(id, Arc::new(group));
        }
        Self::restored(groups)
    }

    /// Puts all groups into a hash: nothing if there are none.
    pub(in crate::shard::state) fn hash(&self, sink: &mut Sink) {
        if self.groups.is_empty() {
            return;
        }
        sink.count(self.groups.len());
        for (id, group) in self.iter() {
            sink.message(&group.membership.to_proto(id));
            sink.i64(group.empty_since_ns);
            sink.count(group.offsets.len());
            for (place, committed) in &group.offsets {
                sink.message(&committed_message(place, committed));
            }
        }
    }
}

impl Group {
    fn to_proto(&self, id: &str) -> internal::ConsumerGroup {
        internal::ConsumerGroup {
            membership: Some(self.membership.to_proto(id)),
            offsets: self.offsets.iter().map(|(place, committed)| committed_message(place, committed)).collect(),
            empty_since_ns: self.empty_since_ns,
        }
    }
}

impl Membership {
    /// As a command that is built on this revision, and as a state has it.
    pub(crate) fn to_proto(&self, group: &str) -> internal::GroupState {
        let member = |(id, member): (&String, &Member)| member.to_proto(id);
        internal::GroupState {
            group: group.to_owned(),
            expect: self.revision,
            generation: self.generation.unsigned_abs(),
            phase: self.phase.number(),
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.iter().map(member).collect(),
        }
    }
}

impl Member {
    fn to_proto(&self, id: &str) -> internal::GroupMember {
        let protocol = |(name, metadata): &(String, Bytes)| internal::GroupProtocol {
            name: name.clone(),
            metadata: metadata.clone(),
        };
        internal::GroupMember {
            member: id.to_owned(),
            instance: self.instance.clone().unwrap_or_default(),
            client: self.client_id.clone(),
            host: self.host.clone(),
            session_timeout_ms: self.session_timeout_ms,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            protocols: self.protocols.iter().map(protocol).collect(),
            assignment: self.assignment.clone(),
        }
    }
}

fn committed_message(
    (topic, partition): &(TopicId, PartitionId),
    committed: &CommittedOffset,
) -> internal::CommittedOffset {
    internal::CommittedOffset {
        topic: topic.to_bytes(),
        partition: partition.0,
        offset: committed.offset.0,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
        time_ns: committed.time_ns,
    }
}

fn decode(raw: &internal::ConsumerGroup) -> Result<(String, Group), Error> {
    let of = raw.membership.as_ref().ok_or_else(|| invalid("a group has no id"))?;
    check_id(&of.group)?;
    let mut group = Group { membership: membership(of)?, empty_since_ns: raw.empty_since_ns, ..Group::default() };
    check_bytes(&group.membership)?;
    if group.membership.phase != Phase::Empty && raw.empty_since_ns != 0 {
        return Err(invalid("a group has members and has none"));
    }
    if raw.offsets.len() > MAX_OFFSETS {
        return Err(invalid("a group has too many offsets"));
    }
    for raw in &raw.offsets {
        let (place, committed) = committed(raw, raw.time_ns)?;
        if group.offsets.last_key_value().is_some_and(|(last, _)| *last >= place) {
            return Err(invalid("the offsets of a group are not in their order"));
        }
        group.offsets.insert(place, committed);
    }
    group.count_bytes();
    Ok((of.group.clone(), group))
}

/// An offset that is committed at this time.
pub(super) fn committed(
    raw: &internal::CommittedOffset,
    time_ns: i64,
) -> Result<((TopicId, PartitionId), CommittedOffset), Error> {
    if raw.offset > i64::MAX as u64 {
        return Err(invalid("an offset is at most 2^63-1"));
    }
    if raw.metadata.len() > MAX_OFFSET_METADATA_BYTES {
        return Err(invalid("what a consumer says beside an offset has at most 4,096 bytes"));
    }
    let committed = CommittedOffset {
        offset: Offset(raw.offset),
        leader_epoch: raw.leader_epoch,
        metadata: raw.metadata.clone(),
        time_ns,
    };
    Ok(((topic_id(&raw.topic)?, PartitionId(raw.partition)), committed))
}

/// Who is in a group, as a command or a state says.
///
/// # Errors
/// [`Code::InvalidRequest`]: it contradicts itself, or is too much; [`Code::NewerVersion`] for a phase of a later version.
pub(super) fn membership(raw: &internal::GroupState) -> Result<Membership, Error> {
    let phase = match raw.phase {
        1 => Phase::Empty,
        2 => Phase::Completing,
        3 => Phase::Stable,
        other => return Err(Error::new(Code::NewerVersion, format!("phase {other} of a group is not known"))),
    };
    if raw.members.len() > MAX_MEMBERS {
        return Err(invalid("a group has at most 1,000 members"));
    }
    for text in [&raw.protocol_type, &raw.protocol, &raw.leader] {
        check_name(text)?;
    }
    let mut members = BTreeMap::<String, Member>::new();
    for raw in &raw.members {
        let (id, member) = self::member(raw)?;
        if members.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(invalid("the members of a group are not in their order"));
        }
        members.insert(id, member);
    }
    let generation = i32::try_from(raw.generation).map_err(|_| invalid("a generation is at most 2^31-1"))?;
    let membership = Membership {
        revision: raw.expect,
        generation,
        phase,
        protocol_type: raw.protocol_type.clone(),
        protocol: raw.protocol.clone(),
        leader: raw.leader.clone(),
        members,
    };
    check(&membership).map(|()| membership)
}

/// What has to hold of the members of any group.
fn check(membership: &Membership) -> Result<(), Error> {
    let Membership { phase, protocol_type, protocol, leader, members, .. } = membership;
    if *phase == Phase::Empty {
        let is_empty = members.is_empty() && protocol.is_empty() && leader.is_empty();
        return is_empty.then_some(()).ok_or_else(|| invalid("an empty group has no members, and no protocol"));
    }
    if protocol_type.is_empty() || !members.contains_key(leader) {
        return Err(invalid("a group with members is of a type, and one of them leads"));
    }
    if members.values().any(|member| member.metadata(protocol).is_none()) {
        return Err(invalid("every member of a group knows its way of assignment"));
    }
    let mut instances = BTreeSet::new();
    match members.values().filter_map(|member| member.instance.as_ref()).all(|instance| instances.insert(instance)) {
        true => Ok(()),
        false => Err(invalid("two members of a group have one instance id")),
    }
}

fn member(raw: &internal::GroupMember) -> Result<(String, Member), Error> {
    for text in [&raw.member, &raw.client, &raw.host] {
        check_name(text)?;
    }
    if raw.member.is_empty() || raw.instance.len() > MAX_INSTANCE_BYTES {
        return Err(invalid("a member has an id, and an instance id of at most 249 bytes"));
    }
    if raw.protocols.is_empty() || raw.protocols.len() > MAX_PROTOCOLS {
        return Err(invalid("a member knows 1 to 32 ways of assignment"));
    }
    let copied = |raw: &internal::GroupProtocol| {
        check_name(&raw.name)?;
        Ok((raw.name.clone(), Bytes::copy_from_slice(&raw.metadata)))
    };
    let member = Member {
        instance: (!raw.instance.is_empty()).then(|| raw.instance.clone()),
        client_id: raw.client.clone(),
        host: raw.host.clone(),
        session_timeout_ms: raw.session_timeout_ms,
        rebalance_timeout_ms: raw.rebalance_timeout_ms,
        protocols: raw.protocols.iter().map(copied).collect::<Result<_, Error>>()?,
        assignment: Bytes::copy_from_slice(&raw.assignment),
    };
    Ok((raw.member.clone(), member))
}

fn check_name(text: &str) -> Result<(), Error> {
    match text.len() <= MAX_NAME_BYTES {
        true => Ok(()),
        false => Err(invalid("a name of a group or of one of its members has at most 512 bytes")),
    }
}
