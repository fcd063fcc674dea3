//! Asking the nodes that the settings name who they are, when a member of a cluster starts.
//!
//! All nodes may have moved while they were down: then nobody finds anybody by what was known, and the settings know where
//! they are. It is also how somebody finds out that a node is told to join another cluster than its own.

use std::collections::BTreeSet;
use std::sync::Weak;
use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use stratalog_proto::NodeId;
use stratalog_proto::internal::ReplicaStateRequest;
use stratalog_transport::{Frame, Method};

use super::{Nodes, check_heard};
use crate::broker::Broker;

/// How long a node may take to say who it is.
const WAIT: Duration = Duration::from_secs(3);
/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(3);

/// Asks them until this node hears its cluster.
pub(crate) async fn greet(broker: Weak<Broker>) {
    let mut told = BTreeSet::new();
    loop {
        let Some(node) = broker.upgrade() else { return };
        round(&node, &mut told).await;
        let is_heard = check_heard(&node).is_ok();
        drop(node);
        if is_heard {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(broker: &Broker, told: &mut BTreeSet<String>) {
    let (nodes, seeds) = (broker.nodes(), &broker.options().cluster.join);
    let Some(transport) = nodes.transport() else { return };
    let own = nodes.view().cluster;
    let greeted =
        join_all(seeds.iter().map(|seed| transport.call_address(seed, Method::Hello, Frame::default(), WAIT)));
    let mut refusal = None;
    for (seed, greeted) in seeds.iter().zip(greeted.await) {
        let Ok((peer, _)) = greeted else { continue };
        match peer.identity.cluster {
            None => {}
            Some(cluster) if own.is_none_or(|own| own == cluster) => {
                nodes.book().hear(&peer.identity);
                refusal = refused_by(nodes, peer.identity.node).await.or(refusal);
            }
            Some(cluster) if told.insert(seed.clone()) => tracing::error!(
                %seed, %cluster,
                "`cluster.join` names a node of another cluster; two clusters cannot be joined, and this node stays in its own. \
                 To have it join that one, empty its data directory"
            ),
            Some(_) => {}
        }
    }
    let is_news = broker.readiness().set_refusal(refusal.clone());
    // Once may be a connection that was lost with the node that was here before.
    if let Some(refusal) = refusal.filter(|_| !is_news)
        && told.insert(refusal.clone())
    {
        tracing::error!(refusal, "the cluster does not take this node for one of its own");
    }
}

/// Whether a node that says who it is to anybody does not talk to this one as to one of its cluster, with what it says.
async fn refused_by(nodes: &Nodes, node: NodeId) -> Option<String> {
    if node == nodes.me() {
        return None;
    }
    let question = Frame::head(ReplicaStateRequest::default().encode_to_vec());
    nodes.call(node, Method::ReplicaState, question, WAIT).await.err().map(|error| error.to_string())
}
