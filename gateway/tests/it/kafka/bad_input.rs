//! Who does not speak Kafka, or lies.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Client;
use crate::node::Node;

/// What is said before the connection ends.
async fn said(node: &Node, bytes: &[u8]) -> Vec<u8> {
    said_at(node.kafka, bytes).await
}

async fn said_at(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(address).await;
    // The other side may be gone before all is written.
    let _ = client.socket.write_all(bytes).await;
    let mut said = Vec::new();
    let read = client.socket.read_to_end(&mut said);
    // A reset is an end, too.
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("the connection ends");
    said
}

fn frame(rest: &[u8]) -> Vec<u8> {
    [&(rest.len() as u32).to_be_bytes()[..], rest].concat()
}

#[tokio::test]
async fn x1_who_lies_is_disconnected_and_the_node_serves_on() {
    let node = Node::with_topic("events").await;
    let http = said(&node, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&http).contains("speaks Kafka"), "{http:?}");
    let head = |key: i16, version: i16| [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 0, 0]].concat();
    let lies: [Vec<u8>; 9] = [
        vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00],
        vec![0xff; 64],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 0],
        frame(&[0; 8]),
        // A key, and a version, that nobody has.
        frame(&head(999, 0)),
        frame(&head(3, 77)),
        // Metadata about two thousand million topics.
        frame(&[&head(3, 1)[..], &[0x7f, 0xff, 0xff, 0xff]].concat()),
        // Produce to as many.
        frame(&[&head(0, 3)[..], &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff]].concat()),
        // A fetch that ends early.
        frame(&[&head(1, 4)[..], &[0, 0, 0]].concat()),
    ];
    for lie in lies {
        assert_eq!(said(&node, &lie).await, b"", "{lie:?}");
    }
    let mut client = Client::connect(node.kafka).await;
    let told: ApiVersionsResponse = client.ask(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default()).await;
    assert_eq!(told.error_code, 0);
    node.stop().await;
}

/// A Kafka client takes the beginning of any answer for its length.
#[tokio::test]
async fn kafka_clients_at_the_port_of_another_protocol_are_disconnected() {
    let node = Node::start().await;
    let api_versions = frame(&[0, 18, 0, 0, 0, 0, 0, 1, 0, 1, b'c']);
    for _ in 0..2 {
        assert_eq!(said_at(node.http, &api_versions).await, b"");
        // HTTP/2 says its settings before it has read anything.
        assert!(said_at(node.grpc, &api_versions).await.len() < 64);
    }
    let http = said_at(node.http, b"nonsense\r\n\r\n").await;
    assert!(http.starts_with(b"HTTP/1.1 400"), "{http:?}");
    assert_eq!(node.get("/healthz").send().await.unwrap().status(), 200);
    node.stop().await;
}

/// One that is not told so takes it for a network that fails, and comes again and again.
#[tokio::test]
async fn who_wants_sasl_is_told_that_there_is_none() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    for version in [0, 1, 1] {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("SCRAM-SHA-512"));
        let told: SaslHandshakeResponse = client.ask(ApiKey::SaslHandshake, version, &request).await;
        assert_eq!((told.error_code, told.mechanisms), (33, Vec::new()));
    }
    let told: ApiVersionsResponse = client.ask(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default()).await;
    let sasl: Vec<i16> = told.api_keys.iter().map(|api| api.api_key).filter(|key| [17, 36].contains(key)).collect();
    assert_eq!(sasl, [17], "there is nothing to authenticate with");
    node.stop().await;
}

#[tokio::test]
async fn x1_who_says_nothing_or_is_slow_is_disconnected() {
    let node = Node::start().await;
    assert_eq!(said(&node, b"").await, b"");
    assert_eq!(said(&node, &[0, 0, 1, 0, 0, 3]).await, b"");
    node.stop().await;
}

/// Fetch of version 4: a replica that is none, at least so many bytes; partition 0 of `events` from its beginning.
fn waiting_fetch(min_bytes: i32) -> Vec<u8> {
    [
        &[0, 1, 0, 4, 0, 0, 0, 1, 0, 0][..],
        &(-1_i32).to_be_bytes(),
        &i32::MAX.to_be_bytes(),
        &min_bytes.to_be_bytes(),
        &1_000_i32.to_be_bytes(),
        &[0, 0, 0, 0, 1, 0, 6],
        b"events",
        &[0, 0, 0, 1, 0, 0, 0, 0],
        &0_i64.to_be_bytes(),
        &1_000_i32.to_be_bytes(),
    ]
    .concat()
}

#[tokio::test]
async fn x1_who_is_slow_is_disconnected_though_another_request_of_it_waits() {
    let node = Node::with_topic("events").await;
    let lies = [&frame(&waiting_fetch(i32::MAX))[..], &(90_u32 << 20).to_be_bytes()[..1]].concat();
    // Nobody waits for the records that were asked for, either.
    said(&node, &lies).await;
    let mut client = Client::connect(node.kafka).await;
    client.send_frame(&waiting_fetch(1)).await;
    drop(client);
    let begun = std::time::Instant::now();
    node.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for a client that has gone");
}

#[tokio::test]
async fn a_node_stops_though_a_client_waits_for_records() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    client.send_frame(&waiting_fetch(1)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = std::time::Instant::now();
    node.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it did not wait for the client");
    assert!(client.receive_frame().await.is_some(), "the client has its answer");
}
