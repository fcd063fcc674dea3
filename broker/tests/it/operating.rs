//! What an operator does to a cluster while it is written to: grow, move, spread, drain, remove.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use stratalog_broker::{ClusterStatus, NodeState, ReplicaRole};
use stratalog_proto::{NodeId, ShardId};

use super::cluster::{Node, PATIENCE, check, cluster_of, three, until};
use super::*;

/// Whether nothing comes or goes, every shard has three voters on distinct nodes, and a leader.
fn settled(status: &ClusterStatus) -> Result<(), String> {
    let is_settled = status.shards.iter().all(|shard| {
        let voters = shard.replicas.iter().filter(|replica| replica.role == ReplicaRole::Voter).count();
        let pending = |role| matches!(role, ReplicaRole::Joining | ReplicaRole::Leaving);
        voters == 3 && shard.leader.is_some() && !shard.replicas.iter().any(|replica| pending(replica.role))
    });
    check(is_settled, status)
}

async fn until_settled(broker: &Broker) -> ClusterStatus {
    until("shards that are as they are wanted", || async { settled(&broker.cluster_status().await.unwrap()) }).await;
    broker.cluster_status().await.unwrap()
}

/// Replicas of shards on each node, the metadata's not counted.
fn replicas(status: &ClusterStatus) -> BTreeMap<u64, usize> {
    let mut counts: BTreeMap<u64, usize> = status.nodes.iter().map(|node| (node.node.0, 0)).collect();
    for shard in status.shards.iter().filter(|shard| shard.shard != ShardId(0)) {
        shard.replicas.iter().for_each(|replica| *counts.get_mut(&replica.node.0).unwrap() += 1);
    }
    counts
}

/// Produces one record after the other until it is told to stop, each until it is acknowledged; how many.
async fn write(broker: Arc<Broker>, stop: Arc<AtomicBool>) -> i64 {
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = broker.produce("t", PartitionId(number as u32 % 4), batch(number, 1, None)).await {
            assert!(error.code.is_retriable() && Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        number += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    number
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_shards_begin_where_nodes_answer() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].stop().await;
    let config = TopicConfig { replication: Some(1), ..TopicConfig::default() };
    // Both look for shards of this replication when there are none.
    let (topic, other) =
        tokio::join!(brokers[1].create_topic("t", 4, config.clone()), brokers[2].create_topic("u", 4, config));
    let (topic, other) = (topic.unwrap(), other.unwrap());
    let distinct = |shards: &[ShardId]| shards.iter().copied().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(distinct(&topic.shards), distinct(&other.shards), "they are made once");
    for partition in 0..4 {
        let produced = brokers[2].produce("t", PartitionId(partition), batch(0, 1, None)).await.unwrap();
        assert_eq!(produced.base_offset, Offset(0));
    }
    let status = brokers[1].cluster_status().await.unwrap();
    for shard in status.shards.iter().filter(|shard| topic.shards.contains(&shard.shard)) {
        let replica = shard.replicas[0];
        assert_eq!((shard.replicas.len(), replica.role), (1, ReplicaRole::Voter));
        assert_ne!(replica.node, NodeId(1), "it is down");
    }
    for broker in &brokers[1..] {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_a_cluster_grows_spreads_drains_and_loses_a_node_while_it_is_written_to() {
    let nodes = three();
    let mut brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 4, TopicConfig::default()).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(Arc::clone(&brokers[0]), Arc::clone(&stop)));

    let node = Node::new(&[&nodes[0]]);
    let fourth = node.start().await;
    until("the new node", || async {
        let status = brokers[0].cluster_status().await.unwrap();
        check(status.nodes.len() == 4 && status.nodes[3].reachable, status)
    })
    .await;
    assert_eq!(replicas(&brokers[0].cluster_status().await.unwrap())[&4], 0, "a new node gets what it is told to get");

    let planned = brokers[1].rebalance(true).await.unwrap();
    assert!(planned.iter().all(|one| one.to == Some(NodeId(4))) && !planned.is_empty(), "{planned:?}");
    assert_eq!(brokers[1].rebalance(false).await.unwrap(), planned);
    for again in brokers[2].rebalance(false).await.unwrap() {
        assert!(again.reason.contains("under way"), "{again:?}");
    }
    let status = until_settled(&brokers[2]).await;
    let counts = replicas(&status);
    assert!(counts.values().max().unwrap() - counts.values().min().unwrap() <= 1, "{counts:?}");

    let refused = brokers[0].remove_node(NodeId(3), false).await.unwrap_err();
    assert_eq!(refused.code, Code::QuorumAtRisk);
    assert_eq!(brokers[1].drain_node(NodeId(3), false).await.unwrap().state, NodeState::Draining);
    until("a node without replicas", || async {
        let status = brokers[0].cluster_status().await.unwrap();
        settled(&status)?;
        let votes = status.shards[0].replicas.iter().any(|r| r.node == NodeId(3) && r.role == ReplicaRole::Voter);
        check(!votes && replicas(&status)[&3] == 0, status)
    })
    .await;
    brokers[1].remove_node(NodeId(3), false).await.unwrap();
    until("a node that nobody answers any more", || async {
        let status = brokers[2].cluster_status().await.map_err(|error| error.to_string())?;
        let is_told = status.warnings.iter().any(|warning| warning.contains("node 3 was removed from the cluster"));
        check(is_told, status.warnings)
    })
    .await;
    let removed = brokers.pop().unwrap();
    removed.stop().await;
    drop(removed);
    let again = start_after_kill_with(|| nodes[2].options()).await;
    until("a node that says why it is not ready", || async {
        let error = again.ready().err().map(|error| error.message).unwrap_or_default();
        check(error.contains("node 3 was removed from the cluster"), error)
    })
    .await;
    again.stop().await;
    let status = until_settled(&fourth).await;
    assert_eq!(status.nodes.iter().map(|node| node.node.0).collect::<Vec<_>>(), [1, 2, 4]);

    stop.store(true, Ordering::SeqCst);
    let written = writing.await.unwrap();
    let ends = fourth.list_offsets("t", OffsetAt::Latest).await.unwrap();
    let total: u64 = ends.iter().map(|(_, end)| end.0).sum();
    // A record whose acknowledgement was lost was sent again.
    assert!(total as i64 >= written, "{total} of {written} acknowledged records are there");
    for broker in [&brokers[0], &brokers[1], &fourth] {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_goes_where_it_is_asked_to_go() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    for shard in [ShardId(0), ShardId(1)] {
        for to in [NodeId(2), NodeId(3), NodeId(1)] {
            until("leadership there", || async {
                // A replica may be behind for a moment, and the cluster itself spreads leaders.
                let led_by = brokers[1].transfer_leader(shard, Some(to)).await;
                check(led_by.as_ref().is_ok_and(|leader| *leader == to), led_by)
            })
            .await;
        }
        let code = |result: Result<NodeId, stratalog_proto::Error>| result.unwrap_err().code;
        assert_eq!(code(brokers[0].transfer_leader(shard, Some(NodeId(9))).await), Code::InvalidRequest);
    }
    for broker in &brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_spread_over_the_nodes() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    until("leaders on two nodes", || async {
        let status = brokers[0].cluster_status().await.unwrap();
        let leaders = status.shards[1..].iter().map(|shard| shard.leader).collect::<std::collections::BTreeSet<_>>();
        check(leaders.len() == status.shards.len() - 1 && !leaders.contains(&None), status)
    })
    .await;
    for broker in &brokers {
        broker.stop().await;
    }
}
