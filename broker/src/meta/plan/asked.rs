//! A move that an operator asks for, once or again.

use std::collections::BTreeSet;

use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId};

use super::super::view::{ClusterView, Placement, Role};
use super::change::Change;
use super::load::{Loads, taken};

/// A move that an operator asks for: from the node with the most replicas of those that have one of the shard, unless it is
/// said from where.
///
/// # Errors
/// [`Code::UnknownNode`]; [`Code::InvalidRequest`]: no such shard, no replica there, or one is there already;
/// [`Code::Conflict`] while another change of the shard is under way, or the node drains; [`Code::Unavailable`] for a
/// `silent` one, which does not answer now.
pub(crate) fn plan_move(
    view: &ClusterView,
    shard: ShardId,
    to: NodeId,
    from: Option<NodeId>,
    silent: &BTreeSet<NodeId>,
) -> Result<Change, Error> {
    let invalid = |message| Error::new(Code::InvalidRequest, message);
    let placement = view.shards.get(&shard).ok_or_else(|| invalid(format!("there is no shard {shard}")))?;
    for node in from.iter().chain([&to]) {
        let unknown = || Error::new(Code::UnknownNode, format!("there is no node {node} in the cluster"));
        view.nodes.get(node).ok_or_else(unknown)?;
    }
    if !view.is_active(to) {
        return Err(Error::new(Code::Conflict, format!("node {to} is draining: it takes no replicas")));
    }
    if silent.contains(&to) {
        let message = format!("node {to} does not answer: nothing can be copied to it; `cluster status` says why");
        return Err(Error::new(Code::Unavailable, message));
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

/// From where a move comes that is asked for and under way already, if it is: whoever asked for it before may have gone away.
/// A shard changes one by one: the replica that came with it is the newest one, and no other one joins. One that is done
/// cannot be told from one that never was: nobody remembers who had a replica.
pub(crate) fn asked_before(view: &ClusterView, shard: ShardId, to: NodeId, from: Option<NodeId>) -> Option<NodeId> {
    let placement = view.shards.get(&shard)?;
    let (newest, arriving) = placement.replicas.last_key_value()?;
    let others_join = placement.pending().any(|(replica, role)| replica != *newest && role != Role::Leaving);
    if arriving.node != to || !matches!(arriving.role, Role::Joining | Role::Voter) || others_join {
        return None;
    }
    let mut leaving = placement.replicas.values().filter(|view| view.role == Role::Leaving).map(|view| view.node);
    leaving.find(|node| from.is_none_or(|from| from == *node))
}

fn leaving(view: &ClusterView, placement: &Placement, from: Option<NodeId>) -> Option<(ReplicaId, NodeId)> {
    let loads = Loads::of(view);
    let candidates = placement.staying().filter(|(_, node)| from.is_none_or(|from| from == *node));
    candidates.max_by_key(|(_, node)| (loads.replicas(*node), *node))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{begun, cluster, done, nodes};
    use super::*;

    fn nobody() -> BTreeSet<NodeId> {
        BTreeSet::new()
    }

    #[test]
    fn a_move_goes_from_the_fullest_node_and_says_what_it_cannot_do() {
        let mut view = cluster(nodes(4, |_| ""), &[&[1, 2, 3], &[2]]);
        let moved = plan_move(&view, ShardId(1), NodeId(4), None, &nobody()).unwrap();
        assert_eq!((moved.add, moved.remove[0].1), (vec![NodeId(4)], NodeId(2)));
        let moved = plan_move(&view, ShardId(1), NodeId(4), Some(NodeId(3)), &nobody()).unwrap();
        assert_eq!(moved.remove[0].1, NodeId(3));
        let code = |shard, to, from| plan_move(&view, ShardId(shard), NodeId(to), from, &nobody()).unwrap_err().code;
        assert_eq!(code(7, 4, None), Code::InvalidRequest);
        assert_eq!(code(1, 9, None), Code::UnknownNode);
        assert_eq!(code(1, 4, Some(NodeId(9))), Code::UnknownNode);
        assert_eq!(code(1, 3, None), Code::InvalidRequest);
        assert_eq!(code(2, 4, Some(NodeId(1))), Code::InvalidRequest);
        view.nodes.get_mut(&NodeId(4)).unwrap().draining = true;
        assert_eq!(plan_move(&view, ShardId(1), NodeId(4), None, &nobody()).unwrap_err().code, Code::Conflict);
        assert!(view.shards[&ShardId(0)].replicas.values().any(|replica| replica.role == Role::Learner));
    }

    #[test]
    fn a_shard_that_changes_and_a_node_that_does_not_answer_are_refused() {
        let mut view = cluster(nodes(3, |_| ""), &[&[1], &[1]]);
        let mut change = Change::of(ShardId(1), &view.shards[&ShardId(1)], "test");
        change.add.push(NodeId(2));
        begun(&mut view, &change);
        let code = |shard, silent: &[u64]| {
            let silent = silent.iter().copied().map(NodeId).collect();
            plan_move(&view, ShardId(shard), NodeId(3), None, &silent).map_err(|error| error.code).map(drop)
        };
        assert_eq!(code(1, &[]), Err(Code::Conflict));
        assert_eq!(code(2, &[3]), Err(Code::Unavailable));
        assert_eq!(code(2, &[1, 2]), Ok(()), "others may be down");
    }

    #[test]
    fn a_move_that_is_asked_for_again_is_the_same_move() {
        let mut view = cluster(nodes(5, |_| ""), &[&[1, 2, 3]]);
        let (shard, to, from) = (ShardId(1), NodeId(4), NodeId(2));
        let again = |view: &ClusterView, to, from| asked_before(view, shard, NodeId(to), from);
        assert_eq!(again(&view, 4, None), None);
        assert_eq!(again(&view, 3, Some(NodeId(2))), None, "another move, which cannot be");
        let change = plan_move(&view, shard, to, Some(from), &nobody()).unwrap();
        begun(&mut view, &change);
        assert_eq!(again(&view, 4, None), Some(from));
        assert_eq!(again(&view, 4, Some(from)), Some(from));
        assert_eq!(again(&view, 4, Some(NodeId(1))), None, "from elsewhere");
        assert_eq!(again(&view, 5, None), None, "to elsewhere");
        for replica in view.shards.get_mut(&shard).unwrap().replicas.values_mut() {
            replica.role = if replica.role == Role::Joining { Role::Voter } else { replica.role };
        }
        assert_eq!(again(&view, 4, None), Some(from), "the old one has still to go");
        let nothing = Change::of(shard, &view.shards[&shard], "test");
        done(&mut view, &nothing);
        assert_eq!(again(&view, 4, Some(from)), None, "nobody remembers that node 2 had it");
        assert_eq!(again(&view, 4, None), None);
    }

    #[test]
    fn another_move_of_the_shard_is_not_the_one_that_is_asked_for() {
        let mut view = cluster(nodes(5, |_| ""), &[&[1, 2, 3]]);
        let (shard, from) = (ShardId(1), Some(NodeId(2)));
        let change = plan_move(&view, shard, NodeId(4), from, &nobody()).unwrap();
        begun(&mut view, &change);
        for from in [None, from] {
            assert_eq!(asked_before(&view, shard, NodeId(3), from), None, "node 3 has had one before");
            let refused = plan_move(&view, shard, NodeId(3), from, &nobody()).unwrap_err();
            assert_eq!(refused.code, Code::Conflict);
        }
    }

    #[test]
    fn a_move_from_a_node_that_never_had_a_replica_is_not_done() {
        let view = cluster(nodes(5, |_| ""), &[&[1, 2, 3]]);
        let (shard, to, from) = (ShardId(1), NodeId(3), Some(NodeId(5)));
        assert_eq!(asked_before(&view, shard, to, from), None);
        assert_eq!(plan_move(&view, shard, to, from, &nobody()).unwrap_err().code, Code::InvalidRequest);
    }
}
