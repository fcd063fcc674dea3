//! Clusters to plan for.

use std::collections::BTreeMap;

use stratalog_proto::{NodeId, ReplicaId, ShardId};
use uuid::Uuid;

use super::super::view::{ClusterView, NodeView, Placement, ReplicaView, Role};
use super::Change;

/// Nodes 1..=count, all active.
pub(crate) fn nodes<'a>(count: u64, zone: impl Fn(u64) -> &'a str) -> BTreeMap<NodeId, NodeView> {
    let node = |id: u64| NodeView {
        incarnation: Uuid::from_u128(u128::from(id)),
        peer_address: format!("n{id}:7071"),
        grpc_address: String::new(),
        http_address: String::new(),
        kafka_address: String::new(),
        kafka_listeners: BTreeMap::new(),
        zone: zone(id).to_owned(),
        version: "0.2.0".to_owned(),
        feature_level: 1,
        draining: false,
    };
    (1..=count).map(|id| (NodeId(id), node(id))).collect()
}

/// A cluster with shards 1.. of replication 3, voters on the given nodes; the metadata's voter is on node 1 and every
/// other node learns.
pub(crate) fn cluster(nodes: BTreeMap<NodeId, NodeView>, shards: &[&[u64]]) -> ClusterView {
    let mut next = 1;
    let mut replica = |node: u64, role| {
        next += 1;
        (ReplicaId(next), ReplicaView { node: NodeId(node), role })
    };
    let learners = nodes.keys().map(|node| if node.0 == 1 { (1, Role::Voter) } else { (node.0, Role::Learner) });
    let meta = Placement { replication: 5, replicas: learners.map(|(node, role)| replica(node, role)).collect() };
    let mut placed = BTreeMap::from([(ShardId(0), meta)]);
    for (shard, voters) in (1..).map(ShardId).zip(shards) {
        let replicas = voters.iter().map(|node| replica(*node, Role::Voter)).collect();
        placed.insert(shard, Placement { replication: 3, replicas });
    }
    let cluster = Some(Uuid::from_u128(9));
    ClusterView {
        cluster,
        replication: 3,
        feature_level: 1,
        next_replica: 1_000,
        nodes,
        shards: placed,
        ..ClusterView::default()
    }
}

/// Makes a change, as if it had come to its end.
pub(crate) fn done(view: &mut ClusterView, change: &Change) {
    begun(view, change);
    let Some(placement) = view.shards.get_mut(&change.shard) else { return };
    let meta = change.shard.0 == 0;
    placement.replicas.retain(|_, replica| meta || replica.role != Role::Leaving);
    for replica in placement.replicas.values_mut() {
        match replica.role {
            Role::Joining => replica.role = Role::Voter,
            Role::Leaving => replica.role = Role::Learner,
            Role::Voter | Role::Learner | Role::Founding => {}
        }
    }
}

/// Makes a change as the metadata group does: replicas join and leave.
pub(crate) fn begun(view: &mut ClusterView, change: &Change) {
    let placement = view.shards.get_mut(&change.shard).expect("the shard that is changed");
    assert!(placement.replicas.keys().eq(change.expect.iter()), "planned on something else: {change:?}");
    for (replica, node) in &change.remove {
        let leaves = placement.replicas.get_mut(replica).expect("a replica that leaves");
        assert_eq!(leaves.node, *node);
        leaves.role = Role::Leaving;
    }
    for node in &change.add {
        let there = placement.replicas.values_mut().find(|there| there.node == *node);
        match there {
            Some(there) => {
                assert!(matches!(there.role, Role::Leaving | Role::Learner), "node {node} has one: {change:?}");
                there.role = Role::Joining;
            }
            None => {
                placement
                    .replicas
                    .insert(ReplicaId(view.next_replica), ReplicaView { node: *node, role: Role::Joining });
                view.next_replica += 1;
            }
        }
    }
}
