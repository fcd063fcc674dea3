//! Replicas that move from where many are to where few are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::{NodeId, ReplicaId, ShardId};

use super::super::view::{ClusterView, Placement, Role};
use super::change::Change;
use super::load::{Loads, taken, zone};

/// The fewest moves after which no node has two replicas more than another, and no two replicas of a shard share a zone
/// that need not. Shards with a change under way are left alone, and `silent` nodes, which do not answer now, get nothing.
pub(crate) fn plan_rebalance(view: &ClusterView, silent: &BTreeSet<NodeId>) -> Vec<Change> {
    let mut plan = Plan { view, silent, loads: Loads::of(view), changes: BTreeMap::new(), at: BTreeMap::new() };
    for (shard, placement) in view.data_shards().filter(|(_, placement)| placement.pending().next().is_none()) {
        plan.at.insert(shard, placement.staying().map(|(replica, node)| (node, Some(replica))).collect());
    }
    plan.spread_zones();
    plan.even_out();
    plan.changes.into_values().collect()
}

/// What moves now: of a shard, from which node to which.
pub(crate) fn moves_under_way(view: &ClusterView) -> Vec<(ShardId, NodeId, NodeId)> {
    let of_shard = |(shard, placement): (ShardId, &Placement)| {
        let on = |role: Role| placement.replicas.values().filter(move |view| view.role == role).map(|view| view.node);
        on(Role::Leaving).zip(on(Role::Joining)).map(|(from, to)| (shard, from, to)).collect::<Vec<_>>()
    };
    view.data_shards().flat_map(of_shard).collect()
}

/// A plan that is being made.
struct Plan<'a> {
    view: &'a ClusterView,
    silent: &'a BTreeSet<NodeId>,
    loads: Loads<'a>,
    changes: BTreeMap<ShardId, Change>,
    /// Where replicas are by now; one that the plan itself put there has no id.
    at: BTreeMap<ShardId, BTreeMap<NodeId, Option<ReplicaId>>>,
}

