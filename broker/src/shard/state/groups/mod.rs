//! Consumer groups, as the state of their shard remembers them: what goes on when another node leads it.
//!
//! G1: a generation is one more than the one before, and only members of the group's generation move its offsets. Whether a
//! member lives is not known here: its coordinator finds out, and says so with a command.

mod apply;
mod codec;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Offset, PartitionId, TopicId};

/// The most groups of a shard.
const MAX_GROUPS: usize = 10_000;
/// The most members of a group.
pub(crate) const MAX_MEMBERS: usize = 1_000;
/// The most offsets that a group commits.
pub(crate) const MAX_OFFSETS: usize = 100_000;
/// The longest id of a group.
pub(crate) const MAX_GROUP_ID_BYTES: usize = 1_024;
/// The longest instance id of a static member.
pub(crate) const MAX_INSTANCE_BYTES: usize = 249;
/// The longest of all other names: of members, clients, hosts, protocols.
pub(crate) const MAX_NAME_BYTES: usize = 512;
/// The most ways of assignment that a member knows.
pub(crate) const MAX_PROTOCOLS: usize = 32;
/// The most that a consumer says beside an offset.
pub(crate) const MAX_OFFSET_METADATA_BYTES: usize = 4 << 10;
/// Of all members of a group, with what they say and what is assigned to them.
pub(crate) const MAX_MEMBERSHIP_BYTES: usize = 2 << 20;
/// Of all groups of a shard, about.
const MAX_TABLE_BYTES: usize = 64 << 20;
/// What an entry of a map takes beside its texts, about.
const ENTRY_BYTES: usize = 96;
/// What a group takes beside its id, its members and its offsets, about.
const GROUP_BYTES: usize = 256;

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// Of a static member.
    pub(crate) instance: Option<String>,
    pub(crate) client_id: String,
    pub(crate) host: String,
    pub(crate) session_timeout_ms: u32,
    pub(crate) rebalance_timeout_ms: u32,
    /// Ways of assignment, the best first, each with what the leader is to know.
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
}

impl Member {
    /// What the member says for a way of assignment.
    pub(crate) fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata)
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let protocols: usize =
            self.protocols.iter().map(|(name, metadata)| ENTRY_BYTES + name.len() + metadata.len()).sum();
        let texts = self.instance.as_ref().map_or(0, String::len) + self.client_id.len() + self.host.len();
        ENTRY_BYTES + texts + protocols + self.assignment.len()
    }
}

/// What goes on in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It has no members.
    #[default]
    Empty,
    /// Its leader is to assign.
    Completing,
    /// Every member has an assignment.
    Stable,
}

/// Who is in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// How often it was changed: what a change is built on.
    pub(crate) revision: u64,
    /// 0 before the first.
    pub(crate) generation: i32,
    pub(crate) phase: Phase,
    /// Empty for a group that never had a member.
    pub(crate) protocol_type: String,
    /// Empty without members.
    pub(crate) protocol: String,
    /// Empty without members.
    pub(crate) leader: String,
    pub(crate) members: BTreeMap<String, Member>,
}

impl Membership {
    fn bytes(&self) -> usize {
        self.members.iter().map(|(id, member)| id.len() + member.bytes()).sum()
    }
}

/// How far a group has read in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    /// The next one to read.
    pub(crate) offset: Offset,
    pub(crate) leader_epoch: Option<u32>,
    /// What the consumer wants to remember beside it.
    pub(crate) metadata: String,
    /// Of the entry.
    pub(crate) time_ns: i64,
}

impl CommittedOffset {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.metadata.len()
    }
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    membership: Membership,
    offsets: BTreeMap<(TopicId, PartitionId), CommittedOffset>,
    /// Since when it has no members; 0 while it has.
    empty_since_ns: i64,
    /// Of members and offsets.
    bytes: usize,
}

impl Group {
    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Committed offsets, ascending by topic and partition.
    pub(crate) fn offsets(&self) -> &BTreeMap<(TopicId, PartitionId), CommittedOffset> {
        &self.offsets
    }

    /// Those of its offsets that nobody has needed since `before_ns`; `None` if the group itself goes on. It may have none.
    pub(crate) fn expired(&self, before_ns: i64) -> Option<Vec<(TopicId, PartitionId)>> {
        if self.membership.phase != Phase::Empty || self.empty_since_ns > before_ns {
            return None;
        }
        let expired = self.offsets.iter().filter(|(_, committed)| committed.time_ns <= before_ns);
        let expired: Vec<_> = expired.map(|(place, _)| *place).collect();
        (!expired.is_empty() || self.offsets.is_empty()).then_some(expired)
    }

    fn count_bytes(&mut self) {
        self.bytes = self.membership.bytes() + self.offsets.values().map(CommittedOffset::bytes).sum::<usize>();
    }
}

/// The groups of a shard. A copy of it shares them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct GroupTable {
    groups: BTreeMap<String, Arc<Group>>,
    /// Of all of them, with their ids.
    bytes: usize,
}

impl GroupTable {
    pub(crate) fn get(&self, group: &str) -> Option<&Arc<Group>> {
        self.groups.get(group)
    }

    /// All of them, ascending by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<Group>)> {
        self.groups.iter()
    }
}
