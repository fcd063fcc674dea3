//! The cluster as replicated state: its nodes, its shards, and who has, or is to have, a replica of what. Pure, as all
//! apply is (A1).
//!
//! What is written here is what is *wanted*: the nodes make it so and say, by ReplicaChanged, how far they are. Ids only
//! grow: a node or a replica that is gone never comes back under the id that it had.

mod anew;
mod codec;
mod nodes;
mod replicas;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};

use super::view::{ClusterView, Placement};

pub(crate) use nodes::{kafka_listener, named, node_message};

/// The most nodes of a cluster.
pub(crate) const MAX_NODES: usize = 1_024;
/// The most ids of removed nodes that are remembered.
const MAX_REMOVED: usize = 65_536;
/// The highest node id: a person types it.
const MAX_NODE_ID: u64 = u32::MAX as u64;
/// The most replicas of a shard, those included that come and go.
const MAX_REPLICAS: usize = 16;
/// Voters that the metadata group is to have.
pub(super) const META_VOTERS: u32 = 5;
/// The metadata group.
pub(super) const META: ShardId = ShardId(0);

/// Nodes, shards and replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cluster {
    view: Arc<ClusterView>,
    next_node: u64,
}

/// The cluster of a message that another node sent, or of a file.
///
/// # Errors
/// [`Code::CorruptData`]: it contradicts itself; [`Code::NewerVersion`].
pub(crate) fn view_of(cluster: internal::Cluster) -> Result<Arc<ClusterView>, Error> {
    Cluster::from_message(cluster).map(|cluster| cluster.view)
}

impl Cluster {
    /// What the node acts on: shared, and replaced by each change.
    pub(super) fn view(&self) -> &Arc<ClusterView> {
        &self.view
    }

    /// Refuses commands that need a cluster before there is one.
    fn check_begun(&self) -> Result<(), Error> {
        let none = || Error::new(Code::NotFormed, "there is no cluster yet: begin one with `stratalog cluster init`");
        self.view.cluster.map(|_| ()).ok_or_else(none)
    }

    fn check_node(&self, node: NodeId) -> Result<(), Error> {
        match self.view.nodes.contains_key(&node) {
            true => Ok(()),
            false if self.view.removed_nodes.contains(&node) => {
                Err(Error::new(Code::UnknownNode, format!("node {node} was removed from the cluster")))
            }
            false => Err(Error::new(Code::UnknownNode, format!("there is no node {node} in the cluster"))),
        }
    }

    fn placement(&self, shard: ShardId) -> Result<&Placement, Error> {
        self.view.shards.get(&shard).ok_or_else(|| no_shard(shard))
    }

    fn placement_mut(&mut self, shard: ShardId) -> Result<&mut Placement, Error> {
        Arc::make_mut(&mut self.view).shards.get_mut(&shard).ok_or_else(|| no_shard(shard))
    }

    fn take_replica(&mut self) -> ReplicaId {
        let next = &mut Arc::make_mut(&mut self.view).next_replica;
        *next += 1;
        ReplicaId(*next - 1)
    }
}

fn no_shard(shard: ShardId) -> Error {
    invalid(format!("there is no shard {shard} in the cluster"))
}

fn conflict(message: String) -> Error {
    Error::new(Code::Conflict, message)
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidRequest, message)
}
