//! Replicas where there are too few, and away from where they may not stay.

use std::collections::BTreeSet;

use stratalog_proto::config::voters;
use stratalog_proto::{NodeId, ReplicaId, ShardId};

use super::super::view::{ClusterView, Placement, Role};
use super::change::Change;
use super::load::{Loads, staying, taken, zone};

/// A group keeps an even number of voters rather than to fall below this.
const FEWEST: usize = 3;

/// Changes that give each shard the replicas that it is to have, as far as nodes and what they take at the same time
/// allow. `lost` are nodes that were not reached for long: nothing is placed there, and what was to join there is taken
/// back.
pub(crate) fn plan_repair(view: &ClusterView, lost: &BTreeSet<NodeId>) -> Vec<Change> {
    let mut loads = Loads::of(view);
    let shards = view.shards.iter();
    shards.filter_map(|(shard, placement)| repair(view, &mut loads, lost, *shard, placement)).collect()
}

fn repair(
    view: &ClusterView,
    loads: &mut Loads<'_>,
    lost: &BTreeSet<NodeId>,
    shard: ShardId,
    placement: &Placement,
) -> Option<Change> {
    if placement.is_new() {
        return place_anew(view, loads, lost, shard, placement);
    }
    // While all who vote are lost, nobody lets another one join.
    let goes_on = placement.voter_nodes().any(|node| !lost.contains(&node));
    if placement.pending().next().is_some() {
        return take_back(lost, shard, placement, goes_on);
    }
    if !goes_on {
        return None;
    }
    let wanted = voters(placement.replication, loads.active().filter(|node| !lost.contains(node)).count());
    let mut nodes = taken(placement);
    let mut change = Change::of(shard, placement, "too few replicas");
    let mut more = wanted.saturating_sub(nodes.len()).min(room_for(loads, lost, &nodes));
    // Half of the way may be worse than none: an even number of voters survives no more losses than one less.
    if nodes.len() + more < wanted && (nodes.len() + more).is_multiple_of(2) {
        more = more.saturating_sub(1);
    }
    for _ in 0..more {
        let best = loads.best(&nodes, |node| !lost.contains(&node) && !loads.is_busy(node));
        let Some(node) = best else { break };
        loads.begin(shard, node);
        nodes.push(node);
        change.add.push(node);
    }
    if change.is_empty() {
        change = reduce(view, lost, shard, placement, wanted)?;
    }
    (!change.is_empty()).then_some(change)
}

/// How many nodes could begin to join now.
fn room_for(loads: &Loads<'_>, lost: &BTreeSet<NodeId>, nodes: &[NodeId]) -> usize {
    loads.active().filter(|node| !lost.contains(node) && !loads.is_busy(*node) && !nodes.contains(node)).count()
}

/// Takes one voter away where there are more than were asked for, or a needless even number of the metadata's.
fn reduce(
    view: &ClusterView,
    lost: &BTreeSet<NodeId>,
    shard: ShardId,
    placement: &Placement,
    wanted: usize,
) -> Option<Change> {
    let voters = placement.staying().count();
    let too_many = voters > placement.replication as usize && voters > wanted;
    let needless = shard.0 == 0 && voters > FEWEST && voters > wanted && voters.is_multiple_of(2);
    if !too_many && !needless {
        return None;
    }
    let loads = Loads::of(view);
    let crowd = |node: NodeId| {
        let here = zone(view, node);
        placement.staying().filter(|(_, other)| zone(view, *other) == here).count()
    };
    let goes = placement.staying().max_by_key(|(replica, node)| {
        (lost.contains(node), !view.is_active(*node), crowd(*node), loads.replicas(*node), *replica)
    })?;
    let mut change = Change::of(shard, placement, "more replicas than asked for");
    change.remove.push(goes);
    Some(change)
}

