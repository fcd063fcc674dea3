//! openraft's type parameters.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::impls::{EmptyNode, leader_id_std};

use super::promise::Promise;
use super::runtime::AlignedRuntime;
use crate::outcome::Results;

/// The payload of a normal entry: one pre-encoded frame of commands, never decoded on its way through Raft.
#[derive(Clone)]
pub(crate) struct EntryBytes {
    pub(super) bytes: Bytes,
    /// Kept once it is in the lane.
    pub(super) promises: Arc<[Promise]>,
}

impl EntryBytes {
    /// An entry whose commands were promised room.
    pub(crate) fn new(bytes: Bytes, promises: Vec<Promise>) -> Self {
        Self { bytes, promises: promises.into() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl From<Bytes> for EntryBytes {
    /// An entry that nothing was promised to.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, promises: Arc::default() }
    }
}

impl PartialEq for EntryBytes {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry of {} bytes", self.bytes.len())
    }
}

impl fmt::Display for EntryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The answers of an entry's commands.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(pub(super) Results);

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} results", self.0.len())
    }
}

openraft::declare_raft_types!(
    /// One leader a term, as in the Raft paper: a partition's leader epoch is its shard's term, so a term must not have
    /// two leaders.
    pub(super) TypeConfig:
        D = EntryBytes,
        R = Answers,
        NodeId = u64,
        Node = EmptyNode,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = AlignedRuntime,
);

pub(super) type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(super) type Membership = openraft::Membership<u64, EmptyNode>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(super) type LeaderId = leader_id_std::LeaderId<u64, u64>;
pub(super) type CommittedLeaderId = <LeaderId as openraft::vote::RaftLeaderId>::Committed;

/// The log id of an entry.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}
