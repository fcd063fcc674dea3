//! Replicas that move from where many are to where few are.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId};

use super::super::view::{ClusterView, Placement, Role};
use super::change::Change;
use super::load::{Loads, taken, zone};

/// The fewest moves after which no node has two replicas more than another, and no two replicas of a shard share a zone
/// that need not. Shards with a change under way are left alone.
pub(crate) fn plan_rebalance(view: &ClusterView) -> Vec<Change> {
    let mut plan = Plan { view, loads: Loads::of(view), changes: BTreeMap::new(), at: BTreeMap::new() };
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
        let is_free = |node: NodeId| nodes.iter().all(|other| zone(self.view, *other) != zone(self.view, node));
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
        let pairs = nodes.iter().rev().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
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

/// A move that an operator asks for: from the node with the most replicas of those that have one of the shard, unless it is
/// said from where.
///
/// # Errors
/// [`Code::UnknownNode`]; [`Code::InvalidRequest`]: no such shard, no replica there, or one is there already;
/// [`Code::Conflict`] while another change of the shard is under way, or the node drains.
pub(crate) fn plan_move(view: &ClusterView, shard: ShardId, to: NodeId, from: Option<NodeId>) -> Result<Change, Error> {
    let invalid = |message| Error::new(Code::InvalidRequest, message);
    let placement = view.shards.get(&shard).ok_or_else(|| invalid(format!("there is no shard {shard}")))?;
    for node in from.iter().chain([&to]) {
        let unknown = || Error::new(Code::UnknownNode, format!("there is no node {node} in the cluster"));
        view.nodes.get(node).ok_or_else(unknown)?;
    }
    if !view.is_active(to) {
        return Err(Error::new(Code::Conflict, format!("node {to} is draining: it takes no replicas")));
    }
    if placement.pending().next().is_some() {
        let message = format!("another change of shard {shard} is under way; `cluster status` shows how far it is");
        return Err(Error::new(Code::Conflict, message));
    }
    if taken(placement).contains(&to) {
        return Err(invalid(format!("node {to} has a replica of shard {shard} already")));
    }
    let (replica, from) = leaving(view, placement, from)
        .ok_or_else(|| invalid(format!("node {} has no replica of shard {shard}", from.unwrap_or_default())))?;
    let mut change = Change::of(shard, placement, "asked for");
    change.add.push(to);
    change.remove.push((replica, from));
    Ok(change)
}

fn leaving(view: &ClusterView, placement: &Placement, from: Option<NodeId>) -> Option<(ReplicaId, NodeId)> {
    let loads = Loads::of(view);
    let candidates = placement.staying().filter(|(_, node)| from.is_none_or(|from| from == *node));
    candidates.max_by_key(|(_, node)| (loads.replicas(*node), *node))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::load::staying;
    use super::super::testing::{begun, cluster, done, nodes};
    use super::*;

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
            let (fewest, changes) = (fewest_moves(&view), plan_rebalance(&view));
            let moves: usize = changes.iter().map(|change| change.moves().count()).sum();
            prop_assert_eq!(moves, fewest);
            changes.iter().for_each(|change| done(&mut view, change));
            let counts = counts(&view);
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
            let after: Vec<usize> = view.shards.values().map(|placement| staying(placement).len()).collect();
            prop_assert_eq!(after, sizes, "no shard has a replica less");
            prop_assert_eq!(plan_rebalance(&view), vec![], "nothing is left to do");
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
            plan_rebalance(&view).iter().for_each(|change| done(&mut view, change));
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
        assert!(plan_rebalance(&view).iter().all(|change| change.shard != ShardId(1)));
        let refused = plan_move(&view, ShardId(1), NodeId(2), None).unwrap_err();
        assert_eq!(refused.code, Code::Conflict);
    }

    #[test]
    fn a_move_is_under_way_until_who_leaves_has_left() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3], &[1, 2, 3]]);
        let change = plan_move(&view, ShardId(2), NodeId(4), Some(NodeId(1))).unwrap();
        begun(&mut view, &change);
        assert_eq!(moves_under_way(&view), [(ShardId(2), NodeId(1), NodeId(4))]);
        let placement = &view.shards[&ShardId(2)];
        let nothing = Change::of(ShardId(2), placement, "test");
        done(&mut view, &nothing);
        assert_eq!(moves_under_way(&view), []);
    }

    #[test]
    fn a_move_goes_from_the_fullest_node_and_says_what_it_cannot_do() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3], &[2]]);
        let moved = plan_move(&view, ShardId(1), NodeId(4), None).unwrap();
        assert_eq!((moved.add, moved.remove[0].1), (vec![NodeId(4)], NodeId(2)));
        let moved = plan_move(&view, ShardId(1), NodeId(4), Some(NodeId(3))).unwrap();
        assert_eq!(moved.remove[0].1, NodeId(3));
        let code = |shard, to, from| plan_move(&view, ShardId(shard), NodeId(to), from).unwrap_err().code;
        assert_eq!(code(7, 4, None), Code::InvalidRequest);
        assert_eq!(code(1, 9, None), Code::UnknownNode);
        assert_eq!(code(1, 4, Some(NodeId(9))), Code::UnknownNode);
        assert_eq!(code(1, 3, None), Code::InvalidRequest);
        assert_eq!(code(2, 4, Some(NodeId(1))), Code::InvalidRequest);
        view.nodes.get_mut(&NodeId(4)).unwrap().draining = true;
        assert_eq!(plan_move(&view, ShardId(1), NodeId(4), None).unwrap_err().code, Code::Conflict);
        assert!(view.shards[&ShardId(0)].replicas.values().any(|replica| replica.role == Role::Learner));
    }
}
