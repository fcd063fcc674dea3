//! How many replicas each node has, and which node is the best for one more.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::{NodeId, ReplicaId, ShardId};

use super::super::view::{ClusterView, Placement, Role};

/// Replicas that may join on one node at the same time: each of them is a copy of a shard on its way.
pub(super) const MAX_JOINING: usize = 4;

/// The joining replicas whose turn it is: the first few of each node, shard by shard. The others have not begun to copy, and
/// begin when one of those has joined; so however much was asked for at once, no node gets more than it can take. A
/// replica of the metadata is complete already, and waits for nobody. A shard in which nobody votes any more keeps no other
/// one waiting.
pub(crate) fn joining_now(view: &ClusterView) -> BTreeSet<ReplicaId> {
    let mut of_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    let votes = |(_, placement): &(&ShardId, &Placement)| placement.voter_nodes().next().is_some();
    let joining = view.shards.iter().filter(votes).flat_map(|(shard, placement)| {
        let joining = placement.replicas.iter().filter(|(_, replica)| replica.role == Role::Joining);
        joining.map(|(replica, state)| (*shard, *replica, state.node))
    });
    let mut may_join = |shard: ShardId, node: NodeId| {
        let turn = of_node.entry(node).or_insert(0);
        *turn += usize::from(shard.0 != 0);
        *turn <= MAX_JOINING
    };
    joining.filter(|(shard, _, node)| may_join(*shard, *node)).map(|(_, replica, _)| replica).collect()
}

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

/// Nodes that have a replica of a shard, one that leaves included; learners do not count.
pub(super) fn taken(placement: &Placement) -> Vec<NodeId> {
    let counted = placement.replicas.values().filter(|replica| replica.role != Role::Learner);
    counted.map(|replica| replica.node).collect()
}

/// Nodes of the replicas that stay.
pub(super) fn staying(placement: &Placement) -> BTreeSet<NodeId> {
    placement.staying().map(|(_, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{begun, cluster, done, nodes};
    use super::super::{Change, plan_rebalance};
    use super::*;

    fn copying(view: &ClusterView, node: u64) -> Vec<u32> {
        let now = joining_now(view);
        let here = view.replicas_on(NodeId(node)).filter(|(_, replica, _)| now.contains(replica));
        here.map(|(shard, _, _)| shard.0).collect()
    }

    #[test]
    fn of_a_rebalance_each_node_takes_a_few_replicas_at_a_time() {
        let mut view = cluster(nodes(2, |_| ""), &[[1].as_slice(); 20]);
        let changes = plan_rebalance(&view, &BTreeSet::new());
        assert_eq!(changes.len(), 10);
        changes.iter().for_each(|change| begun(&mut view, change));
        let first = copying(&view, 2);
        assert_eq!(first, [1, 2, 3, 4], "the lowest first, so that two nodes never wait for each other");
        let placement = &view.shards[&ShardId(2)];
        let mut joined = Change::of(ShardId(2), placement, "test");
        joined.expect = placement.replicas.keys().copied().collect();
        done(&mut view, &joined);
        assert_eq!(copying(&view, 2), [1, 3, 4, 5]);
    }

    #[test]
    fn a_vote_in_the_metadata_waits_for_no_copy() {
        let mut view = cluster(nodes(2, |_| ""), &[[1].as_slice(); 12]);
        plan_rebalance(&view, &BTreeSet::new()).iter().for_each(|change| begun(&mut view, change));
        let meta = view.shards.get_mut(&ShardId(0)).unwrap();
        meta.replicas.values_mut().filter(|replica| replica.node == NodeId(2)).for_each(|r| r.role = Role::Joining);
        assert_eq!(copying(&view, 2), [0, 1, 2, 3, 4]);
    }
}