impl Plan<'_> {
    /// Moves one of two replicas that share a zone to a zone that has none.
    fn spread_zones(&mut self) {
        for shard in self.at.keys().copied().collect::<Vec<_>>() {
            while let Some((from, to)) = self.crowded(shard) {
                self.relocate(shard, from, to, "two replicas share a zone");
            }
        }
    }

    /// A replica of a shard in a zone with another one, and the best node in a zone without any.
    fn crowded(&self, shard: ShardId) -> Option<(NodeId, NodeId)> {
        let nodes: Vec<NodeId> = self.at.get(&shard)?.keys().copied().collect();
        let shares =
            |node: &NodeId| nodes.iter().filter(|other| zone(self.view, **other) == zone(self.view, *node)).count() > 1;
        let crowd = nodes.iter().copied().filter(|node| shares(node) && self.is_movable(shard, *node));
        let from = crowd.max_by_key(|node| (self.loads.replicas(*node), *node))?;
        let is_free = |node: NodeId| {
            !self.silent.contains(&node) && nodes.iter().all(|other| zone(self.view, *other) != zone(self.view, node))
        };
        Some((from, self.loads.best(&nodes, is_free)?))
    }

    /// Moves replicas from the fullest to the emptiest nodes until it makes no difference.
    fn even_out(&mut self) {
        while let Some((shard, from, to)) = self.uneven() {
            self.relocate(shard, from, to, "replicas are spread evenly");
        }
    }

    /// A replica whose move helps most: its node has at least two more than the one that it moves to.
    fn uneven(&self) -> Option<(ShardId, NodeId, NodeId)> {
        let mut nodes: Vec<NodeId> = self.loads.active().collect();
        nodes.sort_by_key(|node| (self.loads.replicas(*node), *node));
        let answer = || nodes.iter().filter(|node| !self.silent.contains(node));
        let pairs = nodes.iter().rev().flat_map(|from| answer().map(move |to| (*from, *to)));
        let mut pairs: Vec<(NodeId, NodeId)> =
            pairs.filter(|(from, to)| self.loads.replicas(*from) >= self.loads.replicas(*to) + 2).collect();
        pairs.sort_by_key(|(from, to)| Reverse(self.loads.replicas(*from) - self.loads.replicas(*to)));
        pairs.into_iter().find_map(|(from, to)| {
            let fits = |shard: &&ShardId| self.is_movable(**shard, from) && self.keeps_zones(**shard, from, to);
            self.at.keys().find(fits).map(|shard| (*shard, from, to))
        })
    }

    /// Whether a replica of the shard is there that the plan did not put there.
    fn is_movable(&self, shard: ShardId, from: NodeId) -> bool {
        self.at.get(&shard).is_some_and(|at| at.get(&from).is_some_and(Option::is_some))
    }

    /// Whether a move leaves the replicas of the shard in as many zones, and on distinct nodes.
    fn keeps_zones(&self, shard: ShardId, from: NodeId, to: NodeId) -> bool {
        let Some(placement) = self.view.shards.get(&shard) else { return false };
        let Some(at) = self.at.get(&shard) else { return false };
        let others = |node: NodeId| {
            let there = at.keys().filter(|other| **other != from && zone(self.view, **other) == zone(self.view, node));
            there.count()
        };
        !at.contains_key(&to) && !taken(placement).contains(&to) && others(to) <= others(from)
    }

    fn relocate(&mut self, shard: ShardId, from: NodeId, to: NodeId, reason: &str) {
        let (Some(at), Some(placement)) = (self.at.get_mut(&shard), self.view.shards.get(&shard)) else { return };
        let Some(Some(replica)) = at.remove(&from) else { return };
        at.insert(to, None);
        self.loads.take(from);
        self.loads.place(to);
        let change = self.changes.entry(shard).or_insert_with(|| Change::of(shard, placement, reason));
        change.add.push(to);
        change.remove.push((replica, from));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::asked::plan_move;
    use super::super::load::staying;
    use super::super::testing::{begun, cluster, done, nodes};
    use super::*;

    fn nobody() -> BTreeSet<NodeId> {
        BTreeSet::new()
    }

    fn counts(view: &ClusterView) -> Vec<usize> {
        let loads = Loads::of(view);
        view.nodes.keys().map(|node| loads.replicas(*node)).collect()
    }

    /// The fewest moves that could do: what the fullest nodes have above their share.
    fn fewest_moves(view: &ClusterView) -> usize {
        let mut counts = counts(view);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let (total, nodes) = (counts.iter().sum::<usize>(), counts.len());
        let share = |at: usize| total / nodes + usize::from(at < total % nodes);
        counts.iter().enumerate().map(|(at, count)| count.saturating_sub(share(at))).sum()
    }

    proptest! {
        #[test]
        fn a_rebalance_evens_out_with_the_fewest_moves(
            count in 1..7u64, shards in prop::collection::vec(prop::collection::btree_set(1..7u64, 1..4), 0..20),
        ) {
            let shards: Vec<Vec<u64>> = shards.iter().map(|nodes| {
                let within: BTreeSet<u64> = nodes.iter().map(|node| (node - 1) % count + 1).collect();
                within.into_iter().collect()
            }).collect();
            let shards: Vec<&[u64]> = shards.iter().map(Vec::as_slice).collect();
            let mut view = cluster(nodes(count, |_| ""), &shards);
            let sizes: Vec<usize> = view.shards.values().map(|placement| placement.staying().count()).collect();
            let (fewest, changes) = (fewest_moves(&view), plan_rebalance(&view, &nobody()));
            let moves: usize = changes.iter().map(|change| change.moves().count()).sum();
            prop_assert_eq!(moves, fewest);
            changes.iter().for_each(|change| done(&mut view, change));
            let counts = counts(&view);
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
            let after: Vec<usize> = view.shards.values().map(|placement| staying(placement).len()).collect();
            prop_assert_eq!(after, sizes, "no shard has a replica less");
            prop_assert_eq!(plan_rebalance(&view, &nobody()), vec![], "nothing is left to do");
        }

        #[test]
        fn a_rebalance_never_takes_zones_away(
            zones in prop::collection::vec(0..3usize, 3..7), shards in prop::collection::vec(prop::collection::btree_set(1..4u64, 1..4), 1..12),
        ) {
            let names = ["a", "b", "c"];
            let shards: Vec<Vec<u64>> = shards.iter().map(|nodes| nodes.iter().copied().collect()).collect();
            let shards: Vec<&[u64]> = shards.iter().map(Vec::as_slice).collect();
            let mut view = cluster(nodes(zones.len() as u64, |node| names[zones[node as usize - 1]]), &shards);
            let in_zones = |view: &ClusterView| -> Vec<usize> {
                let of = |placement: &Placement| placement.staying().map(|(_, node)| zone(view, node)).collect::<BTreeSet<_>>().len();
                view.data_shards().map(|(_, placement)| of(placement)).collect()
            };
            let before = in_zones(&view);
            plan_rebalance(&view, &nobody()).iter().for_each(|change| done(&mut view, change));
            let distinct = zones.iter().collect::<BTreeSet<_>>().len();
            for ((before, after), (_, placement)) in before.iter().zip(in_zones(&view)).zip(view.data_shards()) {
                prop_assert!(after >= *before);
                prop_assert_eq!(after, placement.staying().count().min(distinct));
            }
        }
    }

    #[test]
    fn shards_whose_replicas_come_and_go_are_left_alone() {
        let mut view = cluster(nodes(2, |_| ""), &[&[1], &[1], &[1]]);
        let mut change = Change::of(ShardId(1), &view.shards[&ShardId(1)], "test");
        change.add.push(NodeId(2));
        begun(&mut view, &change);
        assert_eq!(moves_under_way(&view), [], "it only gets one more");
        assert!(plan_rebalance(&view, &nobody()).iter().all(|change| change.shard != ShardId(1)));
    }

    #[test]
    fn nothing_moves_to_a_node_that_does_not_answer() {
        let view = cluster(nodes(3, |node| ["a", "b", "c"][node as usize - 1]), &[&[1], &[1], &[1, 2], &[1]]);
        let to = |silent: &[u64]| -> BTreeSet<u64> {
            let silent = silent.iter().copied().map(NodeId).collect();
            plan_rebalance(&view, &silent).iter().flat_map(|change| change.add.iter().map(|node| node.0)).collect()
        };
        assert_eq!(to(&[]), BTreeSet::from([2, 3]));
        assert_eq!(to(&[3]), BTreeSet::from([2]));
        assert_eq!(to(&[1]), BTreeSet::from([2, 3]), "its replicas may go elsewhere");
        assert_eq!(to(&[2, 3]), BTreeSet::new());
    }

    #[test]
    fn a_move_is_under_way_until_who_leaves_has_left() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3], &[1, 2, 3]]);
        let change = plan_move(&view, ShardId(2), NodeId(4), Some(NodeId(1)), &nobody()).unwrap();
        begun(&mut view, &change);
        assert_eq!(moves_under_way(&view), [(ShardId(2), NodeId(1), NodeId(4))]);
        let placement = &view.shards[&ShardId(2)];
        let nothing = Change::of(ShardId(2), placement, "test");
        done(&mut view, &nothing);
        assert_eq!(moves_under_way(&view), []);
    }
}
