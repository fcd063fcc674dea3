//! A round: all members join the next generation, and those that do not are left behind.

use std::collections::BTreeMap;

use super::{Answer, Flight, Machine, Millis, Stage};
use crate::groups::api::Refusal;
use crate::shard::Phase;

/// A round that is under way.
#[derive(Clone, Debug)]
pub(super) struct Round {
    deadline: Millis,
    /// The first round after the group was empty is short, and does not end before its deadline: more members are about to
    /// come. While they do it is made longer, by so much at most.
    initial: Option<Millis>,
    /// A member came since the deadline was set.
    pub(super) has_new: bool,
}

impl Round {
    pub(super) fn deadline(&self) -> Millis {
        self.deadline
    }
}

impl Machine {
    /// Begins a round, unless one is under way.
    pub(super) fn prepare(&mut self, now: Millis) {
        if self.stage == Stage::Preparing {
            return;
        }
        if self.stage == Stage::Completing {
            for (id, ticket) in self.take_syncing() {
                self.refuse(Some(ticket), Refusal::RebalanceInProgress);
                self.touch(now, &id);
            }
        }
        self.unsynced.clear();
        self.sync_until = None;
        let timeout = self.rebalance_timeout();
        let round = match self.stage {
            Stage::Empty => {
                let delay = self.limits.initial_delay.min(timeout);
                Round { deadline: now + delay, initial: Some(timeout - delay), has_new: false }
            }
            _ => Round { deadline: now + timeout, initial: None, has_new: false },
        };
        self.arm(round.deadline);
        self.round = Some(round);
        self.stage = Stage::Preparing;
    }

    /// Ends the round if nobody is missing.
    pub(super) fn try_to_complete(&mut self, now: Millis) {
        let may_end = self.flight.is_none() && self.round.as_ref().is_some_and(|round| round.initial.is_none());
        if may_end && self.pending.is_empty() && self.members.values().all(|present| present.joining.is_some()) {
            self.complete(now);
        }
    }

    /// The deadline of the round has come.
    pub(super) fn end_round(&mut self, now: Millis) {
        let delay = self.limits.initial_delay;
        if let Some(round) = &mut self.round
            && round.has_new
            && let Some(left) = round.initial.filter(|left| delay.min(*left) > 0)
        {
            let delay = delay.min(left);
            *round = Round { deadline: now + delay, initial: Some(left - delay), has_new: false };
            return;
        }
        self.complete(now);
    }

    /// Ends the round with those who have joined, and static members.
    fn complete(&mut self, now: Millis) {
        let is_left = |present: &super::Present| present.joining.is_none() && present.member.instance.is_none();
        let left: Vec<String> =
            self.members.iter().filter(|(_, present)| is_left(present)).map(|(id, _)| id.clone()).collect();
        left.iter().for_each(|id| self.drop_member(id, &Refusal::UnknownMember));
        // This round is what comes of that.
        self.has_lost = false;
        if !self.elect() && !self.members.is_empty() {
            // Static members are waited for until their sessions end.
            let deadline = now + self.rebalance_timeout().max(1);
            self.round = Some(Round { deadline, initial: None, has_new: false });
            self.arm(deadline);
            return;
        }
        self.round = None;
        if self.members.is_empty() {
            self.become_empty();
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.chosen_protocol();
        self.stage = Stage::Completing;
        self.members.values_mut().for_each(|present| present.member.assignment.clear());
        self.propose(Phase::Completing, Flight::Round);
    }

    fn become_empty(&mut self) {
        self.stage = Stage::Empty;
        self.protocol.clear();
        self.leader.clear();
        // A group that never had a generation is nothing to remember.
        if self.revision > 0 {
            self.generation = self.generation.saturating_add(1);
            self.propose(Phase::Empty, Flight::Emptied);
        }
    }

    /// Has a member lead that has joined; whether there is one.
    fn elect(&mut self) -> bool {
        if self.members.get(&self.leader).is_some_and(|present| present.joining.is_some()) {
            return true;
        }
        let joined = self.members.iter().find(|(_, present)| present.joining.is_some());
        let Some((id, _)) = joined else { return false };
        self.leader = id.clone();
        true
    }

    /// The round is in the state: its members hear of it.
    pub(super) fn answer_joins(&mut self, now: Millis) {
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, self.leader == id);
            let Some(present) = self.members.get_mut(&id) else { continue };
            present.is_new = false;
            if let Some(ticket) = present.joining.take() {
                self.answer(ticket, Ok(Answer::Joined(joined)));
            }
            self.touch(now, &id);
        }
        self.await_syncs(now);
    }

    /// Every member is to ask for its assignment in time.
    pub(super) fn await_syncs(&mut self, now: Millis) {
        self.unsynced = self.members.keys().cloned().collect();
        let until = now + self.rebalance_timeout();
        self.sync_until = Some(until);
        self.arm(until);
    }

    /// The way of assignment that most members like best, of those that all of them know; the first by name of several.
    pub(super) fn chosen_protocol(&self) -> String {
        let is_known_to_all = |protocol: &str| self.members.values().all(|p| p.member.metadata(protocol).is_some());
        let mut votes = BTreeMap::<&str, usize>::new();
        for present in self.members.values() {
            let mut names = present.member.protocols.iter().map(|(name, _)| name.as_str());
            if let Some(vote) = names.find(|name| is_known_to_all(name)) {
                *votes.entry(vote).or_default() += 1;
            }
        }
        let most = votes.values().max().copied().unwrap_or_default();
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    fn rebalance_timeout(&self) -> Millis {
        self.members.values().map(|present| present.member.rebalance_timeout_ms.into()).max().unwrap_or_default()
    }
}
