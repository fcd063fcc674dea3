//! What a stranger says first.

use std::future::Future;

use futures::FutureExt;
use stratalog_mutation::Decoder;
use stratalog_proto::NodeId;
use tokio::io::{join, sink};
use uuid::Uuid;

use crate::handshake::{Expected, accept, introduction, offer, welcome};
use crate::{AddressBook, Identity};

/// What a node hears from one that connects. Nobody has a secret: behind a proof that is right, all is as without.
pub const ACCEPT: Decoder =
    Decoder { name: "accept", samples: introductions, run: read_introduction, words: &[], memory_bytes: 1 << 20 };

/// What a node hears from one that it has connected to.
pub const OFFER: Decoder =
    Decoder { name: "offer", samples: welcomes, run: read_welcome, words: &[], memory_bytes: 1 << 20 };

/// Knows nobody.
struct EmptyBook;

impl AddressBook for EmptyBook {
    fn address(&self, _node: NodeId) -> Option<String> {
        None
    }

    fn incarnation(&self, _node: NodeId) -> Option<Uuid> {
        None
    }

    fn is_removed(&self, _node: NodeId) -> bool {
        false
    }
}

fn identity(node: u64) -> Identity {
    Identity {
        cluster: Some(Uuid::from_u128(1)),
        node: NodeId(node),
        incarnation: Uuid::from_u128(node.into()),
        version: "0.2.0".into(),
        feature_level: 1,
        peer_address: format!("10.0.0.{node}:7071"),
        grpc_address: format!("10.0.0.{node}:7070"),
        http_address: format!("10.0.0.{node}:8080"),
        kafka_address: format!("10.0.0.{node}:9092"),
        kafka_listeners: [("outside".into(), format!("node{node}.example:9093"))].into(),
        zone: "a".into(),
    }
}

/// Nothing here waits for anybody: all bytes are there.
fn done<T>(heard: impl Future<Output = T>) -> T {
    heard.now_or_never().expect("bytes in memory are ready")
}

fn introductions() -> Vec<Vec<u8>> {
    vec![done(introduction(&identity(1), 2)), done(introduction(&identity(1), 0))]
}

fn read_introduction(mut bytes: &[u8]) -> bool {
    let me = identity(2);
    done(accept(&mut join(&mut bytes, sink()), &me, &EmptyBook, None)).is_ok()
}

fn welcomes() -> Vec<Vec<u8>> {
    vec![done(welcome(&identity(2)))]
}

fn read_welcome(mut bytes: &[u8]) -> bool {
    let expected = Expected::Node { node: NodeId(2), incarnation: None };
    done(offer(&mut join(&mut bytes, sink()), &identity(1), expected, None, "10.0.0.2:7071")).is_ok()
}
