//! The Kafka listener of the binary: that it is there, is told of, and says what it is. What it answers is tested in its room.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

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

#[test]
fn a_group_is_set_shown_and_deleted_on_the_command_line() {
    let data = data_dir();
    let node = Node::start(data.path());
    node.run(&["topic", "create", "events", "--partitions", "2"]).ok();
    node.run_with(&["produce", "events", "--partition", "0"], "{\"a\":1}\n".repeat(3).as_bytes()).ok();
    let reset = ["group", "reset", "readers", "--topic", "events"];
    let would = node.json(&[&reset[..], &["--to-latest", "--dry-run"]].concat());
    assert_eq!((&would[0]["before"], &would[0]["after"]), (&Value::Null, &json!(3)), "{would}");
    assert_eq!(node.json(&["group", "list"]), json!([]), "nothing was set");
    node.run(&[&reset[..], &["--to-offset", "1"]].concat()).ok();
    assert_eq!(node.json(&["group", "list"]), json!([{"group": "readers", "state": "Empty", "protocol_type": null}]));
    let described = node.json(&["group", "describe", "readers"]);
    assert_eq!((&described["state"], &described["lag"]), (&json!("Empty"), &json!(2)), "{described}");
    let first = &described["partitions"][0];
    assert_eq!((&first["committed_offset"], &first["high_watermark"]), (&json!(1), &json!(3)), "{described}");
    let topic = node.json(&["topic", "describe", "events"]);
    let readers = json!([{"group": "readers", "state": "Empty", "members": 0, "lag": 2, "not_committed": 0}]);
    assert_eq!(topic["groups"], readers, "{topic}");
    let shown = node.run(&["topic", "describe", "events"]).ok().stdout;
    assert!(shown.contains("readers") && shown.contains("not_committed"), "{shown}");
    let lag = node.json(&["sql", "SELECT sum(lag) AS lag FROM system.groups WHERE \"group\" = 'readers'"]);
    assert_eq!(lag, json!([{"lag": 2}]));
    assert_eq!(node.run(&["group", "delete", "readers"]).code, 2, "it asks, and there is nobody");
    node.run(&["group", "delete", "readers", "--yes"]).ok();
    let unknown = node.run(&["group", "describe", "readers"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("readers"), "{}", unknown.stderr);
    node.stop();
}
