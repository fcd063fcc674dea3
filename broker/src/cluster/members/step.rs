//! The next step of a group towards the members that the metadata wants. Pure: whoever leads looks at what is, and a step
//! that was cut short, or whose leader was lost, is found again by looking.

use std::collections::BTreeSet;

use stratalog_proto::{ReplicaId, ShardId};

use crate::meta::{Placement, Role};
use crate::raft::Members;

/// What the leader of a group knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) shard: ShardId,
    /// The leader's replica.
    pub(super) own: ReplicaId,
    /// What is wanted.
    pub(super) placement: &'a Placement,
    /// Of the metadata that the placement is from: it knows every replica with a lower id, and no other.
    pub(super) next_replica: u64,
    /// Replicas that join and whose turn it is not yet: their nodes copy others first.
    pub(super) waiting: &'a BTreeSet<ReplicaId>,
    /// What is.
    pub(super) members: &'a Members,
    /// Replicas that lack nothing but the newest entries and what nobody has.
    pub(super) complete: &'a BTreeSet<ReplicaId>,
    /// Those that lack no records, at least.
    pub(super) whole: &'a BTreeSet<ReplicaId>,
    /// Voters that answered a short while ago.
    pub(super) healthy: &'a BTreeSet<ReplicaId>,
}

/// One change, of the group or of what the metadata says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It follows, without a vote.
    Add(ReplicaId),
    /// It gets a vote.
    Promote(ReplicaId),
    /// It follows on, without its vote.
    Demote(ReplicaId),
    /// It belongs to the group no more.
    Remove(ReplicaId),
    /// It is to lead: the leader itself has to go.
    HandOver(ReplicaId),
    /// The metadata is told what it is; `None`: no member.
    Tell(ReplicaId, Option<Role>),
}

