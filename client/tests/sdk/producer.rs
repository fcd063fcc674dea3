//! What a producer promises, whatever the node does.

use std::time::Duration;

use futures::FutureExt;
use stratalog_client::{Ack, Compression, Delivery, OutRecord, Producer, ProducerOptions, SendError};
use stratalog_proto::batch::{Batch, partition_for_key};
use stratalog_proto::{Code, Offset, PartitionId, RaftIndex, ShardId, Token};

use super::node::{Fault, Node, TOPIC};

/// One record a batch, so that every record is a request of its own.
fn single_records() -> ProducerOptions {
    ProducerOptions { linger: Duration::ZERO, batch_bytes: 1, ..ProducerOptions::default() }
}

async fn producer(node: &Node, options: ProducerOptions) -> Producer {
    node.client().await.producer(TOPIC, options).await.unwrap()
}

fn values(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("value {n}")).collect()
}

async fn send_all(producer: &Producer, values: &[String]) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for value in values {
        deliveries.push(producer.send(OutRecord::new(value.clone())).await.unwrap());
    }
    deliveries
}

async fn acks(deliveries: Vec<Delivery>) -> Vec<Ack> {
    futures::future::try_join_all(deliveries).await.unwrap()
}

fn offsets(acks: &[Ack]) -> Vec<u64> {
    acks.iter().map(|ack| ack.offset.0).collect()
}

/// All records arrive once and in order, at the offsets that were acknowledged, although this happens.
async fn arrives_once_and_in_order(options: ProducerOptions, faults: impl IntoIterator<Item = Fault>) -> Node {
    let node = Node::start(1);
    node.faults(faults);
    let producer = producer(&node, options).await;
    let values = values(0..40);
    let acks = acks(send_all(&producer, &values).await).await;
    assert_eq!(node.values(0), values);
    assert_eq!(offsets(&acks), (0..40).collect::<Vec<_>>());
    node
}

#[tokio::test]
async fn records_are_batched_and_acknowledged_with_their_offsets() {
    let options = ProducerOptions { linger: Duration::from_secs(3_600), ..ProducerOptions::default() };
    let node = Node::start(1);
    let producer = producer(&node, options).await;
    let deliveries = send_all(&producer, &values(0..100)).await;
    producer.flush().await.unwrap();
    assert_eq!(offsets(&acks(deliveries).await), (0..100).collect::<Vec<_>>());
    assert_eq!(node.shared.state.lock().produce_requests, 1);
    let token = Token { shard: ShardId(0), index: RaftIndex(1) };
    assert_eq!(producer.tokens(), [token]);
}

#[tokio::test]
async fn every_codec_arrives() {
    for compression in Compression::ALL {
        let node = Node::start(1);
        let producer = producer(&node, ProducerOptions { compression, ..ProducerOptions::default() }).await;
        let deliveries = send_all(&producer, &values(0..10)).await;
        producer.close().await.unwrap();
        acks(deliveries).await;
        assert_eq!(node.values(0), values(0..10));
        let bytes = node.shared.state.lock().log.batches(0)[0].bytes.clone();
        assert_eq!(Batch::parse(bytes).unwrap().compression(), compression);
    }
}

#[tokio::test]
async fn keys_go_where_java_sends_them_and_partitions_where_they_are_told() {
    let node = Node::start(5);
    let producer = producer(&node, ProducerOptions::default()).await;
    for key in ["a", "user-7", "x"] {
        let ack = producer.send(OutRecord::keyed(key, "1")).await.unwrap().await.unwrap();
        assert_eq!(ack.partition, partition_for_key(key.as_bytes(), 5));
    }
    let told = OutRecord { partition: Some(PartitionId(3)), ..OutRecord::keyed("a", "1") };
    assert_eq!(producer.send(told).await.unwrap().await.unwrap().partition, PartitionId(3));
    let wrong = OutRecord { partition: Some(PartitionId(5)), ..OutRecord::new("1") };
    assert!(matches!(producer.send(wrong).await, Err(SendError::Failed { code: Code::UnknownPartition, .. })));
}