/// Has a group that nobody has begun begin elsewhere than on nodes that are lost or drain, as far as there are others. There
/// is nothing to copy, so they change places at once.
fn place_anew(
    view: &ClusterView,
    loads: &mut Loads<'_>,
    lost: &BTreeSet<NodeId>,
    shard: ShardId,
    placement: &Placement,
) -> Option<Change> {
    let usable = |node: NodeId| view.is_active(node) && !lost.contains(&node);
    let mut change = Change::of(shard, placement, "its group cannot begin there");
    let mut nodes = taken(placement);
    for (replica, node) in placement.staying().filter(|(_, node)| !usable(*node)) {
        let Some(to) = loads.best(&nodes, usable) else { break };
        loads.take(node);
        loads.place(to);
        nodes.push(to);
        change.add.push(to);
        change.remove.push((replica, node));
    }
    (!change.is_empty()).then_some(change)
}

/// Takes back what cannot come to its end: a replica that joins on a node that is lost, or a shard that does not go on, so that
/// it keeps no other one waiting for its turn. Whoever was to leave for it stays.
fn take_back(lost: &BTreeSet<NodeId>, shard: ShardId, placement: &Placement, goes_on: bool) -> Option<Change> {
    let mut change = Change::of(shard, placement, "it cannot join there");
    for (replica, state) in &placement.replicas {
        match (state.role, lost.contains(&state.node)) {
            (Role::Joining, is_lost) if is_lost || !goes_on => change.remove.push((*replica, state.node)),
            (Role::Leaving, false) => change.add.push(state.node),
            _ => {}
        }
    }
    let goes = |replica: ReplicaId| change.remove.iter().any(|(gone, _)| *gone == replica);
    let some_stay = !change.add.is_empty() || placement.staying().any(|(replica, _)| !goes(replica));
    (!change.remove.is_empty() && some_stay).then_some(change)
}

/// Changes that take the replicas away from the nodes that drain: each moves to the best node that has none of its shard,
/// or just goes if there is no such node and others have a copy.
pub(crate) fn plan_drain(view: &ClusterView, lost: &BTreeSet<NodeId>) -> Vec<Change> {
    let mut loads = Loads::of(view);
    let shards = view.shards.iter().filter(|(_, placement)| placement.pending().next().is_none());
    shards.filter_map(|(shard, placement)| drain(view, &mut loads, lost, *shard, placement)).collect()
}

