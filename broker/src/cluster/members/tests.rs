use std::collections::BTreeSet;

use proptest::prelude::*;
use stratalog_proto::{NodeId, ReplicaId, ShardId};

use super::step::{Facts, Step};
use crate::meta::{Placement, ReplicaView, Role};
use crate::raft::Members;

/// A group and what the metadata says of it. Replica n is on node n.
#[derive(Clone, Debug)]
struct Model {
    shard: ShardId,
    own: u64,
    placement: Placement,
    next_replica: u64,
    waiting: BTreeSet<ReplicaId>,
    members: Members,
    complete: BTreeSet<ReplicaId>,
    /// `None`: the same.
    whole: Option<BTreeSet<ReplicaId>>,
    healthy: BTreeSet<ReplicaId>,
}

fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
    ids.iter().copied().map(ReplicaId).collect()
}

impl Model {
    fn new(voters: &[u64], learners: &[u64], roles: &[(u64, Role)]) -> Self {
        let view =
            |(replica, role): &(u64, Role)| (ReplicaId(*replica), ReplicaView { node: NodeId(*replica), role: *role });
        Self {
            shard: ShardId(1),
            own: voters[0],
            placement: Placement { replication: 3, replicas: roles.iter().map(view).collect() },
            next_replica: 100,
            waiting: BTreeSet::new(),
            members: Members { voters: ids(voters), learners: ids(learners), changing: false },
            complete: ids(voters),
            whole: None,
            healthy: ids(voters),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            shard: self.shard,
            own: ReplicaId(self.own),
            placement: &self.placement,
            next_replica: self.next_replica,
            waiting: &self.waiting,
            members: &self.members,
            complete: &self.complete,
            whole: self.whole.as_ref().unwrap_or(&self.complete),
            healthy: &self.healthy,
        }
    }

    fn next(&self) -> Option<Step> {
        self.facts().next_step()
    }

    /// Carries a step out, as the group and the metadata do.
    fn take(&mut self, step: Step) {
        match step {
            Step::Add(replica) => assert!(self.members.learners.insert(replica)),
            Step::Promote(replica) => {
                assert!(self.members.learners.remove(&replica) && self.complete.contains(&replica), "L4");
                self.members.voters.insert(replica);
                self.healthy.insert(replica);
            }
            Step::Demote(replica) => {
                self.take(Step::Remove(replica));
                self.members.learners.insert(replica);
            }
            Step::Remove(replica) => {
                assert_ne!(replica.0, self.own, "a leader does not remove itself");
                if self.members.learners.remove(&replica) {
                    return;
                }
                assert!(self.members.voters.remove(&replica));
                self.healthy.remove(&replica);
                let fit = self.healthy.intersection(&self.complete).filter(|id| self.members.voters.contains(id));
                assert!(
                    fit.count() > self.members.voters.len() / 2,
                    "L1: most of those that are left can do without it"
                );
            }
            Step::HandOver(replica) => {
                assert!(self.members.voters.contains(&replica) && self.healthy.contains(&replica));
                assert!(self.complete.contains(&replica), "L1");
                self.own = replica.0;
            }
            Step::Tell(replica, role) => self.told(replica, role),
        }
    }

    fn told(&mut self, replica: ReplicaId, role: Option<Role>) {
        let meta = self.shard.0 == 0;
        let view = self.placement.replicas.get_mut(&replica).expect("a replica that the metadata knows");
        match (view.role, role) {
            (Role::Joining, Some(Role::Voter)) => view.role = Role::Voter,
            (Role::Leaving, None | Some(Role::Learner)) if meta => view.role = Role::Learner,
            (Role::Leaving, None) => drop(self.placement.replicas.remove(&replica)),
            other => panic!("the metadata would refuse {other:?}"),
        }
    }

    /// Steps until there is nothing left; members become complete.
    fn settle(&mut self) {
        for _ in 0..60 {
            self.complete.extend(self.members.learners.union(&self.members.voters).copied());
            match self.next() {
                Some(step) => self.take(step),
                None => return,
            }
        }
        panic!("it does not come to an end: {self:?}");
    }
}

use Role::{Joining, Leaving, Voter};

