//! Three nodes in one process, over real connections on loopback: they form a cluster, lose a node, and go on.

use std::net::TcpListener;

use stratalog_broker::{ClusterOptions, ClusterStatus, ReplicaRole};
use stratalog_proto::ShardId;

use super::*;

/// How long a cluster may take for whatever is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const SHARDS: u32 = 2;

/// A node's directory and its address, which outlive its broker.
pub(super) struct Node {
    pub(super) dir: TempDir,
    pub(super) address: String,
    pub(super) join: Vec<String>,
}

impl Node {
    pub(super) fn new(join: &[&Node]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let join = join.iter().map(|node| node.address.clone()).collect();
        Self { dir: tempfile::tempdir().unwrap(), address: free.to_string(), join }
    }

    pub(super) fn options(&self) -> BrokerOptions {
        let (listen, join) = (Some(self.address.clone()), self.join.clone());
        let cluster = ClusterOptions { listen, join, ..ClusterOptions::default() };
        BrokerOptions { cluster, shards: SHARDS, ..options(&self.dir) }
    }

    pub(super) async fn start(&self) -> Arc<Broker> {
        Broker::start(self.options()).await.unwrap()
    }
}

/// Waits until something is so.
pub(super) async fn until<F: Future<Output = Result<(), String>>>(what: &str, mut look: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(()) => return,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) fn check(is_so: bool, why: impl std::fmt::Debug) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(format!("{why:#?}")) }
}

/// Whether every shard, and the metadata, has so many voters, none that comes or goes, and a leader.
pub(super) fn settled(status: &ClusterStatus, voters: usize) -> Result<(), String> {
    let is_settled = status.shards.len() == SHARDS as usize + 1
        && status.shards.iter().all(|shard| {
            let all_vote = shard.replicas.iter().all(|replica| replica.role == ReplicaRole::Voter);
            all_vote && shard.replicas.len() == voters && shard.leader.is_some()
        });
    check(is_settled, status)
}

pub(super) async fn cluster_of(nodes: &[Node]) -> Vec<Arc<Broker>> {
    let mut brokers = Vec::new();
    for node in nodes {
        brokers.push(node.start().await);
    }
    until("three voters of each shard", || async { settled(&brokers[0].cluster_status().await.unwrap(), nodes.len()) })
        .await;
    for broker in &brokers {
        until("a node that is ready", || async { broker.ready().map_err(|error| error.to_string()) }).await;
    }
    brokers
}

pub(super) fn three() -> [Node; 3] {
    let first = Node::new(&[]);
    let (second, third) = (Node::new(&[&first]), Node::new(&[&first]));
    [first, second, third]
}

/// Produces one record, again until it is acknowledged. Numbers are unique, so that a repeated one is seen.
pub(super) async fn produce(broker: &Broker, partition: u32, number: i64) -> Offset {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match broker.produce("t", PartitionId(partition), batch(number, 1, None)).await {
            Ok(produced) => return produced.base_offset,
            Err(error) => assert!(error.code.is_retriable() && Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All batches of a partition as this node's own replica has them.
pub(super) async fn replica_of(broker: &Broker, partition: u32) -> Vec<Bytes> {
    let (mut batches, mut next) = (Vec::new(), Offset(0));
    loop {
        let partitions = vec![(PartitionId(partition), next)];
        let request = FetchRequest { partitions, from: ReadFrom::Replica, ..from("t", 0) };
        let fetched = fetch_one(broker, request).await;
        let more = as_produced(&fetched);
        if more.is_empty() {
            return batches;
        }
        next = Offset(next.0 + more.len() as u64);
        batches.extend(more);
    }
}

/// Waits until every node's own replica has exactly the acknowledged records, in the same places.
pub(super) async fn check_replicas(brokers: &[&Arc<Broker>], acknowledged: &[Vec<Bytes>]) {
    for (broker, (partition, expected)) in
        brokers.iter().flat_map(|broker| acknowledged.iter().enumerate().map(move |one| (broker, one)))
    {
        until("L1: acknowledged records on every replica", || async {
            let found = replica_of(broker, partition as u32).await;
            check(found.starts_with(expected), (partition, found.len(), expected.len()))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_three_nodes_form_a_cluster_and_go_on_without_one_of_them() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    let status = brokers[1].cluster_status().await.unwrap();
    assert_eq!(status.nodes.iter().map(|node| node.node.0).collect::<Vec<_>>(), [1, 2, 3]);

    brokers[1].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let mut acknowledged = vec![Vec::new(); 4];
    for number in 0..40 {
        let (partition, broker) = (number % 4, &brokers[number as usize % 3]);
        let offset = produce(broker, partition as u32, number).await;
        assert_eq!(offset.0 as usize, acknowledged[partition as usize].len());
        acknowledged[partition as usize].push(sent(&batch(number, 1, None)));
    }
    check_replicas(&brokers.iter().collect::<Vec<_>>(), &acknowledged).await;

    let status = brokers[0].cluster_status().await.unwrap();
    let leader = status.shards.iter().find(|shard| shard.shard == ShardId(1)).unwrap().leader.unwrap();
    let (gone, left): (Vec<_>, Vec<_>) = (1..=3).zip(&brokers).partition(|(node, _)| *node == leader.0);
    gone[0].1.stop().await;
    let left: Vec<&Arc<Broker>> = left.into_iter().map(|(_, broker)| broker).collect();
    for number in 40..60 {
        let partition = number % 4;
        produce(left[number as usize % 2], partition as u32, number).await;
        acknowledged[partition as usize].push(sent(&batch(number, 1, None)));
    }
    check_replicas(&left, &acknowledged).await;
    for broker in &left {
        broker.stop().await;
    }
}
