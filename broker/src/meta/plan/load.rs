//! How many replicas each node has, and which node is the best for one more.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::{NodeId, ShardId};

use super::super::view::{ClusterView, Placement, Role};

/// Replicas that may join on one node at the same time: each of them is a copy of a shard on its way.
pub(super) const MAX_JOINING: usize = 4;

/// A node as planning counts it; changes as plans are made.
#[derive(Clone, Debug)]
pub(super) struct Loads<'a> {
    view: &'a ClusterView,
    replicas: BTreeMap<NodeId, usize>,
    joining: BTreeMap<NodeId, usize>,
}

/// Replicas of a shard are spread over these; a node that names no zone is one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Zone<'a> {
    Named(&'a str),
    Node(NodeId),
}

impl<'a> Loads<'a> {
    /// Counts the replicas that stay, without the metadata's: every node has that.
    pub(super) fn of(view: &'a ClusterView) -> Self {
        let mut loads = Self { view, replicas: BTreeMap::new(), joining: BTreeMap::new() };
        for (shard, placement) in &view.shards {
            for (_, replica) in placement.replicas.iter().filter(|(_, replica)| replica.role == Role::Joining) {
                *loads.joining.entry(replica.node).or_insert(0) += 1;
            }
            if shard.0 != 0 {
                placement.staying().for_each(|(_, node)| loads.place(node));
            }
        }
        loads
    }

    /// One replica more on a node.
    pub(super) fn place(&mut self, node: NodeId) {
        *self.replicas.entry(node).or_insert(0) += 1;
    }

    /// One that begins to join there.
    pub(super) fn begin(&mut self, shard: ShardId, node: NodeId) {
        *self.joining.entry(node).or_insert(0) += 1;
        if shard.0 != 0 {
            self.place(node);
        }
    }

    /// One replica less on a node.
    pub(super) fn take(&mut self, node: NodeId) {
        let replicas = self.replicas.entry(node).or_insert(0);
        *replicas = replicas.saturating_sub(1);
    }

    /// Replicas on a node.
    pub(super) fn replicas(&self, node: NodeId) -> usize {
        self.replicas.get(&node).copied().unwrap_or(0)
    }

    /// Whether the node has as many joining replicas as it may.
    pub(super) fn is_busy(&self, node: NodeId) -> bool {
        self.joining.get(&node).is_some_and(|joining| *joining >= MAX_JOINING)
    }

    /// Nodes that take replicas, ascending.
    pub(super) fn active(&self) -> impl Iterator<Item = NodeId> {
        self.view.nodes.keys().copied().filter(|node| self.view.is_active(*node))
    }

    /// The best node for a replica more of a shard that has some on `taken`: in a zone with the fewest of them, then with
    /// the fewest replicas.
    pub(super) fn best(&self, taken: &[NodeId], may: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let zones: Vec<Zone<'_>> = taken.iter().map(|node| zone(self.view, *node)).collect();
        let there = |node: NodeId| zones.iter().filter(|taken| **taken == zone(self.view, node)).count();
        let candidates = self.active().filter(|node| !taken.contains(node) && may(*node));
        candidates.min_by_key(|node| (there(*node), self.replicas(*node), *node))
    }
}

/// The zone of a node.
pub(super) fn zone(view: &ClusterView, node: NodeId) -> Zone<'_> {
    match view.nodes.get(&node) {
        Some(known) if !known.zone.is_empty() => Zone::Named(&known.zone),
        _ => Zone::Node(node),
    }
}

/// Voters that a shard is to have on `active` nodes. Where there are fewer nodes than were asked for it is an odd number:
/// one voter more that makes it even only adds one whose loss stops the shard.
pub(super) fn target(placement: &Placement, active: usize) -> usize {
    let asked = placement.replication as usize;
    match active {
        0 => 0,
        _ if active >= asked => asked,
        _ if active.is_multiple_of(2) => active - 1,
        _ => active,
    }
}

/// Nodes that have a replica of a shard, one that leaves included; learners do not count.
pub(super) fn taken(placement: &Placement) -> Vec<NodeId> {
    let counted = placement.replicas.values().filter(|replica| replica.role != Role::Learner);
    counted.map(|replica| replica.node).collect()
}

/// Nodes of the replicas that stay.
pub(super) fn staying(placement: &Placement) -> BTreeSet<NodeId> {
    placement.staying().map(|(_, node)| node).collect()
}
