//! Reading from replicas in the reader's zone.

use futures::future::join_all;
use stratalog_broker::{ClusterStatus, ReplicaRole, ShardStatus};
use stratalog_proto::{NodeId, ShardId};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::cluster::{Node, check, settled, three, until};
use super::*;

/// A node of a cluster with so many voters of a shard.
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
    let mut brokers = Vec::new();
    for (node, zone) in nodes.iter().zip(["a", "b", "c"]) {
        brokers.push(Broker::start(in_zone(zone, node, 3)).await.unwrap());
    }
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

/// Where a node says that it is reached: what comes there is passed on to it, as long as this is open.
struct Gate {
    address: String,
    open: watch::Sender<bool>,
}

impl Gate {
    async fn before(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, node) = (listener.local_addr().unwrap().to_string(), node.address.clone());
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(pass_on(from, node.clone(), is_open.clone()));
            }
        });
        Self { address, open }
    }
}

async fn pass_on(mut from: TcpStream, to: String, mut is_open: watch::Receiver<bool>) {
    let passing = async {
        let mut to = TcpStream::connect(to).await?;
        copy_bidirectional(&mut from, &mut to).await
    };
    tokio::select! {
        _ = passing => {}
        _ = is_open.wait_for(|open| !open) => {}
    }
}

/// Nobody reaches the leader, who goes on to reach its follower, so that this one is up to date for as long as it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_replica_asks_its_neighbour() {
    let nodes = three();
    let gate = Gate::before(&nodes[1]).await;
    let mut brokers = Vec::new();
    for (node, zone) in nodes.iter().zip(["a", "b", "a"]) {
        let mut options = in_zone(zone, node, 2);
        if zone == "b" {
            options.cluster.advertise = gate.address.clone();
        }
        brokers.push(Broker::start(options).await.unwrap());
    }
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
    until("the neighbour answers where the leader does not", || async {
        gate.open.send_replace(true);
        let moved = brokers[1].transfer_leader(shard, Some(NodeId(2))).await;
        let status = brokers[1].cluster_status().await.unwrap();
        let has_one = |node: NodeId| status_of(&status, shard).replicas.iter().any(|replica| replica.node == node);
        let (_, reader) = (1..).zip(&brokers).find(|(node, _)| !has_one(NodeId(*node))).unwrap();
        gate.open.send_replace(false);
        let of_leader = fetch_one(reader, from("t", 0)).await.result.map(drop);
        let of_zone = fetch_one(reader, of_zone(from("t", 0))).await;
        let read = of_zone.result.is_ok().then(|| as_produced(&of_zone));
        check(of_leader.is_err() && read.as_ref() == Some(&expected), (moved, of_leader, of_zone.result.map(drop)))
    })
    .await;
    gate.open.send_replace(true);
    join_all(brokers.iter().map(|broker| broker.stop())).await;
}
