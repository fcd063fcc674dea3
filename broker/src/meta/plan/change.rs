//! A change of who has the replicas of a shard.

use stratalog_proto::entry::Command;
use stratalog_proto::{NodeId, ReplicaId, ShardId, internal};

use super::super::view::Placement;

/// What is to be proposed as `ChangeReplicas`, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) shard: ShardId,
    /// The replicas that the change was planned on, ascending.
    pub(crate) expect: Vec<ReplicaId>,
    /// Nodes that get a replica, or keep one that was about to leave.
    pub(crate) add: Vec<NodeId>,
    /// Replicas that leave, and their nodes.
    pub(crate) remove: Vec<(ReplicaId, NodeId)>,
    /// In a few words, for a person.
    pub(crate) reason: String,
}

impl Change {
    /// A change of a shard that does nothing yet.
    pub(super) fn of(shard: ShardId, placement: &Placement, reason: impl Into<String>) -> Self {
        let expect = placement.replicas.keys().copied().collect();
        Self { shard, expect, add: Vec::new(), remove: Vec::new(), reason: reason.into() }
    }

    /// Whether it does nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }

    /// Each replica that comes with one that goes: (from, to).
    pub(crate) fn moves(&self) -> impl Iterator<Item = (Option<NodeId>, Option<NodeId>)> {
        let moves = self.add.len().max(self.remove.len());
        (0..moves).map(|at| (self.remove.get(at).map(|(_, node)| *node), self.add.get(at).copied()))
    }

    /// As it is proposed.
    pub(crate) fn command(&self) -> Command {
        Command::ChangeReplicas(internal::ChangeReplicas {
            shard: self.shard.0,
            expect: self.expect.iter().map(|replica| replica.0).collect(),
            add: self.add.iter().map(|node| node.0).collect(),
            remove: self.remove.iter().map(|(replica, _)| replica.0).collect(),
        })
    }
}