#[test]
fn a_replica_follows_then_is_complete_then_votes_and_then_the_metadata_knows() {
    let mut model = Model::new(&[1], &[], &[(1, Voter), (2, Joining)]);
    assert!(!model.facts().is_settled());
    assert_eq!(model.next(), Some(Step::Add(ReplicaId(2))));
    model.take(Step::Add(ReplicaId(2)));
    assert_eq!(model.next(), None, "L4: it lacks segments");
    model.complete = ids(&[2]);
    assert_eq!(model.next(), Some(Step::Promote(ReplicaId(2))));
    model.take(Step::Promote(ReplicaId(2)));
    assert_eq!(model.next(), Some(Step::Tell(ReplicaId(2), Some(Voter))));
    model.take(Step::Tell(ReplicaId(2), Some(Voter)));
    assert_eq!(model.next(), None);
    assert!(model.facts().is_settled());
}

#[test]
fn two_that_join_get_their_votes_together() {
    let mut model = Model::new(&[1], &[2, 3], &[(1, Voter), (2, Joining), (3, Joining)]);
    model.complete = ids(&[3]);
    assert_eq!(model.next(), None, "two voters are worse than one");
    model.complete = ids(&[2, 3]);
    assert_eq!(model.next(), Some(Step::Promote(ReplicaId(2))));
}

#[test]
fn one_whose_turn_it_is_not_does_not_follow_and_the_other_waits_for_it() {
    let mut model = Model::new(&[1], &[], &[(1, Voter), (2, Joining), (3, Joining)]);
    model.waiting = ids(&[3]);
    assert_eq!(model.next(), Some(Step::Add(ReplicaId(2))));
    model.take(Step::Add(ReplicaId(2)));
    model.complete = ids(&[2]);
    assert_eq!(model.next(), None, "two voters are worse than one");
    model.waiting.clear();
    assert_eq!(model.next(), Some(Step::Add(ReplicaId(3))));
}

#[test]
fn who_leaves_waits_for_who_joins_and_a_leader_hands_over_before_it_goes() {
    let mut model = Model::new(&[1, 2, 3], &[], &[(1, Leaving), (2, Voter), (3, Voter), (4, Joining)]);
    model.take(Step::Add(ReplicaId(4)));
    assert_eq!(model.next(), None);
    model.complete.insert(ReplicaId(4));
    for expected in [
        Step::Promote(ReplicaId(4)),
        Step::Tell(ReplicaId(4), Some(Voter)),
        Step::HandOver(ReplicaId(2)),
        Step::Remove(ReplicaId(1)),
        Step::Tell(ReplicaId(1), None),
    ] {
        assert_eq!(model.next(), Some(expected));
        model.take(expected);
    }
    assert!(model.facts().is_settled());
}

#[test]
fn l1_a_voter_goes_only_if_most_of_the_others_are_well() {
    let mut model = Model::new(&[1, 2, 3], &[], &[(1, Voter), (2, Voter), (3, Leaving)]);
    model.healthy = ids(&[1, 3]);
    assert_eq!(model.next(), None, "two would be left, and one of them does not answer");
    model.healthy = ids(&[1, 2]);
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(3))), "the one that goes need not answer");
}

#[test]
fn l1_an_incomplete_voter_is_no_reason_to_let_a_complete_one_go() {
    let mut model = Model::new(&[1, 2, 3], &[], &[(1, Voter), (2, Voter), (3, Leaving)]);
    model.complete = ids(&[1, 3]);
    assert_eq!(model.next(), None, "two would be left, and one of them has votes to give and no copy");
    model.complete = ids(&[1, 2]);
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(3))), "the one that goes need not have anything");

    let mut model = Model::new(&[1, 2], &[], &[(1, Leaving), (2, Voter)]);
    model.complete = ids(&[1]);
    assert_eq!(model.next(), None, "it is no heir");
    model.own = 2;
    assert_eq!(model.next(), None, "nor does it send away who it is to copy");
    model.complete = ids(&[1, 2]);
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(1))));
}

#[test]
fn column_segments_keep_nobody_from_going_and_from_leading() {
    let mut model = Model::new(&[1, 2, 3], &[], &[(1, Leaving), (2, Voter), (3, Voter)]);
    (model.complete, model.whole) = (ids(&[1]), Some(ids(&[1, 2, 3])));
    assert_eq!(model.next(), Some(Step::HandOver(ReplicaId(2))));
    model.own = 2;
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(1))));

    let mut model = Model::new(&[1], &[2], &[(1, Voter), (2, Joining)]);
    (model.complete, model.whole) = (ids(&[1]), Some(ids(&[1, 2])));
    assert_eq!(model.next(), None, "who gets a vote has them");
}

#[test]
fn who_was_given_up_goes_while_others_lack_something() {
    let mut model = Model::new(&[1, 2, 3], &[], &[(1, Voter), (2, Voter)]);
    model.complete = ids(&[1]);
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(3))), "nobody can copy what it had");
}

