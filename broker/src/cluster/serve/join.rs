//! Letting a node into the cluster.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::internal::{JoinAnswer, JoinRequest, Node, PutNode};
use stratalog_proto::{Code, Error, NodeId};
use stratalog_transport::{Frame, Identity, Method, Peer};

use super::{decode, encode};
use crate::broker::{Broker, META};
use crate::cluster::node_message;
use crate::outcome::CommandResult;

/// How long the node may take to answer at the address that it names.
const DIAL_BACK_WAIT: Duration = Duration::from_secs(3);

/// Lets a node in that asks, or says again what was answered before: a node is known by its incarnation.
pub(super) async fn join(broker: &Arc<Broker>, from: &Peer, frame: Frame) -> Result<Frame, Error> {
    let asked: JoinRequest = decode(Method::Join, frame.head)?;
    let who = &from.identity;
    if let Some(other) = who.cluster {
        let message = format!(
            "the node at {} belongs to cluster {other} already: two clusters cannot be joined",
            who.peer_address
        );
        return Err(Error::new(Code::WrongCluster, message));
    }
    check_reached(broker, who).await?;
    let put = PutNode { node: Some(Node { node: asked.node, ..node_message(NodeId(asked.node), who) }) };
    let (_, result) = broker.propose(META, Command::PutNode(put)).await?;
    let CommandResult::Node(node) = result else {
        return Err(Error::new(Code::Internal, format!("a new node was answered with {result:?}")));
    };
    answer(broker, node).map(|answer| encode(&answer))
}

/// Why this node takes no invitation.
pub(super) fn is_in_a_cluster(broker: &Broker) -> Error {
    let cluster = broker.nodes().view().cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
    let message = format!("node {} belongs to cluster {cluster} already", broker.nodes().me());
    Error::new(Code::WrongCluster, message)
}

/// An address that nobody else reaches is found out now, and not when the node is needed.
async fn check_reached(broker: &Broker, who: &Identity) -> Result<(), Error> {
    let transport = broker.nodes().transport().ok_or_else(|| Error::new(Code::Internal, "nobody could have asked"))?;
    let refused = |why: &str| {
        let message = format!(
            "the node says that others reach it at {}, and this node does not: {why}. Set `cluster.advertise` there",
            who.peer_address
        );
        Error::new(Code::Unavailable, message)
    };
    let reached = transport.call_address(&who.peer_address, Method::Hello, Frame::default(), DIAL_BACK_WAIT).await;
    let (peer, _) = reached.map_err(|error| refused(&error.to_string()))?;
    if peer.identity.incarnation != who.incarnation {
        return Err(refused("another node answers there"));
    }
    Ok(())
}

fn answer(broker: &Broker, node: NodeId) -> Result<JoinAnswer, Error> {
    let gone = || Error::new(Code::UnknownNode, format!("node {node} was removed at the same time"));
    let cluster = broker.meta().cluster().ok_or_else(gone)?;
    let view = broker.meta().view();
    let replica = view.replica_on(META, node).ok_or_else(gone)?;
    let shards = view.data_shards().count().max(1) as u32;
    Ok(JoinAnswer { node: node.0, meta_replica: replica.0, shards, cluster: Some(cluster) })
}
