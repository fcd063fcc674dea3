//! What an operator sees of the cluster, as one node answered it at one moment.

use std::collections::BTreeMap;
use std::fmt;

use stratalog_proto::{NodeId, RaftIndex, ReplicaId, ShardId, Term};
use uuid::Uuid;

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// `None`: the node belongs to no cluster.
    pub cluster: Option<Uuid>,
    /// Who looked.
    pub answered_by: NodeId,
    /// The replication of topics that ask for none.
    pub replication: u32,
    /// What may be proposed.
    pub feature_level: u32,
    /// Ascending by id.
    pub nodes: Vec<NodeStatus>,
    /// Ascending by id; the metadata group is shard 0.
    pub shards: Vec<ShardStatus>,
    /// What an operator should know, in whole sentences: an even number of voters, a shard without a quorum, a node that
    /// is not reached, several versions.
    pub warnings: Vec<String>,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub node: NodeId,
    /// New with each new data directory.
    pub incarnation: Uuid,
    /// Where the other nodes reach it, host:port.
    pub peer_address: String,
    /// Where clients reach it, host:port.
    pub grpc_address: String,
    /// Where clients reach it, host:port.
    pub http_address: String,
    /// Where Kafka clients reach it; empty: nowhere.
    pub kafka_address: String,
    /// Where they reach its further listeners, by their names.
    pub kafka_listeners: BTreeMap<String, String>,
    /// Empty: none.
    pub zone: String,
    /// Of its binary.
    pub version: String,
    /// The highest feature level that it knows.
    pub feature_level: u32,
    /// Whether it takes replicas.
    pub state: NodeState,
    /// Whether the answering node reaches it.
    pub reachable: bool,
    /// Replicas that it has, or is to have, the metadata group's included.
    pub replicas: u32,
    /// Shards that it leads, as far as is known.
    pub leads: u32,
    /// Why it is not reached, or not well.
    pub problem: Option<String>,
}

/// Whether a node takes replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeState {
    /// It takes them.
    #[default]
    Active,
    /// It gives its replicas away and gets none.
    Draining,
}

/// A shard: one Raft group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStatus {
    /// Its id; 0 is the metadata group.
    pub shard: ShardId,
    /// Voters that it is to have.
    pub replication: u32,
    /// `None`: none is known.
    pub leader: Option<NodeId>,
    /// Of the leader; 0 if none is known.
    pub term: Term,
    /// By the leader; else the highest that any replica told.
    pub applied: RaftIndex,
    /// Everything at or below it is in replay segments.
    pub replay_frontier: RaftIndex,
    /// Log, replay and column segments of one replica, in bytes.
    pub bytes: u64,
    /// Partitions that it hosts.
    pub partitions: u32,
    /// Ascending by id.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Its id: never given twice in a cluster.
    pub replica: ReplicaId,
    /// Where it is.
    pub node: NodeId,
    /// What it is in its group.
    pub role: ReplicaRole,
    /// 0 if it did not answer.
    pub applied: RaftIndex,
    /// Files that its manifest names and that it does not have.
    pub missing_segments: u64,
    /// Bytes of those.
    pub missing_bytes: u64,
    /// It may lack what it acknowledged, and does not vote until others have told.
    pub in_doubt: bool,
}

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Is to become a voter, once it is complete; of a new shard, the first that can begins the group.
    Joining,
    /// Has a vote.
    Voter,
    /// Is to leave.
    Leaving,
    /// Stays without a vote: of the metadata group only.
    Learner,
}

/// A change of who has a replica of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Of what.
    pub shard: ShardId,
    /// `None`: a replica more.
    pub from: Option<NodeId>,
    /// `None`: a replica less.
    pub to: Option<NodeId>,
    /// Why, in a few words.
    pub reason: String,
}

impl NodeState {
    /// `active`, `draining`.
    pub fn name(self) -> &'static str {
        match self {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
        }
    }
}

impl ReplicaRole {
    /// `joining`, `voter`, `leaving`, `learner`.
    pub fn name(self) -> &'static str {
        match self {
            ReplicaRole::Joining => "joining",
            ReplicaRole::Voter => "voter",
            ReplicaRole::Leaving => "leaving",
            ReplicaRole::Learner => "learner",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for ReplicaRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
