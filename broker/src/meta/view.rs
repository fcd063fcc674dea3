//! The cluster as the metadata knows it: what the rest of a node acts on. Pure data, of one moment.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::{NodeId, ReplicaId, ShardId};
use uuid::Uuid;

/// The nodes of the cluster, and who has a replica of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClusterView {
    /// `None` until the cluster has begun.
    pub(crate) cluster: Option<Uuid>,
    /// The replication of topics that ask for none.
    pub(crate) replication: u32,
    /// What may be proposed.
    pub(crate) feature_level: u32,
    /// Every replica id below it was given, and means one replica for ever: one that no shard names is gone.
    pub(crate) next_replica: u64,
    pub(crate) nodes: BTreeMap<NodeId, NodeView>,
    /// Ids of nodes that were taken out. They never come back.
    pub(crate) removed_nodes: BTreeSet<NodeId>,
    /// The metadata group is shard 0.
    pub(crate) shards: BTreeMap<ShardId, Placement>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) incarnation: Uuid,
    /// host:port, for other nodes and for clients.
    pub(crate) peer_address: String,
    pub(crate) grpc_address: String,
    pub(crate) http_address: String,
    pub(crate) kafka_address: String,
    /// Of its further listeners, by their names.
    pub(crate) kafka_listeners: BTreeMap<String, String>,
    /// Empty: none.
    pub(crate) zone: String,
    pub(crate) version: String,
    pub(crate) feature_level: u32,
    /// It gives its replicas away.
    pub(crate) draining: bool,
}

/// Who has, or is to have, a replica of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Voters that it is to have.
    pub(crate) replication: u32,
    pub(crate) replicas: BTreeMap<ReplicaId, ReplicaView>,
}

/// A replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaView {
    pub(crate) node: NodeId,
    pub(crate) role: Role,
}

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Is to become a voter, once it is complete.
    Joining,
    Voter,
    /// Is to leave.
    Leaving,
    /// Stays without a vote: of the metadata group only.
    Learner,
    /// Of a shard whose group nobody has begun: the replica that says first that it begins it is its voter, and all others
    /// join. All replicas of a shard are founding, or none is.
    Founding,
}

impl Role {
    /// As commands and state files have it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Role::Joining => 1,
            Role::Voter => 2,
            Role::Leaving => 3,
            Role::Learner => 4,
            Role::Founding => 5,
        }
    }

    /// The role of a number; `None` for one that has none.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        let all = [Role::Joining, Role::Voter, Role::Leaving, Role::Learner, Role::Founding];
        all.into_iter().find(|role| role.number() == number)
    }
}

impl Placement {
    /// Replicas that come or go: a change of the shard is under way while there are any.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (ReplicaId, Role)> {
        let pending = |view: &ReplicaView| matches!(view.role, Role::Joining | Role::Leaving | Role::Founding);
        self.replicas.iter().filter(move |(_, view)| pending(view)).map(|(replica, view)| (*replica, view.role))
    }

    /// Replicas that have, or had, a vote.
    pub(crate) fn voters(&self) -> impl Iterator<Item = (ReplicaId, NodeId)> {
        let votes = |view: &ReplicaView| matches!(view.role, Role::Voter | Role::Leaving);
        self.replicas.iter().filter(move |(_, view)| votes(view)).map(|(replica, view)| (*replica, view.node))
    }

    /// Where replicas are that have, or had, a vote.
    pub(crate) fn voter_nodes(&self) -> impl Iterator<Item = NodeId> {
        self.voters().map(|(_, node)| node)
    }

    /// Replicas beside `this` one that have, or had, a vote.
    pub(crate) fn other_voters(&self, this: ReplicaId) -> Vec<u64> {
        self.voters().filter(|(replica, _)| *replica != this).map(|(replica, _)| replica.0).collect()
    }

    /// Replicas that have a vote and keep it, or are to get one.
    pub(crate) fn staying(&self) -> impl Iterator<Item = (ReplicaId, NodeId)> {
        let stays = |view: &ReplicaView| matches!(view.role, Role::Joining | Role::Voter | Role::Founding);
        self.replicas.iter().filter(move |(_, view)| stays(view)).map(|(replica, view)| (*replica, view.node))
    }

    /// Whether nobody has begun the group yet.
    pub(crate) fn is_new(&self) -> bool {
        self.replicas.values().any(|view| view.role == Role::Founding)
    }
}

impl ClusterView {
    /// Whether the node takes replicas.
    pub(crate) fn is_active(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|view| !view.draining)
    }

    /// Shards that hold records: all but the metadata group.
    pub(crate) fn data_shards(&self) -> impl Iterator<Item = (ShardId, &Placement)> {
        self.shards.iter().filter(|(shard, _)| shard.0 != 0).map(|(shard, placement)| (*shard, placement))
    }

    /// The node of a replica.
    pub(crate) fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<NodeId> {
        self.shards.get(&shard)?.replicas.get(&replica).map(|view| view.node)
    }

    /// The replica of a shard that a node has, or is to have.
    pub(crate) fn replica_on(&self, shard: ShardId, node: NodeId) -> Option<ReplicaId> {
        let replicas = &self.shards.get(&shard)?.replicas;
        replicas.iter().find(|(_, view)| view.node == node).map(|(replica, _)| *replica)
    }

    /// Other nodes in the zone of a node that have a voter of a shard. A node that names no zone has none.
    pub(crate) fn neighbours(&self, node: NodeId, shard: ShardId) -> impl Iterator<Item = NodeId> {
        let zone = |node: NodeId| self.nodes.get(&node).map(|view| &view.zone).filter(|zone| !zone.is_empty());
        let voters = self.shards.get(&shard).into_iter().flat_map(Placement::voter_nodes);
        let here = zone(node);
        voters.filter(move |other| here.is_some() && *other != node && zone(*other) == here)
    }

    /// Every replica that a node has, or is to have.
    pub(crate) fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (ShardId, ReplicaId, Role)> {
        self.shards.iter().flat_map(move |(shard, placement)| {
            let here = placement.replicas.iter().filter(move |(_, view)| view.node == node);
            here.map(move |(replica, view)| (*shard, *replica, view.role))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::testing::{cluster, nodes};
    use super::*;

    #[test]
    fn neighbours_are_in_the_same_zone_and_have_a_voter() {
        let zones = ["", "a", "b", "a", "a", "", ""];
        let view = cluster(nodes(6, |node| zones[node as usize]), &[&[1, 2, 3], &[3, 4, 5], &[5, 6]]);
        let of = |node, shard| view.neighbours(NodeId(node), ShardId(shard)).map(|node| node.0).collect::<Vec<_>>();
        assert_eq!([of(1, 1), of(2, 1), of(4, 1)], [vec![3], vec![], vec![1, 3]]);
        assert_eq!([of(1, 2), of(3, 2), of(4, 2)], [vec![3, 4], vec![4], vec![3]]);
        assert!([of(5, 3), of(1, 9), of(9, 1)].concat().is_empty(), "without a zone every node is far");
    }
}
