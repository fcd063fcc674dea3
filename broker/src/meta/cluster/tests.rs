use proptest::prelude::*;
use prost::Message;
use stratalog_proto::{Code, FEATURE_LEVEL};
use uuid::Uuid;

use super::super::view::Role;
use super::*;
use crate::outcome::CommandResult;

type Outcome = Result<CommandResult, Code>;

fn node(id: u64, directory: u128) -> internal::Node {
    internal::Node {
        node: id,
        incarnation: Uuid::from_u128(directory).as_bytes().to_vec().into(),
        peer_address: format!("n{directory}:7071"),
        version: "0.2.0".to_owned(),
        feature_level: FEATURE_LEVEL,
        state: 1,
        ..internal::Node::default()
    }
}

fn init(shards: u32) -> internal::InitCluster {
    let cluster = Uuid::from_u128(77).as_bytes().to_vec().into();
    internal::InitCluster { cluster, node: Some(node(0, 1)), shards, replication: 3 }
}

fn begun(shards: u32) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.init(&init(shards)).unwrap();
    cluster
}

/// A cluster of nodes 1..=nodes with data directories of the same numbers.
fn grown(nodes: u64, shards: u32) -> Cluster {
    let mut cluster = begun(shards);
    (2..=nodes)
        .for_each(|id| assert_eq!(put(&mut cluster, node(0, u128::from(id))), Ok(CommandResult::Node(NodeId(id)))));
    cluster
}

fn put(cluster: &mut Cluster, node: internal::Node) -> Outcome {
    coded(cluster.put_node(&internal::PutNode { node: Some(node), ..internal::PutNode::default() }))
}

fn change(cluster: &mut Cluster, shard: u32, add: &[u64], remove: &[u64]) -> Outcome {
    let expect = replicas(cluster, shard).iter().map(|(replica, _, _)| *replica).collect();
    coded(cluster.change_replicas(&internal::ChangeReplicas {
        shard,
        expect,
        add: add.to_vec(),
        remove: remove.to_vec(),
    }))
}

fn changed(cluster: &mut Cluster, shard: u32, replica: u64, role: u32) -> Outcome {
    coded(cluster.replica_changed(&internal::ReplicaChanged { shard, replica, role }))
}

fn create(cluster: &mut Cluster, nodes: &[u64]) -> Outcome {
    let nodes = vec![internal::NodeList { nodes: nodes.to_vec() }];
    coded(cluster.create_shards(&internal::CreateShards { replication: 3, nodes, if_none: false }))
}

fn remove(cluster: &mut Cluster, node: u64, force: bool) -> Outcome {
    coded(cluster.remove_node(&internal::RemoveNode { node, force }))
}

fn drain(cluster: &mut Cluster, node: u64) -> Outcome {
    coded(cluster.set_node_state(&internal::SetNodeState { node, state: 2 }))
}

fn coded(result: Result<CommandResult, Error>) -> Outcome {
    result.map_err(|error| error.code)
}

fn replicas(cluster: &Cluster, shard: u32) -> Vec<(u64, u64, Role)> {
    let placement = &cluster.view.shards[&ShardId(shard)];
    placement.replicas.iter().map(|(replica, view)| (replica.0, view.node.0, view.role)).collect()
}

const DONE: Outcome = Ok(CommandResult::Done);

#[test]
fn a_cluster_begins_once_with_all_its_shards_on_its_first_node() {
    let mut cluster = Cluster::default();
    assert_eq!(put(&mut cluster, node(0, 1)), Err(Code::NotFormed));
    assert_eq!(coded(cluster.init(&init(0))), Err(Code::InvalidRequest));
    assert_eq!(coded(cluster.init(&internal::InitCluster { replication: 9, ..init(1) })), Err(Code::InvalidRequest));
    assert_eq!(cluster, Cluster::default(), "what is refused changes nothing");

    assert_eq!(coded(cluster.init(&init(2))), Ok(CommandResult::Node(NodeId(1))));
    for shard in 0..=2 {
        assert_eq!(replicas(&cluster, shard), [(1, 1, Role::Voter)]);
    }
    let other = internal::InitCluster { cluster: Uuid::from_u128(78).as_bytes().to_vec().into(), ..init(2) };
    assert_eq!(coded(cluster.init(&other)), Err(Code::WrongCluster));
    assert_eq!(coded(cluster.init(&init(2))), Err(Code::WrongCluster), "the id it asks for is not the one it has");
    let again = internal::InitCluster { node: Some(node(1, 1)), ..init(2) };
    assert_eq!(coded(cluster.init(&again)), Ok(CommandResult::Node(NodeId(1))), "asked again after a lost answer");
}

