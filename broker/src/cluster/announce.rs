//! Having the metadata say of this node what is so: its addresses, its zone and its version.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::entry::Command;
use stratalog_proto::internal::{KafkaListener, Node, PutNode};
use stratalog_proto::{Error, KAFKA_ADDRESS_LEVEL, NodeId};
use stratalog_transport::Identity;

use crate::broker::{Broker, META};
use crate::meta::{ClusterView, kafka_listener, node_message as known_message};

/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// A node as commands name it in a cluster of this feature level.
pub(crate) fn node_message(node: NodeId, identity: &Identity, level: u32) -> Node {
    Node {
        node: node.0,
        incarnation: Bytes::copy_from_slice(identity.incarnation.as_bytes()),
        peer_address: identity.peer_address.clone(),
        grpc_address: identity.grpc_address.clone(),
        http_address: identity.http_address.clone(),
        kafka_address: if level < KAFKA_ADDRESS_LEVEL { String::new() } else { identity.kafka_address.clone() },
        kafka_listeners: kafka_listeners(identity, level).collect(),
        zone: identity.zone.clone(),
        version: identity.version.clone(),
        feature_level: identity.feature_level,
        state: 1,
    }
}

fn kafka_listeners(identity: &Identity, level: u32) -> impl Iterator<Item = KafkaListener> {
    identity.kafka_listeners.iter().filter(move |_| level >= KAFKA_ADDRESS_LEVEL).map(kafka_listener)
}

/// Proposes what has changed. A node that moved, or was upgraded, says so at its start.
pub(crate) async fn announce(broker: Weak<Broker>, me: Identity) {
    let Some(mut views) = broker.upgrade().map(|broker| broker.nodes().watch_view()) else { return };
    loop {
        let Some(node) = broker.upgrade() else { return };
        let view = views.borrow_and_update().clone();
        let said = if is_news(&view, node.nodes().me(), &me) { put(&node, &me).await } else { Ok(()) };
        drop(node);
        let failed = said.inspect_err(|error| tracing::debug!(%error, "what this node is was not told yet")).is_err();
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if failed => {}
        }
    }
}

/// Whether the metadata knows the node as another one than it is. One that was removed has nothing to say.
fn is_news(view: &ClusterView, node: NodeId, me: &Identity) -> bool {
    view.nodes.get(&node).is_some_and(|known| {
        let so = node_message(node, me, view.feature_level);
        // Whether it drains, others decide.
        known.incarnation == me.incarnation && Node { state: so.state, ..known_message(node, known) } != so
    })
}

async fn put(broker: &Broker, me: &Identity) -> Result<(), Error> {
    let level = broker.nodes().view().feature_level;
    let put = PutNode { node: Some(node_message(broker.nodes().me(), me, level)), ..PutNode::default() };
    broker.propose(META, Command::PutNode(put)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratalog_proto::FEATURE_LEVEL;
    use stratalog_proto::internal::{Cluster, Placement, Replica};
    use uuid::Uuid;

    use super::*;
    use crate::meta::view_of;

    fn me() -> Identity {
        Identity {
            cluster: None,
            node: NodeId(1),
            incarnation: Uuid::from_u128(1),
            version: "0.2.0".to_owned(),
            feature_level: FEATURE_LEVEL,
            peer_address: "n1:7071".to_owned(),
            grpc_address: "n1:7070".to_owned(),
            http_address: "n1:8080".to_owned(),
            kafka_address: "n1:9092".to_owned(),
            kafka_listeners: [("outside".to_owned(), "node1.example:9093".to_owned())].into(),
            zone: String::new(),
        }
    }

    /// A cluster at this level that knows the node so.
    fn knows(level: u32, node: Node) -> Arc<ClusterView> {
        let first = Replica { replica: 1, node: 1, role: 2 };
        let cluster = Cluster {
            cluster: Bytes::from_static(&[7; 16]),
            feature_level: level,
            nodes: vec![node],
            placements: vec![Placement { shard: 0, replication: 3, replicas: vec![first] }],
            next_node: 2,
            next_replica: 2,
            replication: 3,
            ..Cluster::default()
        };
        view_of(cluster).unwrap()
    }

    #[test]
    fn what_older_versions_do_not_know_is_told_once_there_are_none() {
        let (old, new) = (node_message(NodeId(1), &me(), 1), node_message(NodeId(1), &me(), KAFKA_ADDRESS_LEVEL));
        assert_eq!((old.kafka_address.as_str(), old.kafka_listeners.len()), ("", 0));
        assert_eq!((new.kafka_address.as_str(), new.kafka_listeners.len()), ("n1:9092", 1));
        assert!(!is_news(&knows(1, old.clone()), NodeId(1), &me()), "it is told all that may be");
        assert!(is_news(&knows(KAFKA_ADDRESS_LEVEL, old), NodeId(1), &me()));
        assert!(!is_news(&knows(KAFKA_ADDRESS_LEVEL, Node { state: 2, ..new.clone() }), NodeId(1), &me()), "it drains");
        let moved = Identity { kafka_listeners: Default::default(), ..me() };
        assert!(is_news(&knows(KAFKA_ADDRESS_LEVEL, new.clone()), NodeId(1), &moved));
        let other = Identity { incarnation: Uuid::from_u128(9), ..moved };
        assert!(
            !is_news(&knows(KAFKA_ADDRESS_LEVEL, new), NodeId(1), &other),
            "another directory says nothing of this one"
        );
    }
}
