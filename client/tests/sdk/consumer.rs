//! What a consumer promises.

use std::time::Duration;

use stratalog_client::{ConsumedRecord, Consumer, ConsumerOptions, Start, Stop};
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::{Code, Offset, PartitionId};

use super::node::{Node, TOPIC};

/// Appends batches of four records, whose values and timestamps (in seconds) are their offsets.
fn fill(node: &Node, partition: u32, batches: u64) {
    let mut state = node.shared.state.lock();
    for _ in 0..batches {
        let base = state.log.end(partition);
        let mut builder = BatchBuilder::new(Compression::Lz4);
        for n in base..base + 4 {
            let value = n.to_string();
            builder.push(n as i64 * 1_000, Some(b"k"), Some(value.as_bytes()), &[("h", None)]);
        }
        state.log.append(partition, builder.finish()).unwrap();
    }
}

fn to_end(start: Start) -> ConsumerOptions {
    ConsumerOptions { start, stop: Stop::AtEnd, ..ConsumerOptions::default() }
}

async fn consumer(node: &Node, options: ConsumerOptions) -> Consumer {
    node.client().await.consumer(TOPIC, options).await.unwrap()
}

async fn read_all(mut consumer: Consumer) -> Vec<ConsumedRecord> {
    let mut all = Vec::new();
    while let Some(records) = consumer.next().await.unwrap() {
        assert!(!records.is_empty());
        all.extend(records);
    }
    all
}

fn offsets(records: &[ConsumedRecord]) -> Vec<u64> {
    records.iter().map(|record| record.offset.0).collect()
}

#[tokio::test]
async fn everything_is_read_once_and_in_order_up_to_the_end() {
    let node = Node::start(2);
    fill(&node, 0, 5);
    fill(&node, 1, 3);
    let records = read_all(consumer(&node, to_end(Start::Earliest)).await).await;
    for (partition, count) in [(0, 20), (1, 12)] {
        let of_it: Vec<_> = records.iter().filter(|record| record.partition.0 == partition).cloned().collect();
        assert_eq!(offsets(&of_it), (0..count).collect::<Vec<_>>());
    }
    let last = records.iter().find(|record| record.offset.0 == 19).unwrap();
    assert_eq!(last.value.as_deref(), Some(&b"19"[..]));
    assert_eq!(last.key.as_deref(), Some(&b"k"[..]));
    assert_eq!((last.timestamp_ms, &last.headers[..]), (19_000, &[("h".to_owned(), None)][..]));
}

