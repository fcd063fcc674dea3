//! The cluster in bytes, as a part of the metadata's state. `docs/FORMATS.md`, "State".

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};

use super::super::view::{ClusterView, Placement, ReplicaView, Role};
use super::nodes::{check_known, check_node_id, check_replication, node_message, node_view, uuid};
use super::{Cluster, MAX_NODES, MAX_REMOVED, META};
use crate::identity::MAX_SHARDS;

impl Cluster {
    /// `None` as long as there is no cluster. The same state is always the same message.
    pub(crate) fn to_message(&self) -> Option<internal::Cluster> {
        let cluster = self.view.cluster?;
        Some(internal::Cluster {
            cluster: Bytes::copy_from_slice(cluster.as_bytes()),
            next_node: self.next_node,
            next_replica: self.view.next_replica,
            replication: self.view.replication,
            feature_level: self.view.feature_level,
            nodes: self.view.nodes.iter().map(|(node, view)| node_message(*node, view)).collect(),
            placements: self.view.shards.iter().map(placement_message).collect(),
            removed_nodes: self.view.removed_nodes.iter().map(|node| node.0).collect(),
        })
    }

    /// Reads it back.
    ///
    /// # Errors
    /// [`Code::CorruptData`]: it contradicts itself; [`Code::NewerVersion`].
    pub(crate) fn from_message(raw: internal::Cluster) -> Result<Self, Error> {
        check_known(raw.feature_level)?;
        let (nodes, shards, removed) = (raw.nodes.len(), raw.placements.len(), raw.removed_nodes.len());
        if !(1..=MAX_NODES).contains(&nodes) || shards > MAX_SHARDS as usize + 1 || removed > MAX_REMOVED {
            return Err(corrupt(&format!("it has {nodes} nodes, {shards} shards and {removed} removed nodes")));
        }
        let nodes = raw.nodes.iter().map(|node| node_view(Some(node))).collect::<Result<Vec<_>, _>>();
        let removed = raw.removed_nodes.into_iter().map(|node| (NodeId(node), ()));
        let view = ClusterView {
            cluster: Some(uuid(&raw.cluster, "cluster id").map_err(damaged)?),
            replication: raw.replication,
            feature_level: raw.feature_level,
            next_replica: raw.next_replica,
            nodes: ascending(nodes.map_err(damaged)?, "nodes")?,
            removed_nodes: ascending(removed.collect(), "removed nodes")?.into_keys().collect(),
            shards: ascending(placements(raw.placements)?, "shards")?,
        };
        let next_node = raw.next_node;
        let cluster = Self { view: Arc::new(view), next_node };
        cluster.check().map(|()| cluster)
    }

    /// What has to hold of any state.
    fn check(&self) -> Result<(), Error> {
        check_replication(self.view.replication).map_err(damaged)?;
        for node in self.view.nodes.keys() {
            check_node_id(*node).map_err(damaged)?;
            if node.0 >= self.next_node || self.view.removed_nodes.contains(node) {
                return Err(corrupt(&format!("node {node} was removed, or is to be given out yet")));
            }
        }
        if !self.view.shards.contains_key(&META) {
            return Err(corrupt("it has no metadata group"));
        }
        for (shard, placement) in &self.view.shards {
            check_replication(placement.replication).map_err(damaged)?;
            let mut at: Vec<NodeId> = placement.replicas.values().map(|replica| replica.node).collect();
            at.sort_unstable();
            if at.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(corrupt(&format!("a node has two replicas of shard {shard}")));
            }
            if at.iter().any(|node| !self.view.nodes.contains_key(node)) {
                return Err(corrupt(&format!("a replica of shard {shard} is on a node that is not there")));
            }
            if placement.is_new() && placement.replicas.values().any(|replica| replica.role != Role::Founding) {
                return Err(corrupt(&format!("the group of shard {shard} has begun, and is to begin yet")));
            }
            if placement.replicas.keys().any(|replica| replica.0 == 0 || replica.0 >= self.view.next_replica) {
                return Err(corrupt(&format!("a replica of shard {shard} is to be given out yet")));
            }
        }
        Ok(())
    }
}

fn placement_message((shard, placement): (&ShardId, &Placement)) -> internal::Placement {
    let replica = |(replica, view): (&ReplicaId, &ReplicaView)| internal::Replica {
        replica: replica.0,
        node: view.node.0,
        role: view.role.number(),
    };
    let replicas = placement.replicas.iter().map(replica).collect();
    internal::Placement { shard: shard.0, replication: placement.replication, replicas }
}

fn placements(raw: Vec<internal::Placement>) -> Result<Vec<(ShardId, Placement)>, Error> {
    let placement = |raw: internal::Placement| {
        if raw.replicas.len() > MAX_NODES {
            return Err(corrupt(&format!("shard {} has {} replicas", raw.shard, raw.replicas.len())));
        }
        let replica = |raw: internal::Replica| {
            let unknown = || corrupt(&format!("replica {} has role {}", raw.replica, raw.role));
            let view = ReplicaView { node: NodeId(raw.node), role: Role::from_number(raw.role).ok_or_else(unknown)? };
            Ok::<_, Error>((ReplicaId(raw.replica), view))
        };
        let replicas = raw.replicas.into_iter().map(replica).collect::<Result<Vec<_>, _>>()?;
        let replicas = ascending(replicas, "replicas of a shard")?;
        Ok((ShardId(raw.shard), Placement { replication: raw.replication, replicas }))
    };
    raw.into_iter().map(placement).collect()
}

/// A map of what has to come in order, each once.
fn ascending<K: Ord, V>(pairs: Vec<(K, V)>, what: &str) -> Result<BTreeMap<K, V>, Error> {
    match pairs.is_sorted_by(|(a, _), (b, _)| a < b) {
        true => Ok(pairs.into_iter().collect()),
        false => Err(corrupt(&format!("its {what} are not in their order"))),
    }
}

fn damaged(error: Error) -> Error {
    corrupt(&error.message)
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::CorruptData, format!("the cluster in the state of the metadata group is damaged: {what}"))
}
