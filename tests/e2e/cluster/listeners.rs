//! Kafka listeners with names: a client goes on where it came in, whichever node it comes to.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use stratalog_proto::v1::ClusterNode;

use super::alone;
use super::network::Network;
use super::nodes::{Cluster, Member};

/// Metadata of version 1 about all topics, of a client without a name.
const ASKED: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const TOLD_WITHIN: Duration = Duration::from_secs(60);

fn listen_twice(member: &Member) {
    let mut settings = OpenOptions::new().append(true).open(member.data.with_extension("toml")).unwrap();
    settings.write_all(b"[kafka.listeners.outside]\nlisten = \"127.0.0.1:0\"\n").unwrap();
}

/// Where a client that connects here is sent to.
fn sent_to(address: &str) -> BTreeSet<String> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.write_all(&ASKED).unwrap();
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer).unwrap();
    // Behind the number of the request.
    let mut rest = &answer[4..];
    (0..number(&mut rest)).map(|_| broker(&mut rest)).collect()
}

/// Its id, host, port, and a rack that may be null.
fn broker(rest: &mut &[u8]) -> String {
    number(rest);
    let host = text(rest).unwrap();
    let port = number(rest);
    text(rest);
    format!("{host}:{port}")
}

fn number(rest: &mut &[u8]) -> i32 {
    i32::from_be_bytes(*rest.split_off(..4).unwrap().first_chunk().unwrap())
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = i16::from_be_bytes(*rest.split_off(..2).unwrap().first_chunk().unwrap());
    let length = usize::try_from(length).ok()?;
    Some(String::from_utf8(rest.split_off(..length).unwrap().to_vec()).unwrap())
}

fn outside(node: &ClusterNode) -> Option<String> {
    node.kafka_listeners.iter().find(|listener| listener.name == "outside").map(|listener| listener.address.clone())
}

#[test]
fn clients_of_each_listener_go_on_there_on_every_node() {
    let _alone = alone();
    let cluster = Cluster::start_prepared(Network::loopback(), 2, listen_twice);
    let deadline = Instant::now() + TOLD_WITHIN;
    let nodes = loop {
        let nodes = cluster.status_of(1).map(|status| status.nodes).unwrap_or_default();
        if nodes.len() == 2 && nodes.iter().all(|node| outside(node).is_some() && !node.kafka_address.is_empty()) {
            break nodes;
        }
        assert!(Instant::now() < deadline, "the nodes do not tell of their listeners: {nodes:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let inside: BTreeSet<String> = nodes.iter().map(|node| node.kafka_address.clone()).collect();
    let outside: BTreeSet<String> = nodes.iter().filter_map(outside).collect();
    assert_eq!((inside.len(), outside.len()), (2, 2));
    assert!(inside.is_disjoint(&outside));
    // Another node may have heard a moment ago of what this one knows.
    let agree = |from: &BTreeSet<String>| from.iter().all(|address| sent_to(address) == *from);
    while !(agree(&inside) && agree(&outside)) {
        assert!(Instant::now() < deadline, "clients are not sent to their listeners");
        std::thread::sleep(Duration::from_millis(50));
    }
}
