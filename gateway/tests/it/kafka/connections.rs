//! Who is connected, and for how long.

use std::time::Duration;

use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use serde_json::{Value, json};
use stratalog_gateway::KafkaOptions;

use super::client::Client;
use crate::node::{Node, json_of};

async fn greet(client: &mut Client) {
    let request = ApiVersionsRequest::default()
        .with_client_software_name("a-library".into())
        .with_client_software_version("1.2.3".into());
    let _: ApiVersionsResponse = client.ask(ApiKey::ApiVersions, 3, &request).await;
}

/// The rows of `system.connections`.
async fn shown(node: &Node) -> Vec<Value> {
    let sql = "SELECT listener, client, client_id, software, software_version, requests, \
               bytes_in > 20 AND bytes_out > 20 AND since > now() - INTERVAL '1 minute' AS counted \
               FROM system.connections ORDER BY since";
    let answer = json_of(node.post("/v1/sql").json(&json!({"sql": sql})).send().await.unwrap(), 200).await;
    answer["rows"].as_array().unwrap().clone()
}

#[tokio::test]
async fn connections_are_shown_with_what_their_clients_say_of_themselves() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    greet(&mut client).await;
    greet(&mut client).await;
    let peer = client.socket.local_addr().unwrap().to_string();
    let expected = json!({
        "listener": "kafka", "client": peer, "client_id": "tests", "software": "a-library", "software_version": "1.2.3",
        "requests": 2, "counted": true
    });
    assert_eq!(shown(&node).await, [expected]);
    drop(client);
    for _ in 0..100 {
        if shown(&node).await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(shown(&node).await, [] as [Value; 0]);
    node.stop().await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_until_another_one_ends() {
    let node = Node::with_kafka(KafkaOptions { max_connections: 1, ..KafkaOptions::default() }).await;
    let mut first = Client::connect(node.kafka).await;
    greet(&mut first).await;
    let mut second = Client::connect(node.kafka).await;
    let early = tokio::time::timeout(Duration::from_millis(300), greet(&mut second)).await;
    assert!(early.is_err(), "there is no room for it");
    drop(first);
    assert!(second.receive_frame().await.is_some(), "its request is answered now");
    node.stop().await;
}

#[tokio::test]
async fn connections_of_all_listeners_count() {
    let node = Node::with_kafka(KafkaOptions { max_connections: 1, ..KafkaOptions::default() }).await;
    for (held, waits) in [(node.kafka, node.outside), (node.outside, node.kafka)] {
        let mut first = Client::connect(held).await;
        greet(&mut first).await;
        let mut second = Client::connect(waits).await;
        let early = tokio::time::timeout(Duration::from_millis(300), greet(&mut second)).await;
        assert!(early.is_err(), "there is no room for it");
        drop(first);
        assert!(second.receive_frame().await.is_some(), "its request is answered now");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_connection_without_requests_ends() {
    let idle_timeout = Duration::from_millis(300);
    let node = Node::with_kafka(KafkaOptions { idle_timeout, ..KafkaOptions::default() }).await;
    let mut client = Client::connect(node.kafka).await;
    greet(&mut client).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), client.receive_frame()).await;
    assert_eq!(ended.expect("it ends"), None);
    node.stop().await;
}
