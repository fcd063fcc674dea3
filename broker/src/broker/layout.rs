//! The cluster as clients are told of it: where its nodes are, and who leads what.

use std::sync::Arc;

use stratalog_proto::{NodeId, ShardId};

use super::Broker;
use crate::cluster::route::{Leader, Router};
use crate::meta::ClusterView;

/// The cluster as far as this node knows it, at one moment. Who leads is a hint: any node answers for any shard.
pub struct Layout {
    me: NodeId,
    view: Arc<ClusterView>,
    router: Arc<Router>,
}

/// Where Kafka clients reach a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaNode {
    /// The node.
    pub node: NodeId,
    /// host:port.
    pub address: String,
    /// Empty: none.
    pub zone: String,
}

impl Broker {
    /// The cluster as far as this node knows it.
    pub fn layout(&self) -> Layout {
        Layout { me: self.nodes.me(), view: self.nodes.view(), router: Arc::clone(&self.router) }
    }
}

impl Layout {
    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The id of the cluster; empty until it has begun.
    pub fn cluster_id(&self) -> String {
        self.view.cluster.map(|id| id.to_string()).unwrap_or_default()
    }

    /// Copies of what is in topics that ask for no number of them.
    pub fn replication(&self) -> u32 {
        self.view.replication
    }

    /// The nodes that have told where Kafka clients reach them, in the order of ids.
    pub fn kafka_nodes(&self) -> Vec<KafkaNode> {
        let listens = self.view.nodes.iter().filter(|(_, view)| !view.kafka_address.is_empty());
        let told = |(node, view): (&NodeId, &crate::meta::NodeView)| KafkaNode {
            node: *node,
            address: view.kafka_address.clone(),
            zone: view.zone.clone(),
        };
        listens.map(told).collect()
    }

    /// Who leads a shard, as far as is known.
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.router.known_leader(shard).map(|leader| match leader {
            Leader::Here => self.me,
            Leader::At(node) => node,
        })
    }

    /// The nodes with a replica of a shard that has, or had, a vote; ascending.
    pub fn replicas(&self, shard: ShardId) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.view.shards.get(&shard).into_iter().flat_map(|held| held.voter_nodes()).collect();
        nodes.sort_unstable();
        nodes
    }
}
