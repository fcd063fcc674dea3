//! Nodes for new shards.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::config::voters;
use stratalog_proto::{NodeId, ShardId};

use super::super::view::{ClusterView, Placement};
use super::load::Loads;

/// For each of `count` new shards its nodes, the first of which begins the group and leads it: zones first, then as even
/// as the replicas that there are allow. `silent` nodes, which do not answer now, get a replica only where there are too few
/// others, and are not the first. Empty if no node takes replicas.
pub(crate) fn place_shards(
    view: &ClusterView,
    count: u32,
    replication: u32,
    silent: &BTreeSet<NodeId>,
) -> Vec<Vec<NodeId>> {
    let mut loads = Loads::of(view);
    let wanted = voters(replication, loads.active().count());
    if wanted == 0 {
        return Vec::new();
    }
    let mut firsts: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut place = || {
        let mut nodes: Vec<NodeId> = Vec::with_capacity(wanted);
        while nodes.len() < wanted {
            let answers = |node: NodeId| !silent.contains(&node);
            let Some(node) = loads.best(&nodes, answers).or_else(|| loads.best(&nodes, |_| true)) else { break };
            loads.place(node);
            nodes.push(node);
        }
        let first = |at: &usize| {
            let node = nodes[*at];
            (silent.contains(&node), firsts.get(&node).copied().unwrap_or(0), node)
        };
        let first = (0..nodes.len()).min_by_key(first).unwrap_or(0);
        nodes.swap(0, first);
        *firsts.entry(nodes[0]).or_insert(0) += 1;
        nodes
    };
    (0..count).map(|_| place()).collect()
}

/// The shards for topics of a replication.
pub(crate) fn shards_of(view: &ClusterView, replication: u32) -> Vec<ShardId> {
    let fits = |(_, placement): &(ShardId, &Placement)| placement.replication == replication;
    view.data_shards().filter(fits).map(|(shard, _)| shard).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::load::zone;
    use super::super::testing::{cluster, nodes};
    use super::*;

    proptest! {
        /// Each node has as many as the others, each shard is on distinct nodes, and as many zones as there can be.
        #[test]
        fn new_shards_are_spread_evenly(nodes_of in 1..9u64, count in 1..40u32, replication in 1..6u32) {
            let view = cluster(nodes(nodes_of, |_| ""), &[]);
            let placed = place_shards(&view, count, replication, &BTreeSet::new());
            prop_assert_eq!(placed.len(), count as usize);
            let mut loads: BTreeMap<NodeId, usize> = view.nodes.keys().map(|node| (*node, 0)).collect();
            let mut firsts = loads.clone();
            for shard in &placed {
                let distinct: BTreeSet<_> = shard.iter().collect();
                prop_assert_eq!(distinct.len(), shard.len());
                let odd_or_asked = shard.len() as u32 == replication || shard.len() % 2 == 1;
                prop_assert!(odd_or_asked && shard.len() <= nodes_of as usize);
                shard.iter().for_each(|node| *loads.get_mut(node).unwrap() += 1);
                *firsts.get_mut(&shard[0]).unwrap() += 1;
            }
            prop_assert!(loads.values().max().unwrap() - loads.values().min().unwrap() <= 1, "{:?}", loads);
            prop_assert!(firsts.values().max().unwrap() - firsts.values().min().unwrap() <= 2, "{:?}", firsts);
        }

        #[test]
        fn replicas_of_a_new_shard_are_in_as_many_zones_as_there_are(
            zones in prop::collection::vec(0..3usize, 1..9), count in 1..20u32, replication in 1..4u32,
        ) {
            let names = ["a", "b", "c"];
            let view = cluster(nodes(zones.len() as u64, |at| names[zones[at as usize - 1]]), &[]);
            let distinct = zones.iter().collect::<BTreeSet<_>>().len();
            for shard in place_shards(&view, count, replication, &BTreeSet::new()) {
                let used = shard.iter().map(|node| zone(&view, *node)).collect::<BTreeSet<_>>().len();
                prop_assert_eq!(used, distinct.min(shard.len()));
            }
        }
    }

    #[test]
    fn nothing_is_placed_where_every_node_drains() {
        let mut view = cluster(nodes(2, |_| ""), &[]);
        view.nodes.values_mut().for_each(|node| node.draining = true);
        assert_eq!(place_shards(&view, 3, 3, &BTreeSet::new()), Vec::<Vec<NodeId>>::new());
    }

    #[test]
    fn a_node_that_does_not_answer_is_left_out_or_at_least_not_the_first() {
        let silent = BTreeSet::from([NodeId(1)]);
        let view = cluster(nodes(4, |_| ""), &[]);
        assert!(place_shards(&view, 8, 3, &silent).iter().all(|nodes| !nodes.contains(&NodeId(1))));
        let view = cluster(nodes(3, |_| ""), &[]);
        let placed = place_shards(&view, 8, 3, &silent);
        assert!(placed.iter().all(|nodes| nodes.len() == 3 && nodes[0] != NodeId(1)), "{placed:?}");
        assert!(placed.iter().any(|nodes| nodes[0] == NodeId(2)) && placed.iter().any(|nodes| nodes[0] == NodeId(3)));
        let nobody = BTreeSet::from([1, 2, 3].map(NodeId));
        assert_eq!(place_shards(&view, 1, 3, &nobody)[0].len(), 3, "they may be back sooner than the topic is used");
    }
}
