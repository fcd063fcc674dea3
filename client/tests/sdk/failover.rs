//! Two nodes with one log: what a client does where one of them is lost, silent, or the wrong one.

use std::time::Duration;

use stratalog_client::{Client, ConsumerOptions, Delivery, OutRecord, Producer, ProducerOptions, QueryOptions, Stop};
use stratalog_proto::v1::query_chunk::Chunk;
use stratalog_proto::{Code, Error};
use tonic::Status;

use super::node::{Fault, Node, TOPIC};
use super::query::{ROWS, arrow_stream, chunk, stats};

/// Two nodes, and a client that asks the first until it does not answer.
async fn two() -> (Node, Node, Client) {
    let first = Node::start(1);
    let second = Node::beside(&first);
    loop {
        let client = Client::connect(&format!("{}, {}", first.address(), second.address())).await.unwrap();
        // On a busy machine the second may be faster once.
        if client.endpoint().ends_with(&first.address()) {
            return (first, second, client);
        }
    }
}

/// An address at which nobody listens.
fn nobody() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().to_string()
}

async fn producer(client: &Client) -> Producer {
    let options = ProducerOptions { linger: Duration::ZERO, batch_bytes: 1, ..ProducerOptions::default() };
    client.producer(TOPIC, options).await.unwrap()
}

async fn send(producer: &Producer, numbers: std::ops::Range<u64>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for n in numbers {
        deliveries.push(producer.send(OutRecord::new(n.to_string())).await.unwrap());
    }
    deliveries
}

async fn offsets(deliveries: Vec<Delivery>) -> Vec<u64> {
    futures::future::try_join_all(deliveries).await.unwrap().iter().map(|ack| ack.offset.0).collect()
}

#[tokio::test]
async fn the_first_node_that_answers_is_connected_to() {
    let node = Node::start(1);
    let client = Client::connect_any(&[&nobody(), &node.address()]).await.unwrap();
    assert!(client.endpoint().ends_with(&node.address()));
    assert_eq!(client.topics().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_node_that_takes_connections_and_does_not_answer_is_passed_over() {
    let hangs = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, another] = hangs.each_ref().map(|hangs| hangs.local_addr().unwrap().to_string());
    let node = Node::start(1);
    let client = Client::connect_any(&[&one, &another, &node.address(), &nobody()]).await.unwrap();
    assert!(client.endpoint().ends_with(&node.address()));
    assert_eq!(client.topics().await.unwrap().len(), 1);
    let error = Client::connect_any(&[&one, &nobody()]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&one) && error.message().contains("refused"), "{error}");
}

#[tokio::test]
async fn every_node_that_is_not_reached_is_named() {
    let (one, another) = (nobody(), nobody());
    let error = Client::connect_any(&[&one, &another]).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&one) && error.message().contains(&another), "{error}");
}

