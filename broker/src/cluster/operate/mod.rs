//! What an operator asks of the cluster: how it is, and changes of who is in it and who has what.
//!
//! A change is a command of the metadata group that says what is wanted. It returns as soon as that is committed; the
//! nodes then make it so, and [`Broker::cluster_status`] shows how far they are. So whoever waits may go away.

mod handover;
mod invite;
mod look;
mod status;
#[cfg(test)]
mod tests;
mod warnings;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, NodeId, ShardId, internal};

use super::balance::begin;
use crate::broker::Broker;
use crate::meta::{Change, asked_before, moves_under_way, plan_move, plan_rebalance};

pub use status::{ClusterStatus, Move, NodeState, NodeStatus, ReplicaRole, ReplicaStatus, ShardStatus};

/// The metadata group.
const META: ShardId = ShardId(0);
/// A node's state as SetNodeState has it.
const ACTIVE: u32 = 1;
const DRAINING: u32 = 2;

impl Broker {
    /// The cluster as this node sees it now: every node is asked, and what does not answer in two seconds counts as not
    /// reached.
    ///
    /// # Errors
    /// [`Code::NotFormed`]: this node has not heard of its cluster yet.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        let status = self.look().await;
        let unheard = || Error::new(Code::NotFormed, "this node has not heard of its cluster yet");
        status.cluster.ok_or_else(unheard)?;
        Ok(status)
    }

    /// Has the node at an address, host:port of its listener for other nodes, join this cluster, and waits until it has.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`]: this node has no listener for others; [`Code::Unavailable`]: it is not reached, or does
    /// not reach this node; [`Code::WrongCluster`]: it belongs to a cluster; [`Code::Unauthenticated`]; [`Code::Timeout`]:
    /// it was asked and may yet join.
    pub async fn add_node(&self, peer_address: &str) -> Result<NodeStatus, Error> {
        let node = self.invite(peer_address).await?;
        self.node_status(node).await
    }

    /// Takes a node out of the cluster for ever. `force` gives up the copies that only this node has.
    ///
    /// # Errors
    /// [`Code::UnknownNode`]; [`Code::QuorumAtRisk`], naming the shards that have replicas on it; [`Code::Timeout`],
    /// [`Code::NotLeader`].
    pub async fn remove_node(&self, node: NodeId, force: bool) -> Result<(), Error> {
        let remove = internal::RemoveNode { node: node.0, force };
        self.propose(META, Command::RemoveNode(remove)).await.map(|_| ())
    }

    /// Has a node give its replicas away, or with `cancel` take some again.
    ///
    /// # Errors
    /// [`Code::UnknownNode`]; [`Code::QuorumAtRisk`] if no other node could take its replicas; [`Code::Timeout`],
    /// [`Code::NotLeader`].
    pub async fn drain_node(&self, node: NodeId, cancel: bool) -> Result<NodeStatus, Error> {
        let set = internal::SetNodeState { node: node.0, state: if cancel { ACTIVE } else { DRAINING } };
        self.propose(META, Command::SetNodeState(set)).await?;
        self.node_status(node).await
    }

    /// Has a replica of a shard move to a node; from the node that has the most replicas, unless it is said from where. A
    /// move that is under way already is not begun again, and its reason says so.
    ///
    /// # Errors
    /// [`Code::UnknownNode`]; [`Code::InvalidRequest`]: there is no such shard, or it has no replica there, or has one on
    /// the node already; [`Code::Conflict`] while another change of the shard is under way; [`Code::Unavailable`]: the node
    /// does not answer; [`Code::Timeout`], [`Code::NotLeader`].
    pub async fn move_replica(&self, shard: ShardId, to: NodeId, from: Option<NodeId>) -> Result<Move, Error> {
        self.catch_up_with_meta().await?;
        let view = self.meta().view();
        if let Some(from) = asked_before(&view, shard, to, from) {
            return Ok(under_way((shard, from, to)));
        }
        let change = plan_move(&view, shard, to, from, &self.silent_nodes(&view).await)?;
        begin(self, &change).await?;
        let (from, to) = change.moves().next().unwrap_or((from, Some(to)));
        Ok(Move { shard, from, to, reason: change.reason })
    }

    /// Spreads replicas evenly over the nodes; with `plan` only says how it would. Returns the moves, which are under way then
    /// unless it was a plan; a node copies a few of them at a time. While replicas move already nothing is begun: those are
    /// the moves, and say so. A shard that changes meanwhile is left out, and nothing moves to a node that does not answer.
    ///
    /// # Errors
    /// [`Code::Timeout`], [`Code::NotLeader`]: some may have begun.
    pub async fn rebalance(&self, plan: bool) -> Result<Vec<Move>, Error> {
        self.catch_up_with_meta().await?;
        let view = self.meta().view();
        let mut moves: Vec<Move> = moves_under_way(&view).into_iter().map(under_way).collect();
        if !plan && !moves.is_empty() {
            return Ok(moves);
        }
        for change in plan_rebalance(&view, &self.silent_nodes(&view).await) {
            match if plan { Ok(()) } else { begin(self, &change).await } {
                Ok(()) => moves.extend(moves_of(&change)),
                Err(error) if error.code == Code::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moves)
    }

    /// One node, as [`cluster_status`](Self::cluster_status) shows it.
    async fn node_status(&self, node: NodeId) -> Result<NodeStatus, Error> {
        let gone = || Error::new(Code::UnknownNode, format!("node {node} was removed from the cluster meanwhile"));
        self.look().await.nodes.into_iter().find(|status| status.node == node).ok_or_else(gone)
    }
}

fn under_way((shard, from, to): (ShardId, NodeId, NodeId)) -> Move {
    Move { shard, from: Some(from), to: Some(to), reason: "it is under way already".to_owned() }
}

fn moves_of(change: &Change) -> impl Iterator<Item = Move> {
    change.moves().map(|(from, to)| Move { shard: change.shard, from, to, reason: change.reason.clone() })
}
