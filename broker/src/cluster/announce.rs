//! Having the metadata say of this node what is so: its addresses, its zone and its version.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::entry::Command;
use stratalog_proto::internal::{Node, PutNode};
use stratalog_proto::{Error, KAFKA_ADDRESS_LEVEL, NodeId};
use stratalog_transport::Identity;

use crate::broker::{Broker, META};
use crate::meta::ClusterView;

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
        kafka_address: kafka_address(identity, level).to_owned(),
        zone: identity.zone.clone(),
        version: identity.version.clone(),
        feature_level: identity.feature_level,
        state: 1,
    }
}

/// What is told at this feature level of where Kafka clients reach a node.
fn kafka_address(identity: &Identity, level: u32) -> &str {
    if level < KAFKA_ADDRESS_LEVEL { "" } else { &identity.kafka_address }
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
        known.incarnation == me.incarnation
            && (known.peer_address != me.peer_address
                || known.grpc_address != me.grpc_address
                || known.http_address != me.http_address
                || known.kafka_address != kafka_address(me, view.feature_level)
                || known.zone != me.zone
                || known.version != me.version
                || known.feature_level != me.feature_level)
    })
}

async fn put(broker: &Broker, me: &Identity) -> Result<(), Error> {
    let level = broker.nodes().view().feature_level;
    let put = PutNode { node: Some(node_message(broker.nodes().me(), me, level)), ..PutNode::default() };
    broker.propose(META, Command::PutNode(put)).await.map(|_| ())
}
