//! The Kafka listener of the binary: that it is there, is told of, and says what it is. What it answers is tested in its room.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Node, data_dir};

fn said(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(&node.kafka).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.write_all(bytes).unwrap();
    let mut said = vec![0; 1_024];
    let read = socket.read(&mut said).unwrap();
    said.truncate(read);
    said
}

#[test]
fn a_node_speaks_kafka_and_tells_where() {
    let data = data_dir();
    let node = Node::start(data.path());
    // ApiVersions of version 0, as the third request of a client without a name.
    let answer = said(&node, &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 3, 0xff, 0xff]);
    assert_eq!(answer[4..10], [0, 0, 0, 3, 0, 0], "{answer:?}");
    let http = said(&node, b"GET / HTTP/1.1\r\n\r\n");
    assert!(String::from_utf8_lossy(&http).contains("Kafka"), "{http:?}");
    let status = node.json(&["cluster", "status"]);
    assert_eq!(status["nodes"][0]["kafka_address"], node.kafka.as_str(), "{status}");
    node.stop();
}

#[test]
fn a_node_without_a_kafka_listener_tells_of_none() {
    let data = data_dir();
    let node = Node::start_with(data.path(), &["--kafka", ""]);
    let status = node.json(&["cluster", "status"]);
    assert_eq!(status["nodes"][0]["kafka_address"], "", "{status}");
    node.stop();
}
