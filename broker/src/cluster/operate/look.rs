//! Looking at the whole cluster from one node.

use std::collections::BTreeMap;
use std::time::Duration;

use stratalog_proto::internal::ReplicaState;
use stratalog_proto::{NodeId, RaftIndex, ReplicaId, ShardId, Term};

use super::super::states::States;
use super::status::{ClusterStatus, NodeState, NodeStatus, ReplicaRole, ReplicaStatus, ShardStatus};
use super::warnings::warnings;
use crate::broker::Broker;
use crate::meta::{ClusterView, NodeView, Placement, ReplicaView, Role};

/// How long a node may take to answer before it counts as not reached.
const ASK_WAIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Asks every node, and puts together what they say.
    pub(super) async fn look(&self) -> ClusterStatus {
        // As long as the metadata here has applied nothing, what the address book keeps has to do.
        let view = Some(self.meta().view()).filter(|view| view.cluster.is_some());
        let view = view.unwrap_or_else(|| self.nodes().view());
        let asked = view.nodes.keys().map(|node| (*node, Vec::new())).collect();
        let states = self.ask_states(asked, ASK_WAIT).await;
        let problem = |node| self.nodes().problem(node);
        status(&view, self.nodes().me(), &states, problem)
    }
}

/// The cluster as `me` sees it. `problem` says why the connections to a node are not well.
pub(super) fn status(
    view: &ClusterView,
    me: NodeId,
    states: &States,
    problem: impl Fn(NodeId) -> Option<String>,
) -> ClusterStatus {
    let leaders = states.leaders();
    let nodes = view.nodes.iter().map(|(node, known)| {
        let silent = states.problem(*node);
        // What is known of the connections names the address; why the question has no answer is a second best.
        let problem = problem(*node).or_else(|| silent.map(str::to_owned));
        node_status(view, &leaders, *node, known, silent.is_none(), problem)
    });
    let shards = view.shards.iter().map(|(shard, placement)| shard_status(*shard, placement, states));
    let mut status = ClusterStatus {
        cluster: view.cluster,
        answered_by: me,
        replication: view.replication,
        feature_level: view.feature_level,
        nodes: nodes.collect(),
        shards: shards.collect(),
        warnings: Vec::new(),
    };
    status.warnings = warnings(&status);
    status
}

fn node_status(
    view: &ClusterView,
    leaders: &BTreeMap<ShardId, NodeId>,
    node: NodeId,
    known: &NodeView,
    reachable: bool,
    problem: Option<String>,
) -> NodeStatus {
    NodeStatus {
        node,
        incarnation: known.incarnation,
        peer_address: known.peer_address.clone(),
        grpc_address: known.grpc_address.clone(),
        http_address: known.http_address.clone(),
        kafka_address: known.kafka_address.clone(),
        kafka_listeners: known.kafka_listeners.clone(),
        zone: known.zone.clone(),
        version: known.version.clone(),
        feature_level: known.feature_level,
        state: if known.draining { NodeState::Draining } else { NodeState::Active },
        reachable,
        replicas: view.replicas_on(node).count() as u32,
        leads: leaders.values().filter(|leader| **leader == node).count() as u32,
        problem,
    }
}

fn shard_status(shard: ShardId, placement: &Placement, states: &States) -> ShardStatus {
    let leader = states.leader_of(shard);
    let furthest = || states.of_shard(shard).max_by_key(|(_, state)| state.applied);
    let best = leader.or_else(furthest).map(|(_, state)| state.clone()).unwrap_or_default();
    let replicas = placement.replicas.iter().map(|(replica, view)| replica_status(shard, *replica, view, states));
    ShardStatus {
        shard,
        replication: placement.replication,
        leader: leader.map(|(node, _)| node),
        term: Term(leader.map_or(0, |(_, state)| state.term)),
        applied: RaftIndex(best.applied),
        replay_frontier: RaftIndex(best.replay_frontier),
        bytes: best.bytes,
        partitions: best.partitions,
        replicas: replicas.collect(),
    }
}

fn replica_status(shard: ShardId, replica: ReplicaId, view: &ReplicaView, states: &States) -> ReplicaStatus {
    let state: Option<&ReplicaState> = states.get(shard, view.node).filter(|state| state.replica == replica.0);
    let state = state.cloned().unwrap_or_default();
    ReplicaStatus {
        replica,
        node: view.node,
        role: match view.role {
            Role::Joining | Role::Founding => ReplicaRole::Joining,
            Role::Voter => ReplicaRole::Voter,
            Role::Leaving => ReplicaRole::Leaving,
            Role::Learner => ReplicaRole::Learner,
        },
        applied: RaftIndex(state.applied),
        missing_segments: state.missing_segments,
        missing_bytes: state.missing_bytes,
        in_doubt: state.in_doubt,
    }
}
