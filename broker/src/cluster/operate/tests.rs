use std::collections::BTreeMap;

use stratalog_proto::internal::ReplicaState;
use stratalog_proto::{NodeId, RaftIndex, ReplicaId, ShardId, Term};
use uuid::Uuid;

use super::super::states::States;
use super::look::status;
use super::status::{ClusterStatus, NodeState};
use crate::meta::{ClusterView, NodeView, Placement, ReplicaView, Role};

fn view(nodes: u64, shards: &[&[(u64, Role)]]) -> ClusterView {
    let node = |id: u64| NodeView {
        incarnation: Uuid::from_u128(u128::from(id)),
        peer_address: format!("n{id}:7071"),
        grpc_address: String::new(),
        http_address: String::new(),
        kafka_address: String::new(),
        kafka_listeners: BTreeMap::new(),
        zone: String::new(),
        version: "0.2.0".to_owned(),
        feature_level: 1,
        draining: false,
    };
    // Replica n is on node n.
    let placement = |replicas: &&[(u64, Role)]| Placement {
        replication: 3,
        replicas: replicas
            .iter()
            .map(|(node, role)| (ReplicaId(*node), ReplicaView { node: NodeId(*node), role: *role }))
            .collect(),
    };
    ClusterView {
        cluster: Some(Uuid::from_u128(7)),
        replication: 3,
        feature_level: 1,
        next_replica: 100,
        nodes: (1..=nodes).map(|id| (NodeId(id), node(id))).collect(),
        shards: (0..).map(ShardId).zip(shards.iter().map(placement)).collect(),
        ..ClusterView::default()
    }
}

fn state(shard: u32, node: u64, leads: bool, applied: u64) -> ReplicaState {
    let (term, bytes, partitions) = (4, 1_000, 12);
    ReplicaState { shard, replica: node, term, leads, applied, bytes, partitions, ..ReplicaState::default() }
}

/// Every node answers but those of `silent`; node 1 leads everything that it has a replica of.
fn look(view: &ClusterView, silent: &[u64]) -> ClusterStatus {
    let states: BTreeMap<NodeId, Vec<ReplicaState>> = view
        .nodes
        .keys()
        .map(|node| {
            let here = view.replicas_on(*node);
            let state =
                |(shard, replica, _): (ShardId, ReplicaId, Role)| state(shard.0, replica.0, node.0 == 1, 10 * node.0);
            (*node, here.map(state).collect())
        })
        .collect();
    let answer = |(node, states): (NodeId, Vec<ReplicaState>)| match silent.contains(&node.0) {
        true => (node, Err("connection refused".to_owned())),
        false => (node, Ok(states)),
    };
    let states: States = states.into_iter().map(answer).collect();
    status(view, NodeId(1), &states, |_| None)
}

const ALL: &[(u64, Role)] = &[(1, Role::Voter), (2, Role::Voter), (3, Role::Voter)];

#[test]
fn a_cluster_that_is_well_gives_no_warning() {
    let seen = look(&view(3, &[ALL, ALL]), &[]);
    assert_eq!(seen.warnings, Vec::<String>::new());
    let shard = &seen.shards[1];
    assert_eq!((shard.leader, shard.term, shard.applied), (Some(NodeId(1)), Term(4), RaftIndex(10)));
    assert_eq!((shard.bytes, shard.partitions), (1_000, 12));
    assert_eq!(shard.replicas[2].applied, RaftIndex(30));
    let first = &seen.nodes[0];
    assert_eq!((first.leads, first.replicas, first.reachable, first.state), (2, 2, true, NodeState::Active));
}

#[test]
fn a_node_alone_is_nothing_to_warn_of() {
    let alone: &[(u64, Role)] = &[(1, Role::Voter)];
    assert_eq!(look(&view(1, &[alone, alone]), &[]).warnings, Vec::<String>::new());
}

#[test]
fn a_silent_node_and_shards_without_a_majority_are_named() {
    let seen = look(&view(3, &[ALL, ALL]), &[2]);
    assert_eq!(seen.warnings, ["Node 2 does not answer: connection refused."]);
    assert!(!seen.nodes[1].reachable);
    let seen = look(&view(3, &[ALL, ALL, ALL]), &[2, 3]);
    assert!(
        seen.warnings[0].starts_with("Of the metadata, shard 1 and shard 2 each has no majority"),
        "{:?}",
        seen.warnings
    );
}

#[test]
fn the_leader_is_whom_the_newest_term_names() {
    let view = view(3, &[ALL]);
    let states =
        [(1, 3), (2, 5)].map(|(node, term)| (NodeId(node), Ok(vec![ReplicaState { term, ..state(0, node, true, 1) }])));
    let seen = status(&view, NodeId(3), &states.into_iter().collect(), |_| Some("slow".to_owned()));
    assert_eq!(seen.shards[0].leader, Some(NodeId(2)), "node 1 has not heard that it was replaced");
    assert_eq!(seen.nodes[2].problem.as_deref(), Some("slow"));
}

#[test]
fn even_voters_missing_copies_and_lost_shards_are_told() {
    let two: &[(u64, Role)] = &[(1, Role::Voter), (2, Role::Voter)];
    let joining: &[(u64, Role)] = &[(1, Role::Voter), (2, Role::Joining), (3, Role::Joining)];
    let warnings = look(&view(3, &[ALL, two, &[], joining]), &[]).warnings;
    let told = |what: &str| warnings.iter().any(|warning| warning.contains(what));
    assert!(told("Shard 2 has no replica any more"), "{warnings:?}");
    assert!(told("Shard 1 has an even number of voters"), "{warnings:?}");
    assert!(told("Each of shard 1, shard 2 and shard 3 has fewer copies"), "{warnings:?}");
    let few = look(&view(2, &[two, &[(1, Role::Voter)]]), &[]).warnings;
    assert!(few.iter().any(|warning| warning.contains("3 copies need 3 active nodes, and there are 2")), "{few:?}");
}

#[test]
fn a_kafka_listener_that_some_nodes_do_not_have_is_told() {
    let mut view = view(3, &[ALL]);
    let mut listens = |node, name: &str| {
        let node: &mut NodeView = view.nodes.get_mut(&NodeId(node)).unwrap();
        node.kafka_listeners.insert(name.to_owned(), "a:1".to_owned());
    };
    (1..=3).for_each(|node| listens(node, "inside"));
    listens(2, "outside");
    let seen = look(&view, &[]);
    assert_eq!(
        seen.warnings,
        [
            "Nodes 1, 3 without the Kafka listener outside: its clients do not reach the groups that are coordinated there."
        ]
    );
    assert_eq!(seen.nodes[1].kafka_listeners.len(), 2);
}

#[test]
fn mixed_versions_are_told() {
    let mut mixed = view(3, &[ALL]);
    mixed.nodes.get_mut(&NodeId(3)).unwrap().version = "0.3.0".to_owned();
    let warnings = look(&mixed, &[]).warnings;
    assert!(warnings[0].contains("0.2.0, 0.3.0") && warnings[0].contains("feature level 1"), "{warnings:?}");
}
