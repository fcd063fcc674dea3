//! Which leader goes elsewhere next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stratalog_proto::{NodeId, ReplicaId, ShardId};

use super::super::view::{ClusterView, Role};

/// Leadership of a shard that is to go from one node to another's replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    pub(crate) shard: ShardId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) replica: ReplicaId,
}

/// The next handover, if one is needed: away from nodes that drain and replicas that leave, else from a node that leads at
/// least two shards more than another one could. Only to voters that are `ready`, and one at a time: who carries it out
/// looks again afterwards.
pub(crate) fn plan_leaders(
    view: &ClusterView,
    leaders: &BTreeMap<ShardId, NodeId>,
    ready: impl Fn(ShardId, NodeId) -> bool,
) -> Option<Handover> {
    let voters = |shard: ShardId, from: NodeId| {
        let placement = view.shards.get(&shard);
        let voters = placement.into_iter().flat_map(|placement| &placement.replicas);
        let voters = voters.filter(|(_, replica)| replica.role == Role::Voter && replica.node != from);
        let usable = voters.filter(|(_, replica)| view.is_active(replica.node) && ready(shard, replica.node));
        usable.map(|(replica, view)| (view.node, *replica)).collect::<Vec<_>>()
    };
    let led = led(view, leaders);
    let count = |node: NodeId| led.get(&node).map_or(0, BTreeSet::len);
    let unwanted = leaders.iter().filter(|(shard, node)| !may_lead(view, **shard, **node));
    let escape = unwanted.filter_map(|(shard, from)| {
        let (to, replica) = voters(*shard, *from).into_iter().min_by_key(|(node, _)| (count(*node), *node))?;
        Some(Handover { shard: *shard, from: *from, to, replica })
    });
    escape.min_by_key(|handover| handover.shard).or_else(|| {
        let ways = led.keys().filter_map(|from| way(*from, &led, &voters));
        ways.min_by_key(|(steps, _)| *steps).map(|(_, last)| last)
    })
}

fn may_lead(view: &ClusterView, shard: ShardId, node: NodeId) -> bool {
    let placement = view.shards.get(&shard);
    let replica = placement.and_then(|placement| placement.replicas.values().find(|replica| replica.node == node));
    view.is_active(node) && replica.is_some_and(|replica| replica.role == Role::Voter)
}

/// The shards that each active node leads. The metadata group is none of them: its leader has hardly anything to do.
fn led(view: &ClusterView, leaders: &BTreeMap<ShardId, NodeId>) -> BTreeMap<NodeId, BTreeSet<ShardId>> {
    let active = view.nodes.keys().filter(|node| view.is_active(**node));
    let mut led: BTreeMap<NodeId, BTreeSet<ShardId>> = active.map(|node| (*node, BTreeSet::new())).collect();
    for (shard, node) in leaders.iter().filter(|(shard, _)| shard.0 != 0) {
        led.entry(*node).or_default().insert(*shard);
    }
    led
}