#[tokio::test]
async fn records_without_a_key_fill_one_batch_and_then_go_to_the_next_partition() {
    let node = Node::start(3);
    let options = ProducerOptions { linger: Duration::from_secs(3_600), ..ProducerOptions::default() };
    let producer = producer(&node, options).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let deliveries = send_all(&producer, &values(0..10)).await;
        producer.flush().await.unwrap();
        let mut partitions: Vec<_> = acks(deliveries).await.iter().map(|ack| ack.partition).collect();
        partitions.dedup();
        seen.extend(partitions);
    }
    seen.sort();
    assert_eq!(seen, [PartitionId(0), PartitionId(1), PartitionId(2)]);
}

#[tokio::test]
async fn refused_batches_are_sent_again_in_order() {
    let faults = [Fault::Pass, Fault::Refuse(Code::Overloaded), Fault::Pass, Fault::Refuse(Code::StorageFull)];
    arrives_once_and_in_order(single_records(), faults).await;
}

#[tokio::test]
async fn the_very_first_batch_refused_is_still_the_first_in_the_log() {
    let faults = [Fault::Refuse(Code::Overloaded), Fault::Refuse(Code::NotLeader)];
    arrives_once_and_in_order(single_records(), faults).await;
}

#[tokio::test]
async fn a_producer_that_is_not_idempotent_keeps_order_over_refusals() {
    let options = ProducerOptions { idempotent: false, ..single_records() };
    let node = arrives_once_and_in_order(options, [Fault::Pass, Fault::Refuse(Code::Overloaded)]).await;
    let first = node.shared.state.lock().log.batches(0)[0].bytes.clone();
    assert!(!Batch::parse(first).unwrap().header().has_producer());
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let late = [Fault::Pass, Fault::Pass, Fault::AnswerLate, Fault::Pass, Fault::AnswerLate, Fault::Pass];
    arrives_once_and_in_order(single_records(), late).await;
}

#[tokio::test]
async fn a_stream_lost_before_the_append_is_opened_again() {
    arrives_once_and_in_order(single_records(), [Fault::Pass, Fault::HangUp, Fault::HangUp]).await;
}

#[tokio::test]
async fn a_stream_lost_after_the_append_writes_nothing_twice() {
    let faults = [Fault::AppendAndHangUp, Fault::Pass, Fault::Pass, Fault::Pass, Fault::AppendAndHangUp];
    arrives_once_and_in_order(single_records(), faults).await;
}

#[tokio::test]
async fn a_timeout_of_a_batch_that_was_appended_writes_nothing_twice() {
    let faults = [Fault::Pass, Fault::AppendAndSay(Code::Timeout), Fault::Pass, Fault::AppendAndSay(Code::NotLeader)];
    arrives_once_and_in_order(single_records(), faults).await;
}

#[tokio::test]
async fn a_killed_node_that_comes_back_gets_everything_once() {
    let mut node = Node::start(1);
    let producer = producer(&node, single_records()).await;
    let first = send_all(&producer, &values(0..10)).await;
    acks(first).await;
    node.hold(true);
    let deliveries = send_all(&producer, &values(10..40)).await;
    node.kill();
    node.hold(false);
    node.restart();
    acks(deliveries).await;
    assert_eq!(node.values(0), values(0..40));
}

#[tokio::test]
async fn without_idempotence_a_lost_stream_leaves_the_outcome_unknown() {
    let node = Node::start(1);
    node.faults([Fault::AppendAndHangUp]);
    let producer = producer(&node, ProducerOptions { idempotent: false, ..single_records() }).await;
    let delivery = producer.send(OutRecord::new("perhaps")).await.unwrap();
    assert!(matches!(delivery.await, Err(SendError::Unknown { .. })));
    producer.send(OutRecord::new("next")).await.unwrap().await.unwrap();
    assert_eq!(node.values(0), ["perhaps", "next"]);
}