fn drain(
    view: &ClusterView,
    loads: &mut Loads<'_>,
    lost: &BTreeSet<NodeId>,
    shard: ShardId,
    placement: &Placement,
) -> Option<Change> {
    let (replica, node) = placement.staying().find(|(_, node)| !view.is_active(*node))?;
    let mut change = Change::of(shard, placement, format!("node {node} drains"));
    change.remove.push((replica, node));
    let nodes = taken(placement);
    let usable = |node: NodeId| !lost.contains(&node);
    match loads.best(&nodes, |node| usable(node) && !loads.is_busy(node)) {
        Some(to) => {
            loads.begin(shard, to);
            change.add.push(to);
        }
        // It has to wait for its turn.
        None if loads.best(&nodes, usable).is_some() => return None,
        None => {
            if !staying(placement).into_iter().any(|other| usable(other) && view.is_active(other)) {
                return None;
            }
        }
    }
    loads.take(node);
    Some(change)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{begun, cluster, done, nodes};
    use super::*;

    fn nobody() -> BTreeSet<NodeId> {
        BTreeSet::new()
    }

    /// Plans and carries out until there is nothing left to do.
    fn settle(view: &mut ClusterView, plan: impl Fn(&ClusterView) -> Vec<Change>) {
        for _ in 0..200 {
            let changes = plan(view);
            if changes.is_empty() {
                return;
            }
            changes.iter().for_each(|change| done(view, change));
        }
        panic!("planning does not come to an end: {view:?}");
    }

    fn voters(view: &ClusterView, shard: u32) -> Vec<u64> {
        view.shards[&ShardId(shard)].staying().map(|(_, node)| node.0).collect()
    }

    #[test]
    fn one_node_and_two_keep_one_voter_and_three_get_three() {
        for (count, wanted) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3)] {
            let mut view = cluster(nodes(count, |_| ""), &[&[1], &[1]]);
            settle(&mut view, |view| plan_repair(view, &nobody()));
            assert_eq!(voters(&view, 1).len(), wanted, "{count} nodes");
        }
    }

    #[test]
    fn a_node_joins_a_few_shards_at_a_time_and_none_of_them_half() {
        let mut view = cluster(nodes(3, |_| ""), &[[1].as_slice(); 10]);
        let changes = plan_repair(&view, &nobody());
        let of_shards = changes.iter().filter(|change| change.shard.0 != 0);
        assert!(of_shards.clone().count() > 1 && of_shards.clone().count() < 10, "{changes:?}");
        assert!(of_shards.clone().all(|change| change.add.len() == 2), "{changes:?}");
        settle(&mut view, |view| plan_repair(view, &nobody()));
        assert!((1..=10).all(|shard| voters(&view, shard).len() == 3));
    }

    #[test]
    fn the_metadata_has_an_odd_number_of_voters_up_to_five() {
        for (count, wanted) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (9, 5)] {
            let mut view = cluster(nodes(count, |_| ""), &[]);
            settle(&mut view, |view| plan_repair(view, &nobody()));
            assert_eq!(voters(&view, 0).len(), wanted, "{count} nodes");
            assert_eq!(view.shards[&ShardId(0)].replicas.len(), count as usize, "the others learn");
        }
    }

    #[test]
    fn voters_of_the_metadata_are_in_different_zones() {
        let mut view = cluster(nodes(6, |node| if node <= 4 { "a" } else { "b" }), &[]);
        settle(&mut view, |view| plan_repair(view, &nobody()));
        let voters = voters(&view, 0);
        assert!(voters.contains(&5) && voters.contains(&6), "{voters:?}");
    }

    #[test]
    fn a_replica_that_joins_on_a_lost_node_is_taken_back_and_nobody_leaves_for_it() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3]]);
        let (leaving, _) = view.shards[&ShardId(1)].staying().find(|(_, node)| node.0 == 3).unwrap();
        let mut moving = Change::of(ShardId(1), &view.shards[&ShardId(1)], "test");
        moving.add.push(NodeId(4));
        moving.remove.push((leaving, NodeId(3)));
        begun(&mut view, &moving);
        let of_shard = |changes: Vec<Change>| changes.into_iter().find(|change| change.shard == ShardId(1));
        assert_eq!(of_shard(plan_repair(&view, &nobody())), None, "it is under way");
        let back = of_shard(plan_repair(&view, &BTreeSet::from([NodeId(4)]))).unwrap();
        assert_eq!((back.add.as_slice(), back.remove[0].1), ([NodeId(3)].as_slice(), NodeId(4)));
        done(&mut view, &back);
        assert_eq!(voters(&view, 1), [1, 2, 3]);
    }

    #[test]
    fn l1_what_joins_a_shard_whose_voters_are_lost_keeps_nobody_waiting() {
        let mut view = cluster(nodes(3, |_| ""), &[&[1], &[2]]);
        for shard in [1, 2] {
            let mut change = Change::of(ShardId(shard), &view.shards[&ShardId(shard)], "test");
            change.add.push(NodeId(3));
            begun(&mut view, &change);
        }
        let plan = plan_repair(&view, &BTreeSet::from([NodeId(1)]));
        let back = plan.iter().find(|change| change.shard == ShardId(1)).expect("nobody lets it join");
        assert_eq!((back.add.len(), back.remove.len()), (0, 1));
        done(&mut view, back);
        let again = plan_repair(&view, &BTreeSet::from([NodeId(1)]));
        assert!(again.iter().all(|change| change.shard != ShardId(1)), "{again:?}");
    }

    #[test]
    fn a_group_that_has_not_begun_leaves_a_lost_node_at_once_and_only_for_another_one() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3], &[4]]);
        for shard in [1, 2] {
            let placement = view.shards.get_mut(&ShardId(shard)).unwrap();
            placement.replicas.values_mut().for_each(|replica| replica.role = Role::Founding);
        }
        let planned = |lost: &[u64]| {
            let lost = lost.iter().copied().map(NodeId).collect();
            let changes = plan_repair(&view, &lost).into_iter().filter(|change| change.shard.0 != 0);
            changes.map(|change| (change.shard.0, change.moves().next().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(planned(&[]), [], "each waits for the one that begins it");
        assert_eq!(planned(&[1]), [(1, (Some(NodeId(1)), Some(NodeId(4))))]);
        assert_eq!(planned(&[4]), [(2, (Some(NodeId(4)), Some(NodeId(1))))]);
        assert_eq!(planned(&[1, 2, 3, 4]), [], "there is no better place");
    }

    #[test]
    fn a_lost_node_gets_nothing() {
        let view = cluster(nodes(4, |_| ""), &[&[1]]);
        let changes = plan_repair(&view, &BTreeSet::from([NodeId(2)]));
        assert!(changes.iter().all(|change| !change.add.contains(&NodeId(2))), "{changes:?}");
    }

    #[test]
    fn a_drained_node_of_three_leaves_two_copies_and_the_last_copy_stays() {
        let mut view = cluster(nodes(3, |_| ""), &[&[1, 2, 3], &[3]]);
        view.nodes.get_mut(&NodeId(3)).unwrap().draining = true;
        settle(&mut view, |view| plan_drain(view, &nobody()));
        assert_eq!(voters(&view, 1), [1, 2]);
        assert_eq!(voters(&view, 2).len(), 1);
        assert_ne!(voters(&view, 2), [3], "it moved");
        view.nodes.values_mut().for_each(|node| node.draining = true);
        assert_eq!(plan_drain(&view, &nobody()), [], "there is nowhere to go");
    }

    proptest! {
        /// After a drain no replica is left on the node, each shard has what it can have, and nobody was needed twice.
        #[test]
        fn a_drained_node_has_nothing_left(
            count in 2..7u64, drained in 1..7u64, shards in prop::collection::vec(prop::collection::btree_set(1..7u64, 1..4), 0..12),
        ) {
            let drained = NodeId((drained - 1) % count + 1);
            let shards: Vec<Vec<u64>> = shards.iter().map(|nodes| {
                let within: BTreeSet<u64> = nodes.iter().map(|node| (node - 1) % count + 1).collect();
                within.into_iter().collect()
            }).collect();
            let shards: Vec<&[u64]> = shards.iter().map(Vec::as_slice).collect();
            let mut view = cluster(nodes(count, |_| ""), &shards);
            view.nodes.get_mut(&drained).unwrap().draining = true;
            settle(&mut view, |view| plan_drain(view, &nobody()));
            settle(&mut view, |view| plan_repair(view, &nobody()));
            for (shard, placement) in &view.shards {
                let stay = staying(placement);
                prop_assert!(!stay.contains(&drained), "shard {} is on {:?}", shard, stay);
                prop_assert!(stay.len() >= stratalog_proto::config::voters(placement.replication, count as usize - 1), "shard {} has {:?}", shard, stay);
            }
            prop_assert_eq!(plan_drain(&view, &nobody()), vec![]);
        }

        /// What is planned on any state, also one in the middle of changes, never takes the last copy.
        #[test]
        fn l1_no_plan_takes_the_last_copy(
            count in 1..6u64, roles in prop::collection::vec(0..3usize, 1..6), draining in any::<u8>(), lost in any::<u8>(),
        ) {
            let mut view = cluster(nodes(count, |_| ""), &[&(1..=count.min(roles.len() as u64)).collect::<Vec<_>>()]);
            let placement = view.shards.get_mut(&ShardId(1)).unwrap();
            for (replica, role) in placement.replicas.values_mut().zip(&roles) {
                replica.role = [Role::Joining, Role::Voter, Role::Leaving][*role];
            }
            let has = |mask: u8, node: u64| mask & (1 << node) != 0;
            view.nodes.iter_mut().for_each(|(id, node)| node.draining = has(draining, id.0));
            let lost = view.nodes.keys().copied().filter(|node| has(lost, node.0)).collect();
            prop_assume!(view.shards[&ShardId(1)].staying().next().is_some());
            let changes = [plan_repair(&view, &lost), plan_drain(&view, &lost)].concat();
            for change in changes {
                let mut after = view.clone();
                begun(&mut after, &change);
                prop_assert!(after.shards[&change.shard].staying().next().is_some(), "{:?}", change);
            }
        }
    }
}
