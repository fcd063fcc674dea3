//! Shapes of a network that is not whole: which links are cut, one direction each.

use std::collections::BTreeSet;

/// From, to.
pub(super) type Link = (u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A minority, the leader in it, and the others.
    Halves,
    /// Each node hears of a majority, and no two of the same one.
    Ring,
    /// One node reaches all; the others are in two parts that do not reach each other.
    Bridge,
    /// The leader is heard and hears nothing.
    OneWay,
    /// One link in one direction.
    Clog,
}

impl Shape {
    pub(super) const ALL: [Self; 5] = [Self::Halves, Self::Ring, Self::Bridge, Self::OneWay, Self::Clog];

    /// As the history calls the fault.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Halves => "halves",
            Self::Ring => "ring",
            Self::Bridge => "bridge",
            Self::OneWay => "one-way",
            Self::Clog => "clog",
        }
    }

    /// The links to cut among `nodes`, of which `leader` is one.
    pub(super) fn cuts(self, nodes: &[u64], leader: u64, random: &mut fastrand::Rng) -> BTreeSet<Link> {
        let mut others: Vec<u64> = nodes.iter().copied().filter(|node| *node != leader).collect();
        random.shuffle(&mut others);
        let count = nodes.len();
        match self {
            Self::Halves => {
                let (with_leader, rest) = others.split_at(((count.max(1) - 1) / 2).saturating_sub(1));
                between(&[with_leader, &[leader]].concat(), rest)
            }
            Self::Ring => ring(&[&[leader], &others[..]].concat()),
            Self::Bridge => {
                // The leader is on one side, and somebody else between.
                let sides = others.get(1..).unwrap_or_default();
                let (near, far) = sides.split_at(sides.len() / 2);
                between(&[near, &[leader]].concat(), far)
            }
            Self::OneWay => others.iter().map(|other| (*other, leader)).collect(),
            Self::Clog => others
                .first()
                .map(|other| if random.bool() { (*other, leader) } else { (leader, *other) })
                .into_iter()
                .collect(),
        }
    }
}

/// All links between two sides, both ways.
fn between(one: &[u64], other: &[u64]) -> BTreeSet<Link> {
    one.iter().flat_map(|a| other.iter().flat_map(|b| [(*a, *b), (*b, *a)])).collect()
}

/// Each node keeps the links to its neighbours on a ring that make up a majority with it. Of three nodes, that are both: there
/// each hears of one other only.
fn ring(order: &[u64]) -> BTreeSet<Link> {
    let count = order.len();
    if count == 3 {
        return (0..count).map(|at| (order[at], order[(at + 2) % count])).collect();
    }
    let reach = (count / 2).div_ceil(2);
    let is_near = |a: usize, b: usize| {
        let steps = a.abs_diff(b);
        steps.min(count - steps) <= reach
    };
    let links = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    links.filter(|(a, b)| a != b && !is_near(*a, *b)).map(|(a, b)| (order[a], order[b])).collect()
}

/// Nodes that are cut off from all others, in both directions.
pub(super) fn alone(nodes: &[u64], cuts: &BTreeSet<Link>) -> Vec<u64> {
    let others = |node: u64| nodes.iter().copied().filter(move |other| *other != node);
    let is_alone =
        |node: &u64| others(*node).all(|other| cuts.contains(&(*node, other)) && cuts.contains(&(other, *node)));
    nodes.iter().copied().filter(|node| nodes.len() > 1 && is_alone(node)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cuts(shape: Shape, count: u64, leader: u64, seed: u64) -> BTreeSet<Link> {
        let nodes: Vec<u64> = (1..=count).collect();
        shape.cuts(&nodes, leader, &mut fastrand::Rng::with_seed(seed))
    }

    #[test]
    fn of_three_nodes_the_leader_is_cut_off_by_halves() {
        let halves = cuts(Shape::Halves, 3, 2, 7);
        assert_eq!(halves, BTreeSet::from([(2, 1), (1, 2), (2, 3), (3, 2)]));
        assert_eq!(alone(&[1, 2, 3], &halves), [2]);
    }

    #[test]
    fn of_three_nodes_a_bridge_leaves_one_that_reaches_both() {
        let bridge = cuts(Shape::Bridge, 3, 2, 7);
        assert_eq!(bridge.len(), 2);
        assert!(alone(&[1, 2, 3], &bridge).is_empty());
    }

    #[test]
    fn of_three_nodes_a_ring_lets_each_be_heard_by_one() {
        let ring = cuts(Shape::Ring, 3, 1, 7);
        assert!((1..=3).all(|node| ring.iter().filter(|(from, _)| *from == node).count() == 1));
        assert!((1..=3).all(|node| ring.iter().filter(|(_, to)| *to == node).count() == 1));
    }

    /// Nodes that `node` reaches and that reach it, itself among them.
    fn heard(node: u64, count: u64, cuts: &BTreeSet<Link>) -> u64 {
        (1..=count).filter(|other| !cuts.contains(&(node, *other)) && !cuts.contains(&(*other, node))).count() as u64
    }

    proptest! {
        #[test]
        fn shapes_cut_links_between_different_nodes_and_leave_some(count in 3_u64..8, leader in 1_u64..8, seed in any::<u64>()) {
            let leader = 1 + leader % count;
            for shape in Shape::ALL {
                let cuts = cuts(shape, count, leader, seed);
                prop_assert!(!cuts.is_empty(), "{shape:?}");
                prop_assert!(cuts.iter().all(|(from, to)| from != to && (1..=count).contains(from) && (1..=count).contains(to)));
                prop_assert!((cuts.len() as u64) < count * (count - 1), "{shape:?} cuts everything");
            }
        }

        #[test]
        fn halves_leave_a_majority_without_the_leader(count in 3_u64..8, seed in any::<u64>()) {
            let cuts = cuts(Shape::Halves, count, 1, seed);
            prop_assert!(heard(1, count, &cuts) * 2 < count);
            prop_assert!((2..=count).any(|node| heard(node, count, &cuts) * 2 > count));
        }

        #[test]
        fn on_a_ring_of_five_and_more_everybody_hears_a_majority(count in 5_u64..10, seed in any::<u64>()) {
            let cuts = cuts(Shape::Ring, count, 1, seed);
            prop_assert!((1..=count).all(|node| heard(node, count, &cuts) * 2 > count));
        }
    }
}