#[tokio::test]
async fn a_refused_batch_fails_and_those_behind_it_arrive() {
    let node = Node::start(1);
    node.faults([Fault::Pass, Fault::Pass, Fault::Refuse(Code::MessageTooLarge)]);
    let producer = producer(&node, single_records()).await;
    let deliveries = send_all(&producer, &values(0..20)).await;
    let outcomes = futures::future::join_all(deliveries).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        let refused = matches!(outcome, Err(SendError::Failed { code: Code::MessageTooLarge, .. }));
        assert_eq!(refused, n == 2, "{n}: {outcome:?}");
    }
    let arrived = [values(0..2), values(3..20)].concat();
    assert_eq!(node.values(0), arrived);
}

#[tokio::test]
async fn a_batch_in_flight_at_its_deadline_is_unknown_and_those_behind_it_arrive() {
    let node = Node::start(1);
    node.faults([Fault::AppendAndKeepSilent]);
    let options = ProducerOptions { deadline: Duration::from_secs(2), ..single_records() };
    let producer = producer(&node, options).await;
    let outcome = producer.send(OutRecord::new("silence")).await.unwrap().await;
    assert!(matches!(outcome, Err(SendError::Unknown { .. })), "{outcome:?}");
    // The stream counts as lost a second later; then the next record goes out, still in order.
    let outcome = loop {
        match producer.send(OutRecord::new("next")).await.unwrap().await {
            Ok(ack) => break ack,
            Err(error) => assert_eq!(error.code(), Code::Timeout),
        }
    };
    assert_eq!(outcome.offset, Offset(1));
}

#[tokio::test]
async fn a_record_that_never_left_failed() {
    let mut node = Node::start(1);
    let options = ProducerOptions { deadline: Duration::from_millis(200), ..single_records() };
    let producer = producer(&node, options).await;
    node.kill();
    let outcome = producer.send(OutRecord::new("nowhere")).await.unwrap().await;
    let Err(SendError::Failed { code: Code::Timeout, message }) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("not acknowledged within 200ms"), "{message}");
}

#[tokio::test]
async fn a_full_buffer_makes_senders_wait() {
    let node = Node::start(1);
    node.hold(true);
    let options = ProducerOptions { buffer_bytes: 4_096, ..single_records() };
    let producer = producer(&node, options).await;
    let mut deliveries = Vec::new();
    let kilobyte = "x".repeat(1_000);
    for _ in 0..3 {
        deliveries.push(producer.send(OutRecord::new(kilobyte.clone())).await.unwrap());
    }
    let mut waiting = Box::pin(producer.send(OutRecord::new(kilobyte.repeat(2))));
    assert!(waiting.as_mut().now_or_never().is_none());
    node.hold(false);
    deliveries.push(waiting.await.unwrap());
    assert_eq!(acks(deliveries).await.len(), 4);
}

#[tokio::test]
async fn waiting_for_room_ends_at_the_deadline() {
    let node = Node::start(1);
    node.hold(true);
    let deadline = Duration::from_millis(100);
    let producer = producer(&node, ProducerOptions { buffer_bytes: 2_000, deadline, ..single_records() }).await;
    let _first = producer.send(OutRecord::new("x".repeat(1_500))).await.unwrap();
    let second = producer.send(OutRecord::new("x".repeat(1_500))).await;
    assert!(matches!(second, Err(SendError::Failed { code: Code::Overloaded, .. })), "{second:?}");
    node.hold(false);
}

#[tokio::test]
async fn a_record_larger_than_the_buffer_is_refused_at_once() {
    let node = Node::start(1);
    let producer = producer(&node, ProducerOptions { buffer_bytes: 1_000, ..ProducerOptions::default() }).await;
    let refused = producer.send(OutRecord::new("x".repeat(1_001))).await;
    assert!(matches!(refused, Err(SendError::Failed { code: Code::MessageTooLarge, .. })));
}