#[test]
fn a_node_that_asks_twice_joins_once_and_learns_the_metadata() {
    let mut cluster = begun(1);
    for _ in 0..2 {
        assert_eq!(put(&mut cluster, node(0, 2)), Ok(CommandResult::Node(NodeId(2))));
    }
    assert_eq!(put(&mut cluster, node(7, 7)), Ok(CommandResult::Node(NodeId(7))), "an id of its own choice");
    assert_eq!(put(&mut cluster, node(0, 8)), Ok(CommandResult::Node(NodeId(8))));
    let learners = [(2, 2, Role::Learner), (3, 7, Role::Learner), (4, 8, Role::Learner)];
    assert_eq!(replicas(&cluster, 0), [[(1, 1, Role::Voter)].as_slice(), &learners].concat());
    assert_eq!(cluster.view.next_replica, 5);
}

#[test]
fn what_is_known_of_a_node_is_renewed_and_it_goes_on_draining() {
    let mut cluster = grown(2, 1);
    drain(&mut cluster, 2).unwrap();
    let moved = internal::Node { grpc_address: "elsewhere:7070".to_owned(), version: "0.3.0".to_owned(), ..node(2, 2) };
    put(&mut cluster, moved).unwrap();
    let view = &cluster.view.nodes[&NodeId(2)];
    assert_eq!((view.grpc_address.as_str(), view.version.as_str(), view.draining), ("elsewhere:7070", "0.3.0", true));
}

