//! Nodes of a cluster that stop, are killed, move, and give replicas away: what was acknowledged stays.

use std::net::TcpListener;

use stratalog_broker::ReplayOptions;
use stratalog_proto::{NodeId, ShardId};
use stratalog_storage::{Lane, RealDisk};

use super::cluster::{Node, PATIENCE, check, check_replicas, cluster_of, produce, three, until};
use super::*;

/// Starts a node whose broker was stopped or dropped: it takes a moment until directory and address are free.
async fn again(node: &Node) -> Arc<Broker> {
    again_with(|| node.options()).await
}

pub(super) async fn again_with(options: impl Fn() -> BrokerOptions) -> Arc<Broker> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Broker::start(options()).await {
            Ok(broker) => return broker,
            Err(error) => {
                let is_taken = matches!(error.code, Code::Unavailable | Code::Io);
                assert!(is_taken && Instant::now() < deadline, "{error}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn until_ready(brokers: &[Arc<Broker>]) {
    for broker in brokers {
        until("a node that is ready", || async { broker.ready().map_err(|error| error.to_string()) }).await;
    }
}

pub(super) async fn stop(brokers: Vec<Arc<Broker>>) {
    futures::future::join_all(brokers.iter().map(|broker| broker.stop())).await;
}

/// Produces records with these numbers to four partitions, through one node after the other.
pub(super) async fn write(brokers: &[Arc<Broker>], numbers: std::ops::Range<i64>, acknowledged: &mut [Vec<Bytes>]) {
    for number in numbers {
        let partition = number as usize % acknowledged.len();
        produce(&brokers[number as usize % brokers.len()], partition as u32, number).await;
        acknowledged[partition].push(sent(&batch(number, 1, None)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_nodes_that_restart_one_after_the_other_lose_nothing() {
    let nodes = three();
    let mut brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    for (round, node) in nodes.iter().enumerate() {
        let first = round as i64 * 20;
        write(&brokers, first..first + 10, &mut acknowledged).await;
        brokers.remove(round).stop().await;
        write(&brokers, first + 10..first + 20, &mut acknowledged).await;
        brokers.insert(round, again(node).await);
        until_ready(&brokers).await;
    }
    check_replicas(&brokers.iter().collect::<Vec<_>>(), &acknowledged).await;
    stop(brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_acknowledged_records_survive_when_all_nodes_are_killed() {
    let nodes = three();
    let mut brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    for round in 0..3 {
        write(&brokers, round * 20..round * 20 + 20, &mut acknowledged).await;
        drop(brokers);
        brokers = futures::future::join_all(nodes.iter().map(again)).await;
        until_ready(&brokers).await;
    }
    check_replicas(&brokers.iter().collect::<Vec<_>>(), &acknowledged).await;
    stop(brokers).await;
}

/// All batches of a partition, wherever they are read.
pub(super) async fn read(broker: &Broker, partition: u32) -> Result<Vec<Bytes>, Error> {
    let (mut batches, mut next) = (Vec::new(), 0);
    loop {
        let request = FetchRequest { partitions: vec![(PartitionId(partition), Offset(next))], ..from("t", 0) };
        let fetched = fetch_one(broker, request).await;
        if let Err(error) = &fetched.result {
            return Err(error.clone());
        }
        let more = as_produced(&fetched);
        if more.is_empty() {
            return Ok(batches);
        }
        next += more.len() as u64;
        batches.extend(more);
    }
}

/// A figure of a node's metrics; those of all shards added up, unless one is named.
pub(super) fn figure(broker: &Broker, name: &str) -> u64 {
    let text = broker.metrics();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_segments_that_were_rewritten_after_the_last_saved_state_survive_when_all_nodes_are_killed() {
    let nodes = three();
    stop(cluster_of(&nodes).await).await;
    let replay = ReplayOptions { roll_bytes: 256 << 10, ..ReplayOptions::default() };
    let small_rolls = |node: &Node| BrokerOptions { replay: replay.clone(), ..node.options() };
    let start = || futures::future::join_all(nodes.iter().map(|node| again_with(move || small_rolls(node))));
    let brokers = start().await;
    until_ready(&brokers).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    brokers[0].create_topic("gone", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    write(&brokers, 0..20, &mut acknowledged).await;
    let large = |n: u32| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(0, None, Some(&vec![n as u8; 40 << 10]), &[]);
        builder.finish()
    };
    for n in 0..32 {
        brokers[0].produce("gone", PartitionId(n % 4), large(n)).await.unwrap();
    }
    let has_saved =
        |node: &Broker, shard| figure(node, &format!("stratalog_snapshot_frontier{{shard=\"{shard}\"}}")) > 0;
    until("saved states", || async {
        check(brokers.iter().all(|node| [1, 2].iter().all(|shard| has_saved(node, shard))), "no state is saved")
    })
    .await;
    brokers[0].delete_topic("gone").await.unwrap();
    let all = |name: &str| brokers.iter().map(|node| figure(node, name)).sum::<u64>();
    until("rewritten segments", || async { check(all("stratalog_repacks_total") >= 2, "repacks") }).await;
    until("rewritten segments everywhere", || async {
        let left = nodes.iter().map(replay_segments).collect::<Vec<_>>();
        check(left.iter().all(|of| of.len() == 2 && *of == left[0]), left)
    })
    .await;
    drop(brokers);

    let brokers = start().await;
    until_ready(&brokers).await;
    for (partition, expected) in acknowledged.iter().enumerate() {
        until("L1: acknowledged records", || async {
            let found = read(&brokers[0], partition as u32).await.map_err(|error| error.to_string())?;
            check(found == *expected, (partition, found.len()))
        })
        .await;
    }
    stop(brokers).await;
}

/// The names of a node's replay segments.
fn replay_segments(node: &Node) -> Vec<std::ffi::OsString> {
    let of = |shard: u32| std::fs::read_dir(node.dir.path().join(format!("shards/{shard:04}/segments"))).unwrap();
    let mut names: Vec<_> = (1..=2).flat_map(of).map(|entry| entry.unwrap().file_name()).collect();
    names.retain(|name| name.to_string_lossy().ends_with(".rec"));
    names.sort();
    names
}

/// A start that is refused for what is lost, and in words that say so.
async fn refused(node: &Node, lost: &str) {
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let error = Broker::start(node.options()).await.err().expect("a node that has lost what it acknowledged");
        if !matches!(error.code, Code::Unavailable | Code::Io) {
            break error;
        }
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(error.code, Code::CorruptData, "{lost}: {error}");
    assert!(error.message.contains("Nothing was changed"), "{lost}: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_node_whose_log_or_vote_is_lost_does_not_come_back_as_who_it_was() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    stop(brokers).await;
    for node in &nodes {
        assert!(!node.dir.path().join("incarnation").exists(), "it has its identity");
        let (lane, kept) = (node.dir.path().join("lanes/0"), node.dir.path().join("kept"));
        let vote = lane.join("votes/0000000001.vote");
        std::fs::rename(&vote, &kept).unwrap();
        refused(node, "the vote of a shard").await;
        std::fs::rename(&kept, &vote).unwrap();
        std::fs::rename(&lane, &kept).unwrap();
        refused(node, "the log").await;
    }
    // A lane that is there and empty, as of a new directory: the node that began the cluster must not begin it again.
    Lane::make(Arc::new(RealDisk), &nodes[0].dir.path().join("lanes/0"), &nodes[0].options().lane).unwrap();
    refused(&nodes[0], "what was in the log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_moved_find_each_other_where_their_settings_say() {
    let mut nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    write(&brokers, 0..8, &mut acknowledged).await;
    stop(brokers).await;
    for node in &mut nodes {
        node.address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    }
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    nodes.iter_mut().for_each(|node| node.join = addresses.clone());
    let brokers = futures::future::join_all(nodes.iter().map(again)).await;
    until_ready(&brokers).await;
    write(&brokers, 8..16, &mut acknowledged).await;
    until("the new addresses in the metadata", || async {
        let status = brokers[0].cluster_status().await.unwrap();
        check(status.nodes.iter().map(|node| &node.peer_address).eq(&addresses), status)
    })
    .await;
    check_replicas(&brokers.iter().collect::<Vec<_>>(), &acknowledged).await;
    stop(brokers).await;
}

/// The replay and column segments and state files of a shard in a node's directory, and whether its mark names a replica.
fn left_of(node: &Node, shard: ShardId) -> (usize, bool) {
    let dir = node.dir.path().join("shards").join(format!("{:04}", shard.0));
    let files = |name| std::fs::read_dir(dir.join(name)).map_or(0, Iterator::count);
    let mark = std::fs::read_to_string(dir.join("replica")).unwrap_or_default();
    (files("segments") + files("state"), mark.contains("replica ="))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_moves_takes_everything_with_it_and_may_come_back() {
    let first = Node::new(&[]);
    let second = Node::new(&[&first]);
    let nodes = [first, second];
    let mut brokers = Vec::new();
    for node in &nodes {
        brokers.push(node.start().await);
    }
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    let shard = ShardId(1);
    // There, and back under a new id, with a restart of both nodes in between.
    for (round, (from, to)) in [(0, 1), (1, 0)].into_iter().enumerate() {
        let first = round as i64 * 20;
        write(&brokers, first..first + 10, &mut acknowledged).await;
        let (there, here) = (NodeId(to as u64 + 1), Some(NodeId(from as u64 + 1)));
        brokers[to].move_replica(shard, there, here).await.unwrap();
        // It is under way, or was very fast.
        let asked = brokers[from].move_replica(shard, there, here).await;
        let said = asked.map_or_else(|error| error.message, |asked| asked.reason);
        assert!(said.contains("already"), "asked for again: {said}");
        write(&brokers, first + 10..first + 20, &mut acknowledged).await;
        until("the replica on the other node alone", || async {
            let status = brokers[0].cluster_status().await.unwrap();
            let shard = status.shards.iter().find(|found| found.shard == shard).unwrap();
            let is_there = shard.replicas.len() == 1 && shard.replicas[0].node == NodeId(to as u64 + 1);
            check(is_there && left_of(&nodes[from], shard.shard) == (0, false), status)
        })
        .await;
        stop(std::mem::take(&mut brokers)).await;
        brokers = futures::future::join_all(nodes.iter().map(again)).await;
        until_ready(&brokers).await;
    }
    for (partition, expected) in acknowledged.iter().enumerate() {
        let request = FetchRequest { partitions: vec![(PartitionId(partition as u32), Offset(0))], ..from("t", 0) };
        assert_eq!(&as_produced(&fetch_one(&brokers[1], request).await), expected, "partition {partition}");
    }
    stop(brokers).await;
}
