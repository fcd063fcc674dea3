//! An identity as a message, and back.

use bytes::Bytes;
use stratalog_proto::NodeId;
use stratalog_proto::internal::{Hello, KafkaListener, Node};
use uuid::Uuid;

use super::{HandshakeError, PROTOCOL};
use crate::Identity;

/// The most bytes of an address, a zone or a version.
const MAX_TEXT_BYTES: usize = 512;
/// More listeners for Kafka clients than any node has.
const MAX_LISTENERS: usize = 64;

pub(super) fn write(identity: &Identity) -> Hello {
    let cluster = identity.cluster.map_or_else(Bytes::new, |cluster| bytes_of(&cluster));
    let node = Node {
        node: identity.node.0,
        incarnation: bytes_of(&identity.incarnation),
        peer_address: identity.peer_address.clone(),
        grpc_address: identity.grpc_address.clone(),
        http_address: identity.http_address.clone(),
        kafka_address: identity.kafka_address.clone(),
        kafka_listeners: identity.kafka_listeners.iter().map(listener).collect(),
        zone: identity.zone.clone(),
        version: identity.version.clone(),
        feature_level: identity.feature_level,
        ..Node::default()
    };
    Hello { protocol: PROTOCOL, cluster, node: Some(node) }
}

pub(super) fn read(hello: Option<Hello>) -> Result<Identity, HandshakeError> {
    parse(hello).ok_or_else(|| HandshakeError::NotAPeer("a peer does not say who it is as a node does".into()))
}

fn parse(hello: Option<Hello>) -> Option<Identity> {
    let hello = hello?;
    let node = hello.node?;
    let addresses = [&node.peer_address, &node.grpc_address, &node.http_address, &node.kafka_address];
    let listeners = node.kafka_listeners.iter().flat_map(|listener| [&listener.name, &listener.address]);
    let texts = addresses.into_iter().chain([&node.zone, &node.version]).chain(listeners);
    if node.kafka_listeners.len() > MAX_LISTENERS {
        return None;
    }
    if texts.into_iter().any(|text| text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control)) {
        return None;
    }
    let cluster = if hello.cluster.is_empty() { None } else { Some(Uuid::from_slice(&hello.cluster).ok()?) };
    Some(Identity {
        cluster,
        node: NodeId(node.node),
        incarnation: Uuid::from_slice(&node.incarnation).ok()?,
        version: node.version,
        feature_level: node.feature_level,
        peer_address: node.peer_address,
        grpc_address: node.grpc_address,
        http_address: node.http_address,
        kafka_address: node.kafka_address,
        kafka_listeners: node.kafka_listeners.into_iter().map(|listener| (listener.name, listener.address)).collect(),
        zone: node.zone,
    })
}

fn listener((name, address): (&String, &String)) -> KafkaListener {
    KafkaListener { name: name.clone(), address: address.clone() }
}

fn bytes_of(id: &Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}
