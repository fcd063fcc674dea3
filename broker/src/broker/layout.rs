//! The cluster as clients are told of it: where its nodes are, and who leads what.

use std::sync::Arc;

use stratalog_proto::{NodeId, ShardId, Term};

use super::Broker;
use crate::cluster::route::{Leader, Router};
use crate::meta::{ClusterView, NodeView};

/// The cluster as far as this node knows it, at one moment. Who leads is a hint: any node answers for any shard.
pub struct Layout {
    me: NodeId,
    view: Arc<ClusterView>,
    router: Arc<Router>,
}

/// Where Kafka clients of a listener reach a node.
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

    /// The newest leader epoch of a shard, for somebody who claims to know of one: `None` if this node knows of none. Before it
    /// says less than what is claimed, it asks the others.
    pub async fn leader_epoch(&self, shard: ShardId, claimed: Term) -> Option<Term> {
        self.router.epoch(shard, claimed).await
    }
}

impl Layout {
    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// The zone of this node; empty: none.
    pub fn zone(&self) -> &str {
        self.view.nodes.get(&self.me).map_or("", |view| &view.zone)
    }

    /// The id of the cluster; empty until it has begun.
    pub fn cluster_id(&self) -> String {
        self.view.cluster.map(|id| id.to_string()).unwrap_or_default()
    }

    /// Copies of what is in topics that ask for no number of them.
    pub fn replication(&self) -> u32 {
        self.view.replication
    }

    /// The nodes that have told where clients of this listener reach them, in the order of ids; `None`: the listener without a
    /// name.
    pub fn kafka_nodes(&self, listener: Option<&str>) -> Vec<KafkaNode> {
        let told = |(node, view): (&NodeId, &NodeView)| {
            let address = match listener {
                None => Some(&view.kafka_address),
                Some(name) => view.kafka_listeners.get(name),
            };
            let address = address.filter(|address| !address.is_empty())?.clone();
            Some(KafkaNode { node: *node, address, zone: view.zone.clone() })
        };
        self.view.nodes.iter().filter_map(told).collect()
    }

    /// Where clients reach this node, as it tells the others: without a name, then by the names of its other listeners.
    pub fn kafka_addresses(&self) -> Vec<(Option<&str>, &str)> {
        let Some(view) = self.view.nodes.get(&self.me) else { return Vec::new() };
        let named = view.kafka_listeners.iter().map(|(name, address)| (Some(name.as_str()), address.as_str()));
        let all = std::iter::once((None, view.kafka_address.as_str())).chain(named);
        all.filter(|(_, address)| !address.is_empty()).collect()
    }

    /// Who leads a shard, and the leader epoch in which it does, as far as is known. An epoch is a term of the shard's Raft group
    /// that had a leader; what was appended in it carries it.
    pub fn lead(&self, shard: ShardId) -> (Option<NodeId>, Option<Term>) {
        let (leader, epoch) = self.router.known_lead(shard);
        let node = leader.map(|leader| match leader {
            Leader::Here => self.me,
            Leader::At(node) => node,
        });
        (node, epoch)
    }

    /// The nodes with a replica of a shard that has, or had, a vote; ascending.
    pub fn replicas(&self, shard: ShardId) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.view.shards.get(&shard).into_iter().flat_map(|held| held.voter_nodes()).collect();
        nodes.sort_unstable();
        nodes
    }
}