#[tokio::test]
async fn a_producer_goes_on_with_another_node_once_and_in_order() {
    let (mut first, second, client) = two().await;
    let producer = producer(&client).await;
    let before = send(&producer, 0..20).await;
    first.kill();
    let after = send(&producer, 20..40).await;
    assert_eq!(offsets(before).await, (0..20).collect::<Vec<_>>());
    assert_eq!(offsets(after).await, (20..40).collect::<Vec<_>>());
    assert_eq!(second.values(0), (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    assert!(client.endpoint().ends_with(&second.address()), "who works is remembered");
}

#[tokio::test]
async fn a_producer_leaves_a_node_that_is_the_wrong_one() {
    for code in [Code::NotLeader, Code::NotFormed, Code::Unavailable] {
        let (first, second, client) = two().await;
        let producer = producer(&client).await;
        first.faults([Fault::Pass, Fault::Refuse(code)]);
        assert_eq!(offsets(send(&producer, 0..10).await).await, (0..10).collect::<Vec<_>>());
        assert!(client.endpoint().ends_with(&second.address()), "{code}");
    }
}

#[tokio::test]
async fn a_producer_leaves_a_node_that_keeps_silent() {
    let (first, second, client) = two().await;
    let producer = producer(&client).await;
    first.faults([Fault::Pass, Fault::AppendAndKeepSilent]);
    assert_eq!(offsets(send(&producer, 0..10).await).await, (0..10).collect::<Vec<_>>());
    assert_eq!(second.values(0).len(), 10, "what was appended in silence is not appended again");
    assert!(client.endpoint().ends_with(&second.address()));
}

#[tokio::test]
async fn a_consumer_goes_on_with_another_node() {
    let (mut first, second, client) = two().await;
    let producer = producer(&client).await;
    offsets(send(&producer, 0..20).await).await;
    let options = ConsumerOptions { stop: Stop::AtEnd, prefetch: 1, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(TOPIC, options).await.unwrap();
    let mut read = consumer.next().await.unwrap().unwrap();
    first.kill();
    while let Some(records) = consumer.next().await.unwrap() {
        read.extend(records);
    }
    assert_eq!(read.iter().map(|record| record.offset.0).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(client.endpoint().ends_with(&second.address()));
}

#[tokio::test]
async fn a_call_goes_to_another_node_where_the_first_one_did_nothing() {
    for code in [Code::NotLeader, Code::NotFormed] {
        let (first, second, client) = two().await;
        first.shared.state.lock().topic_failures.push_back(code);
        client.delete_topic(TOPIC).await.unwrap();
        assert!(client.endpoint().ends_with(&second.address()), "{code}");
    }
    let (mut first, second, client) = two().await;
    first.kill();
    client.describe_topic(TOPIC).await.unwrap();
    client.delete_topic(TOPIC).await.unwrap();
    assert!(client.endpoint().ends_with(&second.address()));
}

#[tokio::test]
async fn a_change_that_may_have_happened_is_not_tried_again() {
    let (first, second, client) = two().await;
    first.shared.state.lock().topic_failures.push_back(Code::Unavailable);
    let error = client.delete_topic(TOPIC).await.unwrap_err();
    assert_eq!((error.code(), first.shared.state.lock().topic_calls), (Code::Unavailable, 1));
    assert!(client.endpoint().ends_with(&second.address()), "the next call is another node's");
}

#[tokio::test]
async fn a_cluster_that_is_not_formed_is_told_after_one_round() {
    let (first, _second, client) = two().await;
    first.shared.state.lock().topic_failures.extend([Code::NotFormed; 3]);
    let error = client.describe_topic(TOPIC).await.unwrap_err();
    assert_eq!((error.code(), first.shared.state.lock().topic_calls), (Code::NotFormed, 2));
}

fn lost() -> Status {
    Error::new(Code::Unavailable, "the node is stopping").into()
}

#[tokio::test]
async fn a_query_without_rows_yet_is_asked_again_elsewhere() {
    let schema_alone = arrow_stream().split_at(100).0.to_vec();
    for begun in [vec![Err(lost())], vec![chunk(Chunk::Arrow(schema_alone.into())), Err(lost())], Vec::new()] {
        let (first, second, client) = two().await;
        first.shared.state.lock().answers.extend([begun, vec![chunk(Chunk::Arrow(arrow_stream().into())), stats()]]);
        let (_, batches, _) = client.sql("SELECT n", &QueryOptions::default()).await.unwrap().collect().await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows() as i64).sum::<i64>(), 2 * ROWS);
        assert!(client.endpoint().ends_with(&second.address()));
    }
}

#[tokio::test]
async fn a_query_with_rows_ends_with_its_node() {
    let (first, _second, client) = two().await;
    first.shared.state.lock().answers.extend([vec![chunk(Chunk::Arrow(arrow_stream().into())), Err(lost())]]);
    let mut answer = client.sql("SELECT n", &QueryOptions::default()).await.unwrap();
    assert!(answer.next().await.unwrap().is_some() && answer.next().await.unwrap().is_some());
    assert_eq!(answer.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(first.shared.state.lock().sql.len(), 1);
}

#[tokio::test]
async fn a_statement_that_changes_something_is_asked_once() {
    let (first, _second, client) = two().await;
    first.shared.state.lock().answers.extend([vec![Err(lost())]]);
    let mut answer = client.sql("DELETE FROM orders", &QueryOptions::default()).await.unwrap();
    assert_eq!(answer.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(first.shared.state.lock().sql.len(), 1);
}

#[tokio::test]
async fn a_query_that_every_node_is_lost_by_is_given_up() {
    let (first, _second, client) = two().await;
    let mut answer = client.sql("SELECT n", &QueryOptions::default()).await.unwrap();
    assert_eq!(answer.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(first.shared.state.lock().sql.len(), 3);
}
