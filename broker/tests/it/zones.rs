//! Reading from replicas in the reader's zone.

use futures::future::join_all;
use stratalog_broker::{ClusterStatus, ReplicaRole, ShardStatus};
use stratalog_proto::{NodeId, ShardId};

use super::cluster::{Node, check, settled, three, until};
use super::*;

/// Starts nodes in zones, as a cluster with so many voters of a shard.
async fn start_in(zones: [&str; 3], nodes: &[Node; 3], replication: u32) -> Vec<Arc<Broker>> {
    let mut brokers = Vec::new();
    for (node, zone) in nodes.iter().zip(zones) {
        brokers.push(Broker::start(in_zone(zone, node, replication)).await.unwrap());
    }
    brokers
}

fn in_zone(zone: &str, node: &Node, replication: u32) -> BrokerOptions {
    let mut options = node.options();
    (options.cluster.zone, options.cluster.replication) = (zone.to_owned(), replication);
    options
}

fn of_zone(request: FetchRequest) -> FetchRequest {
    FetchRequest { from: ReadFrom::Zone, ..request }
}

/// Fills the one partition of a topic with batches of one record; what was sent.
async fn filled(broker: &Broker, batches: i64) -> Vec<Bytes> {
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    for n in 0..batches {
        broker.produce("t", P0, batch(n, 1, None)).await.unwrap();
    }
    (0..batches).map(|n| sent(&batch(n, 1, None))).collect()
}

/// The shard of the topic.
async fn shard(broker: &Broker) -> ShardId {
    broker.partitions("t").await.unwrap()[0].shard
}

fn status_of(status: &ClusterStatus, shard: ShardId) -> &ShardStatus {
    status.shards.iter().find(|one| one.shard == shard).unwrap()
}

async fn reads_all(broker: &Broker, expected: &[Bytes]) {
    until("all records are on the replica", || async {
        let read = as_produced(&fetch_one(broker, of_zone(from("t", 0))).await);
        check(read == expected, (read.len(), expected.len()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_each_zone_reads_from_its_replica_as_long_as_that_is_up_to_date() {
    let nodes = three();
    let brokers = start_in(["a", "b", "c"], &nodes, 3).await;
    until("three voters", || async { settled(&brokers[0].cluster_status().await.unwrap(), 3) }).await;
    let expected = filled(&brokers[0], 8).await;
    for broker in &brokers {
        reads_all(broker, &expected).await;
        // Whatever it is that a replica does not have, the leader says whether it is there.
        let beyond = fetch_one(broker, of_zone(from("t", 9))).await;
        assert_eq!(code(beyond.result), Code::OffsetOutOfRange);
    }
    let reader = Arc::clone(&brokers[1]);
    let waiting = tokio::spawn(async move {
        let wait = FetchRequest { max_wait: Duration::from_secs(50), ..from("t", 8) };
        fetch_one(&reader, of_zone(wait)).await
    });
    brokers[2].produce("t", P0, batch(8, 1, None)).await.unwrap();
    assert_eq!(as_produced(&waiting.await.unwrap()), [sent(&batch(8, 1, None))]);

    let leader = status_of(&brokers[0].cluster_status().await.unwrap(), shard(&brokers[0]).await).leader.unwrap();
    let (mut others, leads): (Vec<_>, Vec<_>) = (1..).zip(&brokers).partition(|(node, _)| NodeId(*node) != leader);
    let (_, cut_off) = others.pop().unwrap();
    join_all(others.iter().chain(&leads).map(|(_, broker)| broker.stop())).await;
    until("a replica that hears nobody is not read for its zone", || async {
        let read = fetch_one(cut_off, of_zone(from("t", 0))).await.result;
        check(read.as_ref().is_err_and(|error| error.code == Code::NotLeader), read)
    })
    .await;
    let own = fetch_one(cut_off, FetchRequest { from: ReadFrom::Replica, ..from("t", 0) }).await;
    assert!(as_produced(&own).starts_with(&expected), "who asks for that very replica gets what it has");
    cut_off.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_replica_asks_its_neighbour() {
    let nodes = three();
    let mut brokers = start_in(["a", "b", "a"], &nodes, 2).await;
    let has_two = |shard: &ShardStatus| {
        shard.replicas.len() == 2 && shard.replicas.iter().all(|replica| replica.role == ReplicaRole::Voter)
    };
    until("two voters of each shard", || async {
        let status = brokers[0].cluster_status().await.unwrap();
        let shards = status.shards.iter().filter(|shard| shard.shard != ShardId(0));
        check(status.nodes.len() == 3 && shards.clone().count() == 2 && shards.clone().all(has_two), status)
    })
    .await;
    let expected = filled(&brokers[0], 8).await;
    let shard = shard(&brokers[0]).await;
    let mut read = None;
    for _ in 0..5 {
        until("the shard is led in the other zone", || async {
            let moved = brokers[2].transfer_leader(shard, Some(NodeId(2))).await;
            let leader = status_of(&brokers[0].cluster_status().await.unwrap(), shard).leader;
            check(leader == Some(NodeId(2)), (moved, leader))
        })
        .await;
        for broker in &brokers {
            reads_all(broker, &expected).await;
        }
        // Nobody leads then: only the neighbour can answer, while it is up to date.
        drop(brokers.remove(1));
        let fetched = fetch_one(&brokers[1], of_zone(from("t", 0))).await;
        brokers.insert(1, start_after_kill_with(|| in_zone("b", &nodes[1], 2)).await);
        if fetched.result.is_ok() {
            read = Some(fetched);
            break;
        }
        // This machine was too slow for it.
    }
    assert_eq!(as_produced(&read.expect("an answer of the neighbour")), expected);
    join_all(brokers.iter().map(|broker| broker.stop())).await;
}