#[tokio::test]
async fn lingering_records_leave_when_somebody_waits_for_their_room() {
    let node = Node::start(1);
    let options = ProducerOptions { linger: Duration::from_secs(3_600), buffer_bytes: 2_000, ..Default::default() };
    let producer = producer(&node, options).await;
    for _ in 0..5 {
        let _delivery = producer.send(OutRecord::new("x".repeat(1_500))).await.unwrap();
    }
    producer.close().await.unwrap();
    assert_eq!(node.values(0).len(), 5);
}

#[tokio::test]
async fn dropping_a_producer_sends_what_it_holds() {
    let node = Node::start(1);
    let options = ProducerOptions { linger: Duration::from_secs(3_600), ..ProducerOptions::default() };
    let producer = producer(&node, options).await;
    let deliveries = send_all(&producer, &values(0..10)).await;
    drop(producer);
    acks(deliveries).await;
    assert_eq!(node.values(0), values(0..10));
}

/// Uncompressed, and all of it due at once, when somebody flushes.
fn large_records() -> ProducerOptions {
    let linger = Duration::from_secs(3_600);
    ProducerOptions { compression: Compression::None, linger, ..ProducerOptions::default() }
}

fn to_partition(partition: u32, bytes: usize) -> OutRecord {
    OutRecord { partition: Some(PartitionId(partition)), ..OutRecord::new(vec![b'x'; bytes]) }
}

#[tokio::test]
async fn batches_that_would_make_a_request_too_large_go_in_several() {
    let node = Node::with_max_message_bytes(3, 16 << 20);
    let producer = producer(&node, large_records()).await;
    let mut deliveries = Vec::new();
    for (partition, mebibytes) in [(0, 3), (1, 15), (2, 3)] {
        deliveries.push(producer.send(to_partition(partition, mebibytes << 20)).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(acks(deliveries).await.len(), 3);
    assert_eq!(node.shared.state.lock().produce_requests, 3);
}

#[tokio::test]
async fn a_batch_that_the_topic_does_not_accept_fails_at_once_and_alone() {
    let node = Node::start(2);
    let producer = producer(&node, large_records()).await;
    let too_large = producer.send(to_partition(0, 2 << 20)).await.unwrap();
    let mut deliveries = Vec::new();
    for partition in [0, 1] {
        deliveries.push(producer.send(to_partition(partition, 10)).await.unwrap());
    }
    let outcome = producer.flush().await;
    let Err(SendError::Failed { code: Code::MessageTooLarge, message }) = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("of 2097") && message.contains("max.message.bytes of 1048576"), "{message}");
    assert!(matches!(too_large.await, Err(SendError::Failed { code: Code::MessageTooLarge, .. })));
    assert_eq!(offsets(&acks(deliveries).await), [0, 0]);
    let first = Batch::parse(node.shared.state.lock().log.batches(0)[0].bytes.clone()).unwrap();
    assert_eq!((first.header().producer_epoch, first.header().base_sequence), (0, 0), "no sequence is missing");
}

#[tokio::test]
async fn flush_tells_the_first_failure() {
    let node = Node::start(1);
    node.faults([Fault::Refuse(Code::UnknownTopic)]);
    let producer = producer(&node, ProducerOptions::default()).await;
    let _delivery = producer.send(OutRecord::new("x")).await.unwrap();
    assert!(matches!(producer.flush().await, Err(SendError::Failed { code: Code::UnknownTopic, .. })));
    assert_eq!(producer.flush().await, Ok(()));
}

#[tokio::test]
async fn options_that_cannot_be_are_refused() {
    let node = Node::start(1);
    let options = ProducerOptions { batch_bytes: 0, ..ProducerOptions::default() };
    let error = node.client().await.producer(TOPIC, options).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig);
    let error = node.client().await.producer("nothing", ProducerOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownTopic);
}
