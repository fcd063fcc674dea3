//! Which node is asked for records: one in the reader's zone if there is one that answers, else the client's own.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use futures::future::join_all;
use stratalog_proto::v1::{ClusterNode, ClusterStatus};
use tokio::sync::watch;

use crate::Client;
use crate::learn::{found, status_of};
use crate::nodes::Node;

/// Between looks at which nodes are in the zone.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a node of the zone is not asked after it did not answer as it should.
const LEAVE_FOR: Duration = Duration::from_secs(10);
/// Nodes of a zone that are connected to.
const MAX_NODES: usize = 16;

/// A node to ask.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) node: Node,
    /// It is in the reader's zone.
    pub(super) is_near: bool,
}

/// Chooses the node of each fetch.
pub(super) struct Sources {
    client: Client,
    /// Of the zone, those to ask first in front.
    near: watch::Receiver<Vec<Node>>,
    /// Nodes of the zone that failed, by address, and until when they are not asked.
    left: BTreeMap<String, Instant>,
}

impl Sources {
    /// Looks which nodes are in the zone, if one is named, and goes on to look until this is dropped. Without an answer there
    /// is none yet.
    pub(super) async fn find(client: Client, zone: Option<&str>) -> Self {
        let (sender, near) = watch::channel(Vec::new());
        if let Some(zone) = zone.filter(|zone| !zone.is_empty()) {
            let search = Search { client: client.clone(), zone: zone.to_owned(), order: RandomState::new() };
            search.look(&sender).await;
            tokio::spawn(search.run(sender));
        }
        Self { client, near, left: BTreeMap::new() }
    }

    /// The node to ask now.
    pub(super) fn choose(&mut self, now: Instant) -> Source {
        self.left.retain(|_, until| *until > now);
        let near = self.near.borrow();
        match near.iter().find(|node| !self.left.contains_key(node.address())) {
            Some(node) => Source { node: node.clone(), is_near: true },
            None => Source { node: self.client.node(), is_near: false },
        }
    }

    /// It did not answer as it should: others are asked first.
    pub(super) fn leave(&mut self, source: &Source, now: Instant) {
        if source.is_near {
            tracing::debug!(node = source.node.address(), "reading elsewhere than from this node of the zone");
            self.left.insert(source.node.address().to_owned(), now + LEAVE_FOR);
        } else {
            self.client.leave(&source.node);
        }
    }
}

/// Looks for the nodes of a zone.
struct Search {
    client: Client,
    zone: String,
    /// Readers begin with different nodes, and each stays with its own.
    order: RandomState,
}

impl Search {
    /// Looks until nobody wants to know any more.
    async fn run(self, nodes: watch::Sender<Vec<Node>>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => self.look(&nodes).await,
                () = nodes.closed() => return,
            }
        }
    }

    /// Looks once. Without an answer the nodes that are known stay.
    async fn look(&self, nodes: &watch::Sender<Vec<Node>>) {
        let asked = self.client.node();
        let Some(status) = status_of(&asked).await else { return };
        let known = nodes.borrow().clone();
        let in_zone = status.nodes.iter().filter(|told| told.zone == self.zone).take(MAX_NODES);
        let found = in_zone.map(|told| self.node(told, &status, &asked, &known));
        let mut found: Vec<Node> = join_all(found).await.into_iter().flatten().collect();
        found.sort_by_key(|node| self.order.hash_one(node.address()));
        nodes.send_replace(found);
    }

    /// The node that is told of, if the one that tells reaches it and it is found: over the connection that there is, if any.
    async fn node(&self, told: &ClusterNode, status: &ClusterStatus, asked: &Node, known: &[Node]) -> Option<Node> {
        if told.node == status.answered_by {
            return Some(asked.clone());
        }
        if !told.reachable || told.grpc_address.is_empty() {
            return None;
        }
        let connected = known.iter().find(|node| node.is_at(&told.grpc_address)).cloned();
        match connected.or_else(|| self.client.node_at(&told.grpc_address)) {
            Some(node) => Some(node),
            None => found(told, &status.cluster).await,
        }
    }
}