impl Facts<'_> {
    /// Whether there is nothing to do, and nothing to wait for.
    pub(super) fn is_settled(&self) -> bool {
        let settled = |role: Role, replica: &ReplicaId| match role {
            Role::Voter => self.members.voters.contains(replica),
            Role::Learner => self.members.learners.contains(replica),
            Role::Joining | Role::Leaving | Role::Founding => false,
        };
        let replicas = &self.placement.replicas;
        let members = self.members.voters.len() + self.members.learners.len();
        !self.members.changing
            && members == replicas.len()
            && replicas.iter().all(|(replica, view)| settled(view.role, replica))
    }

    /// What is to be done next; `None` for nothing, or if there is something to wait for.
    pub(super) fn next_step(&self) -> Option<Step> {
        if self.members.changing {
            return None;
        }
        self.tell().or_else(|| self.add()).or_else(|| self.promote()).or_else(|| self.remove())
    }

    /// What the metadata does not know yet.
    fn tell(&self) -> Option<Step> {
        let unsaid = |(replica, role): (ReplicaId, Role)| {
            let (votes, learns) = (self.votes(replica), self.learns(replica));
            match role {
                Role::Joining if votes => Some(Step::Tell(replica, Some(Role::Voter))),
                Role::Leaving if learns && self.is_meta() => Some(Step::Tell(replica, Some(Role::Learner))),
                Role::Leaving if !votes && !learns => Some(Step::Tell(replica, None)),
                _ => None,
            }
        };
        self.placement.pending().find_map(unsaid)
    }

    /// One that is wanted, has its turn, and does not follow yet.
    fn add(&self) -> Option<Step> {
        let wanted = self.placement.replicas.iter().filter(|(_, view)| view.role != Role::Leaving);
        let missing = wanted.filter(|(replica, _)| !self.votes(**replica) && !self.learns(**replica));
        let mut missing = missing.filter(|(replica, _)| !self.waiting.contains(replica));
        missing.next().map(|(replica, _)| Step::Add(*replica))
    }

    /// One that follows, lacks nothing, and is to have a vote. If that made the number of voters even while another one
    /// joins, it waits for that one: an even number survives no more losses than one less.
    fn promote(&self) -> Option<Step> {
        let joining = self.wanted().filter(|replica| !self.votes(*replica));
        let (ready, waiting): (Vec<ReplicaId>, Vec<ReplicaId>) =
            joining.partition(|replica| self.learns(*replica) && self.complete.contains(replica));
        let makes_even = self.members.voters.len() % 2 == 1;
        let ends_odd = self.wanted().count() % 2 == 1;
        let waits = makes_even && ends_odd && ready.len() == 1 && !waiting.is_empty();
        ready.first().filter(|_| !waits).map(|replica| Step::Promote(*replica))
    }

    /// One that is not wanted: a learner at once; a voter when all that are to have a vote have it, and only if a majority
    /// of those that are left is well and has what the voter may be the only one to have (L1).
    fn remove(&self) -> Option<Step> {
        if let Some(learner) = self.members.learners.iter().find(|replica| self.is_unwanted(**replica)) {
            return Some(Step::Remove(*learner));
        }
        let all_joined = self.wanted().all(|replica| self.votes(replica));
        // One that the metadata names no more went with its node: waiting for others first helps nobody.
        let may_go = |replica: &&ReplicaId| self.is_unwanted(**replica) && (all_joined || self.is_given_up(**replica));
        let mut leaving: Vec<ReplicaId> = self.members.voters.iter().filter(may_go).copied().collect();
        // The leader goes last, so that leadership moves once.
        leaving.sort_by_key(|replica| (*replica == self.own, self.healthy.contains(replica), *replica));
        let replica = *leaving.iter().find(|replica| self.leaves_majority(**replica))?;
        if replica != self.own {
            // Every node of the cluster needs the metadata, also for what its replicas lead.
            let learns_on = self.is_meta() && !self.is_given_up(replica);
            return Some(if learns_on { Step::Demote(replica) } else { Step::Remove(replica) });
        }
        let heirs = self.members.voters.iter().filter(|heir| **heir != self.own && self.is_fit(**heir, self.own));
        heirs.filter(|heir| self.wanted().any(|wanted| wanted == **heir)).map(|heir| Step::HandOver(*heir)).next()
    }

    /// Whether most of the voters that are left without one can do without it, and one of them is to stay.
    fn leaves_majority(&self, without: ReplicaId) -> bool {
        let left: Vec<ReplicaId> = self.members.voters.iter().copied().filter(|replica| *replica != without).collect();
        let fit = left.iter().filter(|replica| self.is_fit(**replica, without)).count();
        fit > left.len() / 2 && left.iter().any(|replica| self.wanted().any(|wanted| wanted == *replica))
    }

    /// Whether a voter is well, and lacks no records that are to be had of one that goes. What was given up goes anyway.
    fn is_fit(&self, voter: ReplicaId, leaving: ReplicaId) -> bool {
        self.is_well(voter) && (self.whole.contains(&voter) || self.is_given_up(leaving))
    }

    /// Whether an operator gave a replica up, with its node: the metadata names it no more.
    fn is_given_up(&self, replica: ReplicaId) -> bool {
        !self.placement.replicas.contains_key(&replica)
    }

    fn is_well(&self, replica: ReplicaId) -> bool {
        replica == self.own || self.healthy.contains(&replica)
    }

    /// Replicas that are to have a vote.
    fn wanted(&self) -> impl Iterator<Item = ReplicaId> {
        self.placement.staying().map(|(replica, _)| replica)
    }

    /// Whether the metadata wants it out. One that it does not know yet is newer than this node's metadata.
    fn is_unwanted(&self, replica: ReplicaId) -> bool {
        match self.placement.replicas.get(&replica) {
            Some(view) => view.role == Role::Leaving,
            None => replica.0 < self.next_replica,
        }
    }

    fn votes(&self, replica: ReplicaId) -> bool {
        self.members.voters.contains(&replica)
    }

    fn learns(&self, replica: ReplicaId) -> bool {
        self.members.learners.contains(&replica)
    }

    fn is_meta(&self) -> bool {
        self.shard == ShardId(0)
    }
}
