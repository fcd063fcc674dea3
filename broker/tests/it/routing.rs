//! Any node answers anything: what one of three nodes is asked, the one that leads does.

use std::collections::BTreeMap;

use futures::future::join_all;
use stratalog_broker::groups::{GroupState, ResetTo};
use stratalog_proto::ShardId;

use super::cluster::{cluster_of, three};
use super::*;

const PARTITIONS: u32 = 4;

async fn stop(brokers: &[Arc<Broker>]) {
    for broker in brokers {
        broker.stop().await;
    }
}

/// A request for all partitions, from the beginning.
fn all(max_wait: Duration) -> FetchRequest {
    let partitions = (0..PARTITIONS).map(|partition| (PartitionId(partition), Offset(0))).collect();
    FetchRequest { partitions, max_wait, ..from("t", 0) }
}

fn counts(fetched: &[FetchedPartition]) -> Vec<usize> {
    fetched.iter().map(|partition| as_produced(partition).len()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_usable_everywhere_once_its_creation_has_returned() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    for n in 0..6 {
        let name = format!("t{n}");
        brokers[n % 3].create_topic(&name, 2, TopicConfig::default()).await.unwrap();
        let other = &brokers[(n + 1) % 3];
        for partition in 0..2 {
            let produced = other.produce(&name, PartitionId(partition), batch(0, 1, None)).await.unwrap();
            assert_eq!(produced.base_offset, Offset(0));
        }
        let ends = brokers[(n + 2) % 3].list_offsets(&name, OffsetAt::Latest).await.unwrap();
        assert_eq!(ends, [(PartitionId(0), Offset(1)), (PartitionId(1), Offset(1))]);
        other.delete_topic(&name).await.unwrap();
    }
    for broker in &brokers {
        let unknown = broker.produce("t0", P0, batch(0, 1, None)).await;
        assert_eq!(code(unknown), Code::UnknownTopic, "a deletion is seen everywhere, too");
    }
    stop(&brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_reads_the_same() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", PARTITIONS, TopicConfig::default()).await.unwrap();
    for n in 0..12_u32 {
        let partition = PartitionId(n % PARTITIONS);
        brokers[n as usize % 3].produce("t", partition, batch(i64::from(n) * 10, 5, None)).await.unwrap();
    }
    brokers[1].seal_topic("t").await.unwrap();
    brokers[2].merge_topic("t").await.unwrap();
    let partitions = brokers[0].partitions("t").await.unwrap();
    assert_eq!(partitions.iter().map(|info| info.high_watermark.0).collect::<Vec<_>>(), [15; PARTITIONS as usize]);
    let segments = brokers[0].segments("t").await.unwrap();
    assert_eq!(segments.iter().map(|(_, meta)| meta.rows).sum::<u64>(), 60);
    for broker in &brokers {
        assert_eq!(broker.partitions("t").await.unwrap(), partitions);
        assert_eq!(broker.segments("t").await.unwrap(), segments);
        assert_eq!(broker.describe_topic("t").await.unwrap().2.unwrap().rows, 60);
        assert_eq!(counts(&broker.fetch(all(Duration::ZERO)).await.unwrap()), [3; PARTITIONS as usize]);
        let verified = broker.verify("t", PartitionId(3)).await.unwrap();
        assert_eq!((verified.records, verified.damaged), (15, 0));
        let at = broker.list_offsets("t", OffsetAt::Time(50_000_000)).await.unwrap();
        assert_eq!(at.len(), PARTITIONS as usize);
    }
    let before = [(PartitionId(0), Offset(5)), (PartitionId(1), Offset(u64::MAX))];
    let starts = brokers[2].delete_records("t", &before).await.unwrap();
    assert_eq!(starts, [(PartitionId(0), Offset(5)), (PartitionId(1), Offset(15))]);
    let beyond = brokers[1].delete_records("t", &[(PartitionId(2), Offset(16))]).await;
    assert_eq!(code(beyond), Code::OffsetOutOfRange);
    // Nothing of partition 1 is left, so that its segment goes by itself, if it has not been dropped before.
    let dropped = brokers[1].drop_before("t", i64::MAX, false).await.unwrap().rows;
    assert!([45, 60].contains(&dropped), "{dropped}");
    stop(&brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_shows_and_changes_every_group() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", PARTITIONS, TopicConfig::default()).await.unwrap();
    for partition in 0..PARTITIONS {
        brokers[0].produce("t", PartitionId(partition), batch(0, 10, None)).await.unwrap();
    }
    assert!(brokers[1].list_groups().await.unwrap().is_empty(), "no group was ever asked for");
    assert_eq!(code(brokers[1].describe_group("g0").await), Code::UnknownGroup);
    // Of the coordinators each node is one, most likely: slots go by shards in turn.
    let names: Vec<String> = (0..6).map(|n| format!("g{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let reset = brokers[n % 3].reset_group(name, Some("t"), ResetTo::Offset(Offset(4)), false).await.unwrap();
        assert_eq!(reset.len(), PARTITIONS as usize);
    }
    for broker in &brokers {
        let listed = broker.list_groups().await.unwrap();
        assert_eq!(listed.iter().map(|of| of.group.clone()).collect::<Vec<_>>(), names);
        for name in &names {
            let status = broker.describe_group(name).await.unwrap();
            assert_eq!(status.described.state, GroupState::Empty);
            assert_eq!(status.offsets.iter().map(|of| of.offset.0).collect::<Vec<_>>(), [4; PARTITIONS as usize]);
        }
    }
    for (n, name) in names.iter().enumerate() {
        let (here, there) = (&brokers[n % 3], &brokers[(n + 1) % 3]);
        let back = here.reset_group(name, None, ResetTo::Shift(-1), false).await.unwrap();
        assert!(back.iter().all(|of| (of.before, of.after) == (Some(Offset(4)), Offset(3))), "{back:?}");
        assert_eq!(there.reset_group(name, None, ResetTo::Latest, true).await.unwrap()[0].before, Some(Offset(3)));
        there.delete_group(name).await.unwrap();
        assert_eq!(code(here.delete_group(name).await), Code::UnknownGroup);
    }
    stop(&brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_over_all_leaders_waits_until_one_of_them_has_something() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", PARTITIONS, TopicConfig::default()).await.unwrap();
    for partition in 0..PARTITIONS {
        let reader = Arc::clone(&brokers[partition as usize % 3]);
        let at_the_ends = reader.list_offsets("t", OffsetAt::Latest).await.unwrap();
        let request = FetchRequest { partitions: at_the_ends, max_wait: Duration::from_secs(50), ..from("t", 0) };
        let waiting = tokio::spawn(async move { reader.fetch(request).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished(), "there is nothing");
        let writer = &brokers[(partition as usize + 1) % 3];
        writer.produce("t", PartitionId(partition), batch(0, 1, None)).await.unwrap();
        let fetched = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap().unwrap();
        let found: BTreeMap<u32, usize> = fetched.iter().map(|one| (one.partition.0, as_produced(one).len())).collect();
        let expected = (0..PARTITIONS).map(|other| (other, usize::from(other == partition))).collect();
        assert_eq!(found, expected);
    }
    stop(&brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_batches_in_flight_keep_their_order_while_leaders_change() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let shard = brokers[0].partitions("t").await.unwrap()[0].shard;
    let (producer, _) = brokers[1].init_producer().await.unwrap();
    let mut sequence = 0;
    for _ in 0..5 {
        let sending = (0..100).map(|n| {
            let number = sequence + n;
            brokers[1].produce("t", P0, batch(number.into(), 1, Some((producer, number))))
        });
        let (sent, moved) = futures::join!(join_all(sending), move_leader(&brokers[2], shard));
        moved.unwrap();
        let mut unknown = false;
        for (n, sent) in (sequence..).zip(sent) {
            match sent {
                Ok(produced) => assert_eq!(produced.base_offset, Offset(n as u64)),
                // It was in flight when leadership changed. If it was not written, nothing may follow it.
                Err(error) if error.code == Code::Timeout => unknown = true,
                Err(error) => assert!(unknown && error.code == Code::OutOfOrderSequence, "{error}"),
            }
        }
        let end = brokers[0].list_offsets("t", OffsetAt::Latest).await.unwrap()[0].1;
        sequence = i32::try_from(end.0).unwrap();
    }
    assert!(sequence > 0);
    let read = join_all(brokers.iter().map(|broker| broker.fetch(from("t", 0)))).await;
    let expected: Vec<Bytes> = (0..sequence).map(|n| sent(&batch(n.into(), 1, Some((producer, n))))).collect();
    for fetched in read {
        assert_eq!(as_produced(&fetched.unwrap()[0]), expected);
    }
    stop(&brokers).await;
}

async fn move_leader(broker: &Broker, shard: ShardId) -> Result<(), Error> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    broker.transfer_leader(shard, None).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_two_nodes_change_at_the_same_time_are_both_changed() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let set = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let (retention, bytes) = (set("retention", "1h"), set("max.message.bytes", "4321"));
    let (one, other) = futures::join!(brokers[1].alter_topic("t", &retention), brokers[2].alter_topic("t", &bytes));
    one.unwrap();
    other.unwrap();
    brokers[0].alter_topic("t", &set("retention.bytes", "77")).await.unwrap();
    let config = brokers[0].find_topic("t").await.unwrap().config.clone();
    assert_eq!(config.retention_ns, Some(3_600_000_000_000));
    assert_eq!((config.max_message_bytes, config.retention_bytes), (4321, Some(77)));
    stop(&brokers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_does_not_say_that_an_offset_is_out_of_range() {
    let nodes = three();
    let brokers = cluster_of(&nodes).await;
    brokers[0].create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let beyond = || FetchRequest { partitions: vec![(P0, Offset(7))], ..from("t", 0) };
    for broker in &brokers {
        let fetched = fetch_one(broker, beyond()).await;
        assert_eq!(code(fetched.result), Code::OffsetOutOfRange, "a majority confirms it");
    }
    let shard = brokers[0].partitions("t").await.unwrap()[0].shard;
    let status = brokers[0].cluster_status().await.unwrap();
    let leader = status.shards.iter().find(|one| one.shard == shard).unwrap().leader.unwrap();
    let (cut_off, gone): (Vec<_>, Vec<_>) = (1..).zip(&brokers).partition(|(node, _)| *node == leader.0);
    join_all(gone.iter().map(|(_, broker)| broker.stop())).await;
    let fetched = fetch_one(cut_off[0].1, beyond()).await;
    assert_eq!(code(fetched.result), Code::NotLeader, "whoever leads by now may have that offset");
    cut_off[0].1.stop().await;
}