#[tokio::test]
async fn batches_that_come_joined_are_read_as_those_that_come_apart() {
    let node = Node::that_joins_batches(2);
    fill(&node, 0, 5);
    fill(&node, 1, 3);
    let records = read_all(consumer(&node, to_end(Start::Offset(Offset(6)))).await).await;
    for (partition, count) in [(0, 20), (1, 12)] {
        let of_it: Vec<_> = records.iter().filter(|record| record.partition.0 == partition).cloned().collect();
        assert_eq!(offsets(&of_it), (6..count).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_empty_topic_ends_at_once() {
    let node = Node::start(3);
    assert!(read_all(consumer(&node, to_end(Start::Earliest)).await).await.is_empty());
}

#[tokio::test]
async fn an_offset_within_a_batch_is_the_first_that_is_read() {
    let node = Node::start(1);
    fill(&node, 0, 3);
    let records = read_all(consumer(&node, to_end(Start::Offset(Offset(6)))).await).await;
    assert_eq!(offsets(&records), (6..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_time_starts_at_the_first_record_of_it() {
    let node = Node::start(1);
    fill(&node, 0, 3);
    let records = read_all(consumer(&node, to_end(Start::Time(7_000_000_000))).await).await;
    assert_eq!(offsets(&records), (7..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn latest_reads_what_comes_after() {
    let node = Node::start(1);
    fill(&node, 0, 1);
    let mut consumer = consumer(&node, ConsumerOptions { start: Start::Latest, ..ConsumerOptions::default() }).await;
    fill(&node, 0, 1);
    let records = consumer.next().await.unwrap().unwrap();
    assert_eq!(offsets(&records), [4, 5, 6, 7]);
}

#[tokio::test]
async fn the_end_is_the_one_seen_at_the_start() {
    let node = Node::start(1);
    fill(&node, 0, 2);
    let consumer = consumer(&node, ConsumerOptions { prefetch: 1, ..to_end(Start::Earliest) }).await;
    fill(&node, 0, 50);
    assert_eq!(offsets(&read_all(consumer).await), (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_the_partitions_asked_for_are_read() {
    let node = Node::start(3);
    (0..3).for_each(|partition| fill(&node, partition, 1));
    let options = ConsumerOptions { partitions: Some(vec![PartitionId(2)]), ..to_end(Start::Earliest) };
    let records = read_all(consumer(&node, options).await).await;
    assert!(records.len() == 4 && records.iter().all(|record| record.partition == PartitionId(2)));
    let options = ConsumerOptions { partitions: Some(vec![PartitionId(3)]), ..ConsumerOptions::default() };
    let error = node.client().await.consumer(TOPIC, options).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownPartition);
}

#[tokio::test]
async fn offsets_dropped_by_retention_are_skipped() {
    let node = Node::start(1);
    fill(&node, 0, 4);
    node.shared.state.lock().log.truncate_front(0, 10);
    let records = read_all(consumer(&node, to_end(Start::Offset(Offset(2)))).await).await;
    assert_eq!(offsets(&records), (10..16).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_offset_above_the_end_is_an_error() {
    let node = Node::start(1);
    fill(&node, 0, 1);
    let options = ConsumerOptions { start: Start::Offset(Offset(9)), ..ConsumerOptions::default() };
    let error = consumer(&node, options).await.next().await.unwrap_err();
    assert_eq!(error.code(), Code::OffsetOutOfRange);
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_after_all_records_before_it() {
    let node = Node::start(1);
    fill(&node, 0, 4);
    {
        let mut state = node.shared.state.lock();
        let batch = &mut state.log.batches_mut(0)[3];
        let mut bytes = batch.bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        batch.bytes = bytes.into();
    }
    let mut consumer = consumer(&node, to_end(Start::Earliest)).await;
    let mut read = Vec::new();
    let error = loop {
        match consumer.next().await {
            Ok(records) => read.extend(records.expect("the damage is before the end")),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::CorruptBatch);
    assert_eq!(offsets(&read), (0..12).collect::<Vec<_>>());
    assert_eq!(consumer.next().await, Ok(None));
}

#[tokio::test]
async fn retriable_failures_are_ridden_out() {
    let node = Node::start(1);
    fill(&node, 0, 4);
    node.shared.state.lock().fetch_failures.extend([Code::Unavailable, Code::NotLeader, Code::Overloaded]);
    assert_eq!(read_all(consumer(&node, to_end(Start::Earliest)).await).await.len(), 16);
}

#[tokio::test]
async fn a_killed_node_that_comes_back_is_read_on() {
    let mut node = Node::start(1);
    fill(&node, 0, 2);
    let mut consumer = consumer(&node, ConsumerOptions::default()).await;
    assert_eq!(offsets(&consumer.next().await.unwrap().unwrap()), (0..8).collect::<Vec<_>>());
    node.kill();
    fill(&node, 0, 1);
    node.restart();
    assert_eq!(offsets(&consumer.next().await.unwrap().unwrap()), [8, 9, 10, 11]);
}

#[tokio::test]
async fn patience_with_a_node_that_is_gone_ends() {
    let mut node = Node::start(1);
    let options = ConsumerOptions { patience: Duration::from_millis(50), ..ConsumerOptions::default() };
    let mut consumer = consumer(&node, options).await;
    node.kill();
    let error = consumer.next().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("cannot read topic orders"), "{error}");
}

#[tokio::test]
async fn fetches_run_ahead_only_so_far() {
    let node = Node::start(1);
    fill(&node, 0, 40);
    let mut consumer = consumer(&node, ConsumerOptions { prefetch: 2, ..to_end(Start::Earliest) }).await;
    consumer.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Read, waiting in the channel, and the one that waits for its place there.
    assert!(node.shared.state.lock().fetches <= 5);
    assert_eq!(read_all(consumer).await.len(), 160 - 8);
}