/// The shortest way from a node to one that leads at least two less, each step a shard that the one leads and the next
/// could: how many steps, and the last one.
///
/// Taking the last step of a shortest way never makes it less even, and leaves a shorter way or none: so it comes to an end.
fn way(
    from: NodeId,
    led: &BTreeMap<NodeId, BTreeSet<ShardId>>,
    voters: &impl Fn(ShardId, NodeId) -> Vec<(NodeId, ReplicaId)>,
) -> Option<(usize, Handover)> {
    let count = |node: NodeId| led.get(&node).map_or(0, BTreeSet::len);
    let mut seen = BTreeSet::from([from]);
    let mut ways = VecDeque::from([(from, 1)]);
    while let Some((node, steps)) = ways.pop_front() {
        for shard in led.get(&node).into_iter().flatten() {
            for (to, replica) in voters(*shard, node) {
                if count(to) + 2 <= count(from) {
                    return Some((steps, Handover { shard: *shard, from: node, to, replica }));
                }
                if seen.insert(to) {
                    ways.push_back((to, steps + 1));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{cluster, nodes};
    use super::*;

    fn leaders(pairs: &[(u32, u64)]) -> BTreeMap<ShardId, NodeId> {
        pairs.iter().map(|(shard, node)| (ShardId(*shard), NodeId(*node))).collect()
    }

    proptest! {
        /// One step at a time it comes to an end, at which no node leads two more than one that could lead them.
        #[test]
        fn leaders_spread_and_come_to_rest(
            count in 1..6u64, shards in prop::collection::vec((prop::collection::btree_set(1..6u64, 1..4), 0..3usize), 1..16),
        ) {
            let placed: Vec<Vec<u64>> = shards.iter().map(|(nodes, _)| {
                let within: BTreeSet<u64> = nodes.iter().map(|node| (node - 1) % count + 1).collect();
                within.into_iter().collect()
            }).collect();
            let refs: Vec<&[u64]> = placed.iter().map(Vec::as_slice).collect();
            let view = cluster(nodes(count, |_| ""), &refs);
            let mut leaders: BTreeMap<ShardId, NodeId> = (1..).map(ShardId).zip(placed.iter().zip(&shards))
                .map(|(shard, (nodes, (_, at)))| (shard, NodeId(nodes[at % nodes.len()]))).collect();
            let mut steps = 0;
            while let Some(handover) = plan_leaders(&view, &leaders, |_, _| true) {
                steps += 1;
                prop_assert!(steps < 200, "it does not come to rest: {:?}", leaders);
                prop_assert_eq!(leaders.insert(handover.shard, handover.to), Some(handover.from));
                prop_assert!(placed[handover.shard.0 as usize - 1].contains(&handover.to.0));
            }
            let led = led(&view, &leaders);
            for (shard, node) in &leaders {
                for other in &placed[shard.0 as usize - 1] {
                    prop_assert!(led[node].len() < led[&NodeId(*other)].len() + 2);
                }
            }
        }
    }

    #[test]
    fn three_nodes_share_the_leaders_evenly() {
        let view = cluster(nodes(3, |_| ""), &[[1, 2, 3].as_slice(); 7]);
        let mut now = leaders(&[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]);
        while let Some(handover) = plan_leaders(&view, &now, |_, _| true) {
            now.insert(handover.shard, handover.to);
        }
        let counts: Vec<usize> = led(&view, &now).values().map(BTreeSet::len).collect();
        assert_eq!(counts.iter().max().unwrap() - counts.iter().min().unwrap(), 1, "{counts:?}");
    }

    #[test]
    fn a_leader_leaves_a_node_that_drains_and_never_goes_to_one_that_is_behind() {
        let mut view = cluster(nodes(3, |_| ""), &[&[1, 2, 3]]);
        let now = leaders(&[(0, 1), (1, 1)]);
        assert_eq!(plan_leaders(&view, &now, |_, _| true), None);
        view.nodes.get_mut(&NodeId(1)).unwrap().draining = true;
        let handover = plan_leaders(&view, &now, |_, node| node == NodeId(3)).unwrap();
        assert_eq!((handover.shard, handover.from, handover.to), (ShardId(1), NodeId(1), NodeId(3)));
        assert_eq!(plan_leaders(&view, &now, |_, _| false), None);
    }

    #[test]
    fn leadership_of_the_metadata_moves_only_off_a_node_that_drains() {
        let mut view = cluster(nodes(2, |_| ""), &[]);
        let meta = view.shards.get_mut(&ShardId(0)).unwrap();
        meta.replicas.values_mut().for_each(|replica| replica.role = Role::Voter);
        let now = leaders(&[(0, 1)]);
        assert_eq!(plan_leaders(&view, &now, |_, _| true), None);
        view.nodes.get_mut(&NodeId(1)).unwrap().draining = true;
        assert_eq!(plan_leaders(&view, &now, |_, _| true).unwrap().to, NodeId(2));
    }
}