#[test]
fn a_replica_whose_node_was_removed_goes_before_others_have_joined() {
    let model = Model::new(&[1, 2, 3], &[4], &[(1, Voter), (2, Voter), (4, Joining)]);
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(3))));
}

#[test]
fn a_replica_that_the_metadata_here_does_not_know_yet_is_left_alone() {
    let mut model = Model::new(&[1, 7], &[8], &[(1, Voter)]);
    model.next_replica = 7;
    assert_eq!(model.next(), None);
    model.next_replica = 9;
    assert_eq!(model.next(), Some(Step::Remove(ReplicaId(8))), "now it is known to be gone");
}

#[test]
fn a_join_that_is_taken_back_ends_at_once() {
    let mut model = Model::new(&[1, 2, 3], &[4], &[(1, Voter), (2, Voter), (3, Joining), (4, Leaving)]);
    assert_eq!(model.next(), Some(Step::Tell(ReplicaId(3), Some(Voter))), "it never stopped to be one");
    model.settle();
    assert_eq!(model.members.voters, ids(&[1, 2, 3]));
    assert!(model.facts().is_settled());
}

#[test]
fn nothing_is_done_while_the_group_changes_already() {
    let mut model = Model::new(&[1], &[], &[(1, Voter), (2, Joining)]);
    model.members.changing = true;
    assert_eq!(model.next(), None);
    assert!(!model.facts().is_settled());
}

#[test]
fn a_voter_of_the_metadata_that_leaves_goes_on_learning() {
    let mut model = Model::new(&[1, 2], &[3], &[(1, Leaving), (2, Voter), (3, Joining)]);
    model.shard = ShardId(0);
    model.settle();
    assert_eq!(model.members.voters, ids(&[2, 3]));
    assert_eq!(model.members.learners, ids(&[1]));
    assert!(model.facts().is_settled());
}

#[test]
fn a_voter_of_the_metadata_follows_it_while_it_loses_its_vote() {
    let mut model = Model::new(&[1, 2, 3, 4], &[], &[(1, Voter), (2, Voter), (3, Leaving), (4, Voter)]);
    model.shard = ShardId(0);
    assert_eq!(model.next(), Some(Step::Demote(ReplicaId(3))));
    model.take(Step::Demote(ReplicaId(3)));
    assert_eq!(model.next(), Some(Step::Tell(ReplicaId(3), Some(Role::Learner))));
    model.settle();
    assert_eq!((model.members.voters, model.members.learners), (ids(&[1, 2, 4]), ids(&[3])));

    let mut of_a_removed_node = Model::new(&[1, 2, 3], &[], &[(1, Voter), (2, Voter)]);
    of_a_removed_node.shard = ShardId(0);
    assert_eq!(of_a_removed_node.next(), Some(Step::Remove(ReplicaId(3))));
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Joining), Just(Voter), Just(Leaving)]
}

proptest! {
    /// From any state, with any of the steps of a leader lost half way: it ends where the metadata wants it, and never
    /// takes a step that a group must not take (checked as steps are taken).
    #[test]
    fn any_group_comes_to_what_is_wanted(
        first in role(), others in prop::collection::vec((0..3u8, role()), 1..6), meta in any::<bool>(),
        lost in prop::collection::vec(any::<bool>(), 20), whole in prop::collection::btree_set(1..7u64, 0..7),
    ) {
        // The first votes, and the second is to have a vote, so that there is something to lead and to come to.
        let mut roles = [vec![(0, first)], others].concat();
        roles[1].1 = if roles[1].1 == Leaving { Joining } else { roles[1].1 };
        let named: Vec<(u64, Role)> = (1..).zip(roles.iter().map(|(_, role)| *role)).collect();
        let that = |wanted: u8| (1..).zip(&roles).filter(|(_, (is, _))| *is == wanted).map(|(id, _)| id).collect::<Vec<u64>>();
        let (voters, learners) = (that(0), that(1));
        let mut model = Model::new(&voters, &learners, &named);
        model.shard = ShardId(u32::from(!meta));
        model.complete = whole.into_iter().map(ReplicaId).collect();
        for lost in lost {
            model.complete.extend(model.members.learners.iter().copied());
            match model.next() {
                // What the leader meant to say is lost with it; another voter leads.
                Some(Step::Tell(..)) if lost => model.own = model.members.voters.first().unwrap().0,
                Some(step) => model.take(step),
                None => break,
            }
        }
        model.settle();
        prop_assert!(model.facts().is_settled(), "{:?}", model);
        prop_assert!(model.placement.pending().next().is_none());
    }
}