#[test]
fn kafka_listeners_are_kept_by_name_and_bounded() {
    let listener = |name: &str| kafka_listener((&name.to_owned(), &format!("{name}.example:9093")));
    let of = |names: &[&str]| {
        let kafka_listeners = names.iter().map(|name| listener(name)).collect();
        internal::Node { kafka_listeners, ..node(2, 2) }
    };
    let mut cluster = grown(2, 1);
    put(&mut cluster, of(&["inside", "outside"])).unwrap();
    let known = |cluster: &Cluster| cluster.view.nodes[&NodeId(2)].kafka_listeners.clone();
    let told = known(&cluster);
    assert_eq!(
        told.iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>(),
        ["inside inside.example:9093", "outside outside.example:9093"]
    );
    let written = Cluster::from_message(cluster.to_message().unwrap()).unwrap();
    assert_eq!(known(&written), told, "a snapshot has them");
    let many: Vec<String> = (10..27).map(|n| format!("l{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for refused in
        [&["outside", "inside"][..], &["inside", "inside"], &[""], &["a b"], &["x".repeat(129).as_str()], &many[..]]
    {
        assert_eq!(put(&mut cluster, of(refused)), Err(Code::InvalidRequest), "{refused:?}");
    }
    assert_eq!(known(&cluster), told);
    put(&mut cluster, of(&[])).unwrap();
    assert!(known(&cluster).is_empty(), "it has none any more");
}

#[test]
fn a_wiped_node_under_its_old_id_is_refused_with_the_words_that_help() {
    let mut cluster = grown(3, 1);
    let wiped = internal::PutNode { node: Some(node(3, 33)), ..internal::PutNode::default() };
    let error = cluster.put_node(&wiped).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.message.contains("wiped") && error.message.contains("new id"), "{error}");
    assert_eq!(put(&mut cluster, node(2, 3)), Err(Code::InvalidRequest), "one directory is one node");
}

/// L1: two that two nodes let in at the same time would be one node twice.
#[test]
fn l1_of_two_copies_of_a_directory_that_join_at_the_same_time_one_is_refused() {
    let mut cluster = grown(2, 1);
    let mut join = |address: &str, known_address: &str| {
        let node = internal::Node { peer_address: address.to_owned(), ..node(0, 77) };
        let put = internal::PutNode { node: Some(node), joins: true, known_address: known_address.to_owned() };
        coded(cluster.put_node(&put))
    };
    assert_eq!(join("a:7071", ""), Ok(CommandResult::Node(NodeId(3))));
    assert_eq!(join("b:7071", ""), Err(Code::Conflict));
    assert_eq!(join("b:7071", "a:7071"), Ok(CommandResult::Node(NodeId(3))), "it has moved, and nobody is at a");
}

#[test]
fn an_id_that_was_removed_never_comes_back() {
    let mut cluster = grown(3, 1);
    assert_eq!(remove(&mut cluster, 3, false), DONE);
    assert_eq!(put(&mut cluster, node(3, 3)), Err(Code::UnknownNode));
    assert_eq!(put(&mut cluster, node(3, 34)), Err(Code::UnknownNode));
    assert_eq!(remove(&mut cluster, 3, true), Err(Code::UnknownNode));
    assert_eq!(put(&mut cluster, node(0, 35)), Ok(CommandResult::Node(NodeId(4))));
    assert_eq!(replicas(&cluster, 0).len(), 3, "it learns no more");
}

#[test]
fn a_node_that_others_cannot_reach_or_that_is_too_old_is_refused() {
    let mut cluster = begun(1);
    let silent = |id, directory| internal::Node { peer_address: String::new(), ..node(id, directory) };
    assert_eq!(
        put(&mut cluster, silent(1, 1)),
        Ok(CommandResult::Node(NodeId(1))),
        "a node alone has nobody to reach it"
    );
    assert_eq!(put(&mut cluster, silent(0, 2)), Err(Code::InvalidRequest));
    assert_eq!(put(&mut cluster, internal::Node { feature_level: 0, ..node(0, 2) }), Err(Code::InvalidRequest));
    assert_eq!(put(&mut cluster, internal::Node { zone: "a b".to_owned(), ..node(0, 2) }), Err(Code::InvalidRequest));
    assert_eq!(put(&mut cluster, internal::Node { zone: "z".repeat(200), ..node(0, 2) }), Err(Code::InvalidRequest));
    assert_eq!(put(&mut cluster, node(u64::MAX, 2)), Err(Code::InvalidRequest));
    assert_eq!(put(&mut cluster, internal::Node { state: 9, ..node(0, 2) }), Err(Code::InvalidRequest));
    assert_eq!(coded(cluster.put_node(&internal::PutNode::default())), Err(Code::InvalidRequest));
    assert_eq!(cluster.view.nodes.len(), 1);
}

#[test]
fn a_replica_moves_by_joining_first_and_leaving_then() {
    let mut cluster = grown(2, 1);
    assert_eq!(change(&mut cluster, 1, &[2], &[1]), DONE);
    assert_eq!(replicas(&cluster, 1), [(1, 1, Role::Leaving), (3, 2, Role::Joining)]);
    assert_eq!(change(&mut cluster, 1, &[], &[]), Err(Code::InvalidRequest));
    assert_eq!(changed(&mut cluster, 1, 3, 0), Err(Code::Conflict), "it is wanted");
    assert_eq!(changed(&mut cluster, 1, 3, 2), DONE);
    assert_eq!(changed(&mut cluster, 1, 3, 2), DONE, "said twice");
    assert_eq!(changed(&mut cluster, 1, 1, 0), DONE);
    assert_eq!(changed(&mut cluster, 1, 1, 0), DONE, "said twice");
    assert_eq!(replicas(&cluster, 1), [(3, 2, Role::Voter)]);
}

#[test]
fn s2_a_change_that_was_planned_on_something_else_is_refused() {
    let mut cluster = grown(3, 1);
    let stale = internal::ChangeReplicas { shard: 1, expect: vec![1], add: vec![2], remove: vec![] };
    assert_eq!(coded(cluster.change_replicas(&stale)), DONE);
    assert_eq!(coded(cluster.change_replicas(&stale)), Err(Code::Conflict));
    assert_eq!(change(&mut cluster, 1, &[3], &[]), Err(Code::Conflict), "one change at a time");
    let nowhere = internal::ChangeReplicas { shard: 9, ..stale };
    assert_eq!(coded(cluster.change_replicas(&nowhere)), Err(Code::InvalidRequest));
}

#[test]
fn a_change_under_way_is_taken_back_and_who_was_to_leave_stays() {
    let mut cluster = grown(2, 1);
    change(&mut cluster, 1, &[2], &[1]).unwrap();
    assert_eq!(change(&mut cluster, 1, &[1], &[3]), DONE);
    assert_eq!(replicas(&cluster, 1), [(1, 1, Role::Joining), (3, 2, Role::Leaving)]);
    assert_eq!(changed(&mut cluster, 1, 3, 0), DONE);
    assert_eq!(changed(&mut cluster, 1, 1, 2), DONE, "it never stopped to be one");
    assert_eq!(replicas(&cluster, 1), [(1, 1, Role::Voter)]);
}

#[test]
fn changes_that_cannot_be_are_refused_and_use_no_ids_up() {
    let mut cluster = grown(2, 1);
    let before = cluster.clone();
    assert_eq!(change(&mut cluster, 1, &[], &[1]), Err(Code::QuorumAtRisk), "the last copy");
    assert_eq!(change(&mut cluster, 1, &[1], &[]), Err(Code::Conflict), "it has one");
    assert_eq!(change(&mut cluster, 1, &[2, 2], &[]), Err(Code::Conflict), "twice on one node");
    assert_eq!(change(&mut cluster, 1, &[9], &[]), Err(Code::UnknownNode));
    assert_eq!(change(&mut cluster, 1, &[2], &[8]), Err(Code::Conflict));
    assert_eq!(change(&mut cluster, 0, &[], &[2]), Err(Code::InvalidRequest), "a learner has no vote to give up");
    assert_eq!(changed(&mut cluster, 1, 1, 4), Err(Code::Conflict));
    assert_eq!(changed(&mut cluster, 1, 1, 9), Err(Code::InvalidRequest));
    assert_eq!(cluster, before);
    drain(&mut cluster, 2).unwrap();
    assert_eq!(change(&mut cluster, 1, &[2], &[]), Err(Code::Conflict), "it drains");
}

#[test]
fn who_gives_up_its_vote_in_the_metadata_goes_on_learning() {
    let mut cluster = grown(2, 1);
    assert_eq!(change(&mut cluster, 0, &[2], &[1]), DONE, "its learner is to have a vote");
    assert_eq!(replicas(&cluster, 0), [(1, 1, Role::Leaving), (2, 2, Role::Joining)]);
    changed(&mut cluster, 0, 2, 2).unwrap();
    assert_eq!(changed(&mut cluster, 0, 1, 0), DONE);
    assert_eq!(replicas(&cluster, 0), [(1, 1, Role::Learner), (2, 2, Role::Voter)]);
}

#[test]
fn a_shard_that_never_began_and_lost_all_its_nodes_is_placed_anew() {
    let mut cluster = grown(4, 1);
    drain(&mut cluster, 4).unwrap();
    for _ in 0..3 {
        create(&mut cluster, &[2]).unwrap();
    }
    let begins = replicas(&cluster, 4)[0].0;
    changed(&mut cluster, 4, begins, Role::Founding.number()).unwrap();
    let next = cluster.view.next_replica;
    remove(&mut cluster, 2, true).unwrap();
    assert_eq!(replicas(&cluster, 2), [(next, 3, Role::Founding)], "where there is the least, and nobody drains");
    assert_eq!(replicas(&cluster, 3), [(next + 1, 1, Role::Founding)]);
    assert_eq!(replicas(&cluster, 4), [], "what was in it is lost, and it does not begin once more");
    changed(&mut cluster, 2, next, Role::Founding.number()).unwrap();
}

#[test]
fn a_node_with_replicas_is_removed_only_with_force() {
    let mut cluster = grown(3, 2);
    let error = cluster.remove_node(&internal::RemoveNode { node: 1, force: false }).unwrap_err();
    assert_eq!(error.code, Code::QuorumAtRisk);
    assert!(error.message.contains("the metadata, shard 1 and shard 2"), "{error}");
    change(&mut cluster, 1, &[2, 3], &[]).unwrap();
    assert_eq!(remove(&mut cluster, 2, false), Err(Code::QuorumAtRisk), "one that joins may have its vote already");
    assert_eq!(remove(&mut cluster, 2, true), DONE);
    assert_eq!(replicas(&cluster, 1).iter().map(|(_, node, _)| *node).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(remove(&mut cluster, 3, true), DONE);
    assert_eq!(remove(&mut cluster, 1, true), Err(Code::QuorumAtRisk), "the only node");
    assert_eq!(remove(&mut cluster, 8, true), Err(Code::UnknownNode));
}

#[test]
fn the_last_active_node_is_not_drained() {
    let mut cluster = grown(2, 1);
    assert_eq!(drain(&mut cluster, 1), Ok(CommandResult::Node(NodeId(1))));
    assert_eq!(drain(&mut cluster, 2), Err(Code::QuorumAtRisk));
    let active = internal::SetNodeState { node: 1, state: 1 };
    assert_eq!(coded(cluster.set_node_state(&active)), Ok(CommandResult::Node(NodeId(1))));
    assert_eq!(drain(&mut cluster, 2), Ok(CommandResult::Node(NodeId(2))));
    assert_eq!(drain(&mut cluster, 5), Err(Code::UnknownNode));
}

#[test]
fn new_shards_come_behind_the_others_and_nobody_votes_yet() {
    let mut cluster = grown(3, 2);
    let nodes = |nodes: &[u64]| internal::NodeList { nodes: nodes.to_vec() };
    let mut create = |replication, lists: &[&[u64]]| {
        let nodes = lists.iter().map(|list| nodes(list)).collect();
        coded(cluster.create_shards(&internal::CreateShards { replication, nodes, if_none: false }))
    };
    assert_eq!(create(2, &[&[2, 3], &[3]]), Ok(CommandResult::Shards { first: ShardId(3), count: 2 }));
    assert_eq!(create(2, &[]), Err(Code::InvalidRequest));
    assert_eq!(create(2, &[&[]]), Err(Code::InvalidRequest));
    assert_eq!(create(2, &[&[1, 2, 3]]), Err(Code::InvalidRequest), "more than asked for");
    assert_eq!(create(2, &[&[1, 1]]), Err(Code::InvalidRequest));
    assert_eq!(create(2, &[&[1, 9]]), Err(Code::UnknownNode));
    assert_eq!(create(0, &[&[1]]), Err(Code::InvalidRequest));
    assert_eq!(create(1, &[[1].as_slice(); 1_023]), Err(Code::InvalidRequest), "beyond the most shards");
    assert_eq!(replicas(&cluster, 3), [(4, 2, Role::Founding), (5, 3, Role::Founding)]);
    assert_eq!(replicas(&cluster, 4), [(6, 3, Role::Founding)]);
}

#[test]
fn the_first_shards_of_a_replication_are_made_once_however_many_ask_for_them() {
    let mut cluster = grown(3, 2);
    let mut create = |replication, if_none| {
        let nodes = vec![internal::NodeList { nodes: vec![2] }];
        coded(cluster.create_shards(&internal::CreateShards { replication, nodes, if_none }))
    };
    assert_eq!(create(2, true), Ok(CommandResult::Shards { first: ShardId(3), count: 1 }));
    assert_eq!(create(2, true), Err(Code::Conflict));
    assert_eq!(
        create(5, true),
        Ok(CommandResult::Shards { first: ShardId(4), count: 1 }),
        "the metadata's do not count"
    );
    assert_eq!(create(2, false), Ok(CommandResult::Shards { first: ShardId(5), count: 1 }));
}

/// A cluster of four nodes, and of shard 2 with replicas 5, 6 and 7 on nodes 2, 3 and 4, whose group nobody has begun.
fn with_a_new_shard() -> Cluster {
    let mut cluster = grown(4, 1);
    create(&mut cluster, &[2, 3, 4]).unwrap();
    cluster
}

const VOTER: u32 = 2;
const FOUNDING: u32 = 5;

#[test]
fn l1_a_group_is_begun_by_one_replica_the_first_that_says_so() {
    let mut cluster = with_a_new_shard();
    assert_eq!(changed(&mut cluster, 2, 6, VOTER), Err(Code::Conflict), "nobody can have given it a vote");
    assert_eq!(changed(&mut cluster, 2, 9, FOUNDING), Err(Code::Conflict));
    assert_eq!(changed(&mut cluster, 2, 6, FOUNDING), DONE);
    let begun = [(5, 2, Role::Joining), (6, 3, Role::Voter), (7, 4, Role::Joining)];
    assert_eq!(replicas(&cluster, 2), begun);
    for replica in [5, 6, 7] {
        assert_eq!(changed(&mut cluster, 2, replica, FOUNDING), Err(Code::Conflict), "it has begun");
    }
    assert_eq!(replicas(&cluster, 2), begun);
    assert_eq!(changed(&mut cluster, 1, 1, FOUNDING), Err(Code::Conflict), "it began with the cluster");
}

#[test]
fn l1_a_replica_that_was_replaced_before_its_group_began_never_begins_it() {
    let mut cluster = with_a_new_shard();
    assert_eq!(change(&mut cluster, 2, &[1], &[5]), DONE, "node 2 does not answer");
    assert_eq!(replicas(&cluster, 2), [(6, 3, Role::Founding), (7, 4, Role::Founding), (8, 1, Role::Founding)]);
    assert_eq!(changed(&mut cluster, 2, 5, FOUNDING), Err(Code::Conflict), "it comes back too late");
    assert_eq!(changed(&mut cluster, 2, 8, FOUNDING), DONE);
    assert_eq!(change(&mut cluster, 2, &[2], &[6]), Err(Code::Conflict), "from now on one change at a time");
    let message = cluster.to_message().unwrap();
    assert_eq!(Cluster::from_message(message), Ok(cluster));
}

#[test]
fn the_level_is_raised_only_when_every_node_knows_it() {
    let mut cluster = Cluster::default();
    let old = internal::Node { feature_level: 0, ..node(0, 1) };
    cluster.init(&internal::InitCluster { node: Some(old), ..init(1) }).unwrap();
    assert_eq!(cluster.view.feature_level, 0);
    put(&mut cluster, node(0, 2)).unwrap();
    let raise = |cluster: &mut Cluster, level| coded(cluster.raise_level(&internal::RaiseLevel { level }));
    assert_eq!(raise(&mut cluster, 1), Err(Code::Conflict));
    put(&mut cluster, node(1, 1)).unwrap();
    assert_eq!(raise(&mut cluster, 1), DONE);
    assert_eq!(raise(&mut cluster, 0), DONE, "it never goes down");
    assert_eq!(cluster.view.feature_level, 1);
    let newer = |id| internal::Node { feature_level: FEATURE_LEVEL + 1, ..node(id, u128::from(id)) };
    for id in [1, 2] {
        put(&mut cluster, newer(id)).unwrap();
    }
    assert_eq!(raise(&mut cluster, FEATURE_LEVEL + 1), Err(Code::NewerVersion), "this version has to stop");
}

#[test]
fn a_version_that_does_not_know_the_level_of_a_cluster_stops() {
    let newer = internal::Node { feature_level: FEATURE_LEVEL + 1, ..node(0, 1) };
    let init = internal::InitCluster { node: Some(newer), ..init(1) };
    assert_eq!(coded(Cluster::default().init(&init)), Err(Code::NewerVersion));
    let raw = internal::Cluster { feature_level: FEATURE_LEVEL + 1, ..begun(1).to_message().unwrap() };
    assert_eq!(Cluster::from_message(raw).unwrap_err().code, Code::NewerVersion);
}

#[test]
fn names_of_many_shards_are_cut() {
    let shards: Vec<ShardId> = (0..12).map(ShardId).collect();
    let text = nodes::named(&shards);
    assert!(text.starts_with("the metadata, shard 1, ") && text.ends_with("shard 7 and 4 more"), "{text}");
}

#[test]
fn a_cluster_is_read_back_as_it_was() {
    let mut cluster = grown(4, 3);
    drain(&mut cluster, 2).unwrap();
    remove(&mut cluster, 4, false).unwrap();
    change(&mut cluster, 2, &[3], &[1]).unwrap();
    let message = cluster.to_message().unwrap();
    assert_eq!(Cluster::from_message(message), Ok(cluster));
    assert_eq!(Cluster::default().to_message(), None);
}

#[test]
fn x1_a_cluster_that_contradicts_itself_is_refused() {
    type Change = fn(&mut internal::Cluster);
    let changes: &[(&str, Change)] = &[
        ("no id", |c| c.cluster.clear()),
        ("no nodes", |c| c.nodes.clear()),
        ("a node twice", |c| c.nodes.push(c.nodes[0].clone())),
        ("a node that is to be given out", |c| c.next_node = 2),
        ("a node that was removed", |c| c.removed_nodes.push(1)),
        ("removed nodes out of order", |c| c.removed_nodes.extend([9, 8])),
        ("an incarnation of no bytes", |c| c.nodes[0].incarnation.clear()),
        ("no metadata group", |c| drop(c.placements.remove(0))),
        ("shards out of order", |c| c.placements.swap(0, 1)),
        ("a role that does not exist", |c| c.placements[1].replicas[0].role = 6),
        ("a replica that founds beside a voter", |c| c.placements[0].replicas[1].role = 5),
        ("a replica on a node that is not there", |c| c.placements[1].replicas[0].node = 9),
        ("a replica that is to be given out", |c| c.next_replica = 1),
        ("a replica 0", |c| c.placements[1].replicas[0].replica = 0),
        ("two replicas on a node", |c| c.placements[0].replicas[1].node = 1),
        ("a replication of 0", |c| c.placements[1].replication = 0),
    ];
    for (name, change) in changes {
        let mut raw = grown(2, 2).to_message().unwrap();
        change(&mut raw);
        assert_eq!(Cluster::from_message(raw).unwrap_err().code, Code::CorruptData, "{name}");
    }
}

/// A command with small numbers, so that many of them hit something.
fn commands() -> impl Strategy<Value = (u8, u64, u64, u64, bool)> {
    (0..9u8, 0..5u64, 0..5u64, 0..9u64, any::<bool>())
}

proptest! {
    /// Whatever is proposed in whatever order: the state stays one that can be read back, a refusal changes nothing, no
    /// replica id is given twice, and a shard loses its last copy only by force.
    #[test]
    fn any_commands_leave_a_state_that_holds(steps in prop::collection::vec(commands(), 0..60)) {
        let mut cluster = begun(2);
        for (kind, a, b, c, force) in steps {
            let before = cluster.clone();
            let shard = a as u32 % cluster.view.shards.len() as u32;
            let outcome = match kind {
                0 => put(&mut cluster, node(a, u128::from(b + 1))),
                1 => drain(&mut cluster, a),
                2 => coded(cluster.set_node_state(&internal::SetNodeState { node: a, state: 1 })),
                3 => remove(&mut cluster, a, force),
                4 => change(&mut cluster, shard, &[b], if force { std::slice::from_ref(&c) } else { &[] }),
                5 => change(&mut cluster, shard, &[], &[c]),
                6 => changed(&mut cluster, shard, c, (b % 4) as u32 * 2),
                7 => changed(&mut cluster, shard, c, FOUNDING),
                _ => create(&mut cluster, &[a, b]),
            };
            prop_assert!(outcome.is_ok() || cluster == before, "{:?}", outcome);
            prop_assert!(cluster.view.next_replica >= before.view.next_replica);
            for (shard, placement) in &cluster.view.shards {
                let Some(was) = before.view.shards.get(shard) else { continue };
                let had = &was.replicas;
                for (replica, view) in &placement.replicas {
                    let same = had.get(replica).is_none_or(|was| was.node == view.node);
                    prop_assert!(same && (had.contains_key(replica) || replica.0 >= before.view.next_replica));
                }
                prop_assert!(placement.staying().next().is_some() || kind == 3 || was.staying().next().is_none());
                prop_assert!(was.is_new() || !placement.is_new(), "a group begins once");
            }
            let bytes = cluster.to_message().unwrap().encode_to_vec();
            let decoded = Cluster::from_message(internal::Cluster::decode(&bytes[..]).unwrap());
            prop_assert_eq!(decoded.as_ref(), Ok(&cluster));
        }
    }
}
