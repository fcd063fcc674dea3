//! Between the broker's picture of the cluster and the messages of `stratalog.v1`.

use stratalog_broker::{ClusterStatus, Move, NodeStatus, ReplicaStatus, ShardStatus};
use stratalog_proto::{NodeId, v1};

pub(crate) fn status(status: &ClusterStatus) -> v1::ClusterStatus {
    v1::ClusterStatus {
        cluster: status.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        answered_by: status.answered_by.0,
        replication: status.replication,
        feature_level: status.feature_level,
        nodes: status.nodes.iter().map(node).collect(),
        shards: status.shards.iter().map(shard).collect(),
        warnings: status.warnings.clone(),
    }
}

pub(crate) fn node(node: &NodeStatus) -> v1::ClusterNode {
    v1::ClusterNode {
        node: node.node.0,
        incarnation: node.incarnation.to_string(),
        peer_address: node.peer_address.clone(),
        grpc_address: node.grpc_address.clone(),
        http_address: node.http_address.clone(),
        kafka_address: node.kafka_address.clone(),
        kafka_listeners: node.kafka_listeners.iter().map(kafka_listener).collect(),
        zone: node.zone.clone(),
        version: node.version.clone(),
        feature_level: node.feature_level,
        state: node.state.name().to_owned(),
        reachable: node.reachable,
        replicas: node.replicas,
        leads: node.leads,
        problem: node.problem.clone().unwrap_or_default(),
    }
}

fn kafka_listener((name, address): (&String, &String)) -> v1::ClusterKafkaListener {
    v1::ClusterKafkaListener { name: name.clone(), address: address.clone() }
}

fn shard(shard: &ShardStatus) -> v1::ClusterShard {
    v1::ClusterShard {
        shard: shard.shard.0,
        replication: shard.replication,
        leader_node: or_zero(shard.leader),
        term: shard.term.0,
        applied: shard.applied.0,
        replay_frontier: shard.replay_frontier.0,
        bytes: shard.bytes,
        partitions: shard.partitions,
        replicas: shard.replicas.iter().map(replica).collect(),
    }
}

fn replica(replica: &ReplicaStatus) -> v1::ClusterReplica {
    v1::ClusterReplica {
        replica: replica.replica.0,
        node: replica.node.0,
        role: replica.role.name().to_owned(),
        applied: replica.applied.0,
        missing_segments: replica.missing_segments,
        missing_bytes: replica.missing_bytes,
        in_doubt: replica.in_doubt,
    }
}

pub(crate) fn moved(moved: Move) -> v1::Move {
    v1::Move { shard: moved.shard.0, from_node: or_zero(moved.from), to_node: or_zero(moved.to), reason: moved.reason }
}

fn or_zero(node: Option<NodeId>) -> u64 {
    node.map_or(0, |node| node.0)
}

/// 0 stands for none on the wire.
pub(crate) fn given(node: u64) -> Option<NodeId> {
    (node > 0).then_some(NodeId(node))
}
