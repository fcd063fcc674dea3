//! The cluster as the metadata knows it: what the rest of a node acts on. Pure data, of one moment.

use std::collections::BTreeMap;

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
    pub(crate) nodes: BTreeMap<NodeId, NodeView>,
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
}

impl ClusterView {
    /// The node of a replica.
    pub(crate) fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<NodeId> {
        self.shards.get(&shard)?.replicas.get(&replica).map(|view| view.node)
    }

    /// The replica of a shard that a node has, or is to have.
    pub(crate) fn replica_on(&self, shard: ShardId, node: NodeId) -> Option<ReplicaId> {
        let replicas = &self.shards.get(&shard)?.replicas;
        replicas.iter().find(|(_, view)| view.node == node).map(|(replica, _)| *replica)
    }

    /// Every replica that a node has, or is to have.
    pub(crate) fn replicas_on(&self, node: NodeId) -> impl Iterator<Item = (ShardId, ReplicaId, Role)> {
        self.shards.iter().flat_map(move |(shard, placement)| {
            let here = placement.replicas.iter().filter(move |(_, view)| view.node == node);
            here.map(move |(replica, view)| (*shard, *replica, view.role))
        })
    }
}
