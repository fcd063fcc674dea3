//! Clients are sent to the addresses of the listener that they came in through.

use std::net::SocketAddr;

use kafka_protocol::messages::{
    ApiKey, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    MetadataRequest, MetadataResponse,
};
use kafka_protocol::protocol::StrBytes;
use stratalog_gateway::KafkaOptions;

use super::admin::{BROKER, settings};
use super::client::Client;
use crate::node::Node;

/// Where a client is sent to that comes in here, by each request that says so.
async fn sent_to(listener: SocketAddr) -> Vec<String> {
    let mut client = Client::connect(listener).await;
    let metadata: MetadataResponse =
        client.ask(ApiKey::Metadata, 12, &MetadataRequest::default().with_topics(None)).await;
    let mut told: Vec<String> = metadata.brokers.iter().map(|of| format!("{}:{}", of.host, of.port)).collect();
    let cluster: DescribeClusterResponse =
        client.ask(ApiKey::DescribeCluster, 1, &DescribeClusterRequest::default()).await;
    told.extend(cluster.brokers.iter().map(|of| format!("{}:{}", of.host, of.port)));
    let key = vec![StrBytes::from_static_str("readers")];
    let asked = FindCoordinatorRequest::default().with_coordinator_keys(key);
    // A shard may be without a leader for a moment.
    for _ in 0..100 {
        let found: FindCoordinatorResponse = client.ask(ApiKey::FindCoordinator, 4, &asked).await;
        let found = &found.coordinators[0];
        if found.error_code == 0 {
            told.push(format!("{}:{}", found.host, found.port));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    told
}

#[tokio::test]
async fn clients_are_sent_to_the_addresses_of_their_listener() {
    let node = Node::told_of(KafkaOptions::default(), |cluster| {
        cluster.kafka_address = "inside.example:9092".to_owned();
        cluster.kafka_listeners.insert("outside".to_owned(), "outside.example:19092".to_owned());
        cluster.kafka_listeners.insert("other".to_owned(), "other.example:29092".to_owned());
    })
    .await;
    assert_eq!(sent_to(node.kafka).await, ["inside.example:9092"; 3]);
    assert_eq!(sent_to(node.outside).await, ["outside.example:19092"; 3]);
    let shown = settings(&mut Client::connect(node.kafka).await, BROKER, "1").await;
    let (_, advertised) = shown.into_iter().find(|(name, _)| name == "advertised.listeners").unwrap();
    assert_eq!(
        advertised,
        "PLAINTEXT://inside.example:9092,other://other.example:29092,outside://outside.example:19092"
    );
    node.stop().await;
}

/// Until a node has told of a listener, clients stay where they came in.
#[tokio::test]
async fn a_listener_that_nobody_was_told_of_sends_clients_to_itself() {
    let node = Node::told_of(KafkaOptions::default(), |cluster| {
        cluster.kafka_address = "inside.example:9092".to_owned();
    })
    .await;
    assert_eq!(sent_to(node.kafka).await, ["inside.example:9092"; 3]);
    assert_eq!(
        sent_to(node.outside).await,
        [node.outside.to_string(), node.outside.to_string(), node.outside.to_string()]
    );
    node.stop().await;
}
