//! Letting a node into the cluster.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::internal::{JoinAnswer, JoinRequest, Node, PutNode};
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId};
use stratalog_transport::{Frame, Identity, Method, Peer};
use tokio::sync::Mutex;

use super::{decode, encode};
use crate::broker::{Broker, META};
use crate::cluster::node_message;
use crate::meta::{NodeView, Role, named};
use crate::outcome::CommandResult;

/// How long the node may take to answer at the address that it names.
const DIAL_BACK_WAIT: Duration = Duration::from_secs(3);

/// Lets a node in that asks, or says again what was answered before: a node is known by its incarnation. `one` is held
/// meanwhile: of two copies of a directory, the second finds what the first has become.
///
/// # Errors
/// [`Code::WrongCluster`]; [`Code::Unavailable`] if it is not reached; [`Code::InvalidRequest`] if it is a copy of a node's
/// directory, or one that was wiped; those of the metadata.
pub(super) async fn join(broker: &Arc<Broker>, one: &Mutex<()>, from: &Peer, frame: Frame) -> Result<Frame, Error> {
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
    let _one = one.lock().await;
    broker.catch_up_with_meta().await?;
    let known_address = check_known(broker, who).await?;
    let level = broker.meta().view().feature_level;
    let node = Node { node: asked.node, ..node_message(NodeId(asked.node), who, level) };
    let put = PutNode { node: Some(node), joins: true, known_address };
    let (_, result) = broker.propose(META, Command::PutNode(put)).await?;
    let CommandResult::Node(node) = result else {
        return Err(Error::new(Code::Internal, format!("a new node was answered with {result:?}")));
    };
    answer(broker, node, who).map(|answer| encode(&answer))
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

/// What is known of this incarnation already has to be what a first answer, which was lost, has made of it. The address at which
/// it is known; empty if it is not.
async fn check_known(broker: &Broker, who: &Identity) -> Result<String, Error> {
    let view = broker.meta().view();
    match view.nodes.iter().find(|(_, known)| known.incarnation == who.incarnation) {
        Some((node, known)) => {
            check_not_begun(broker, *node)?;
            check_no_copy(broker, *node, known, who).await?;
            Ok(known.peer_address.clone())
        }
        None => Ok(String::new()),
    }
}

/// A directory asks again until it has an answer, and votes nowhere before. One that votes and asks has forgotten it, with
/// what it acknowledged, and must not answer for that (L1).
fn check_not_begun(broker: &Broker, node: NodeId) -> Result<(), Error> {
    let votes_here = |shard: ShardId, replica: ReplicaId| {
        broker.group(shard).is_ok_and(|group| group.members().voters.contains(&replica))
    };
    let view = broker.meta().view();
    let votes = view.replicas_on(node).filter(|(shard, replica, role)| {
        // Until its leader has told, a replica that joins may have its vote, too.
        matches!(role, Role::Voter | Role::Leaving) || votes_here(*shard, *replica)
    });
    let shards: Vec<ShardId> = votes.map(|(shard, _, _)| shard).collect();
    if shards.is_empty() {
        return Ok(());
    }
    let message = format!(
        "this data directory was node {node}, which votes in {}, and has nothing of that any more: it was wiped, or is an \
         early copy. It must not answer for what node {node} acknowledged. Start with an empty directory, and it joins as \
         a new node; if node {node} is lost, take it out with `stratalog cluster remove-node {node} --force`",
        named(&shards)
    );
    Err(Error::new(Code::InvalidRequest, message))
}

/// A waiting directory that was copied would become one node twice: the one that came first is still where it was.
async fn check_no_copy(broker: &Broker, node: NodeId, known: &NodeView, who: &Identity) -> Result<(), Error> {
    if known.peer_address == who.peer_address {
        return Ok(());
    }
    let Some(transport) = broker.nodes().transport() else { return Ok(()) };
    let there = transport.call_address(&known.peer_address, Method::Hello, Frame::default(), DIAL_BACK_WAIT).await;
    if !there.is_ok_and(|(peer, _)| peer.identity.incarnation == who.incarnation) {
        return Ok(());
    }
    let message = format!(
        "the node at {} has a copy of the data directory of node {node}, which runs at {}: each node needs a directory of \
         its own. Empty the one at {}, and it joins as another node",
        who.peer_address, known.peer_address, who.peer_address
    );
    Err(Error::new(Code::InvalidRequest, message))
}

fn answer(broker: &Broker, node: NodeId, who: &Identity) -> Result<JoinAnswer, Error> {
    let gone = || Error::new(Code::UnknownNode, format!("node {node} was removed at the same time"));
    let cluster = broker.meta().cluster().ok_or_else(gone)?;
    let view = broker.meta().view();
    let known = view.nodes.get(&node).ok_or_else(gone)?;
    if known.peer_address != who.peer_address {
        let message = format!("a copy of this data directory joined at {} at the same time", known.peer_address);
        return Err(Error::new(Code::Unavailable, message));
    }
    let replica = view.replica_on(META, node).ok_or_else(gone)?;
    let shards = view.data_shards().count().max(1) as u32;
    Ok(JoinAnswer { node: node.0, meta_replica: replica.0, shards, cluster: Some(cluster) })
}
