//! The protocol of one group, as its coordinator runs it: pure, and told what time it is. The semantics are those of Kafka's
//! classic protocol.
//!
//! What members are to rely on is proposed as a command, and until that is applied everything else waits ([`Flight`]): nobody
//! has an answer before, and what is decided next stands on what the shard's state says. If a command fails, the machine is
//! thrown away, and another one begins from that state.

mod expire;
mod join;
mod leave;
mod round;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stratalog_proto::{Code, Error, internal};

use super::api::{Described, DescribedMember, GroupState, Heartbeat, Join, Joined, Leaving, Refusal, Sync, Synced};
use crate::shard::{Member, Membership, Phase};
use round::Round;

/// Milliseconds of a clock that never goes back.
pub(super) type Millis = u64;
/// Names who waits for an answer.
pub(super) type Ticket = u64;

/// Requests that wait for a command, for each member that there may be.
const DEFERRED_OF_EACH: usize = 3;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Join {
        join: Join,
        /// The id of the member, if it needs one.
        new_id: String,
    },
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Vec<Leaving>),
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Joined(Joined),
    Synced(Synced),
    Alive,
    Left(Vec<Result<(), Refusal>>),
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    Answer(Ticket, Result<Answer, Refusal>),
    /// To propose, and to tell [`Machine::applied`] once it is applied.
    Propose(internal::GroupState),
}

/// Settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) initial_delay: Millis,
    pub(super) max_members: usize,
}

/// What goes on in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Empty,
    /// Its members join the next generation.
    Preparing,
    /// The leader assigns.
    Completing,
    Stable,
}

/// A member, and what it waits for.
#[derive(Clone, Debug)]
struct Present {
    member: Member,
    joining: Option<Ticket>,
    syncing: Option<Ticket>,
    /// It has never been told its id, and is heard of only by its request.
    is_new: bool,
    /// Gone if it is not heard of until then.
    until: Millis,
}

impl Present {
    /// Whether it is gone. One that waits for an answer lives, but for a new one, which may have gone away without a word.
    fn is_gone(&self, now: Millis) -> bool {
        self.may_go() && self.until <= now
    }

    fn may_go(&self) -> bool {
        self.is_new || (self.joining.is_none() && self.syncing.is_none())
    }
}

/// What the command is for that is under way.
#[derive(Clone, Debug)]
enum Flight {
    /// Who waits to join, has.
    Round,
    /// Who waits for its assignment, has it.
    Assigned,
    /// The last one has left.
    Emptied,
    /// A static member came back as another one.
    Replaced { member: String, leader_before: String, knows_skipping: bool },
}

/// A group.
pub(super) struct Machine {
    group: String,
    limits: Limits,
    /// Of the state that it stands on.
    revision: u64,
    stage: Stage,
    generation: i32,
    protocol_type: String,
    protocol: String,
    leader: String,
    members: BTreeMap<String, Present>,
    /// Ids that were given out, each until when it may join.
    pending: BTreeMap<String, Millis>,
    round: Option<Round>,
    /// Who has not asked for its assignment in this generation, and until when it may.
    unsynced: BTreeSet<String>,
    sync_until: Option<Millis>,
    /// A member was taken out since the others were told.
    has_lost: bool,
    flight: Option<Flight>,
    deferred: VecDeque<(Ticket, Ask)>,
    /// Nothing is due before.
    armed: Millis,
    effects: Vec<Effect>,
}

impl Machine {
    /// The group as the state says, each member with its whole session timeout before it.
    pub(super) fn load(group: &str, from: &Membership, limits: Limits, now: Millis) -> Self {
        let present = |(id, member): (&String, &Member)| {
            let until = now + Millis::from(member.session_timeout_ms);
            let present = Present { member: member.clone(), joining: None, syncing: None, is_new: false, until };
            (id.clone(), present)
        };
        let members: BTreeMap<_, _> = from.members.iter().map(present).collect();
        let stage = match from.phase {
            Phase::Empty => Stage::Empty,
            Phase::Completing => Stage::Completing,
            Phase::Stable => Stage::Stable,
        };
        let mut machine = Self {
            group: group.to_owned(),
            limits,
            revision: from.revision,
            stage,
            generation: from.generation,
            protocol_type: from.protocol_type.clone(),
            protocol: from.protocol.clone(),
            leader: from.leader.clone(),
            members,
            pending: BTreeMap::new(),
            round: None,
            unsynced: BTreeSet::new(),
            sync_until: None,
            has_lost: false,
            flight: None,
            deferred: VecDeque::new(),
            armed: Millis::MAX,
            effects: Vec::new(),
        };
        if stage == Stage::Completing {
            machine.await_syncs(now);
        }
        machine.rearm();
        machine
    }

    /// A client asks.
    pub(super) fn handle(&mut self, now: Millis, ticket: Ticket, ask: Ask) -> Vec<Effect> {
        if self.flight.is_none() {
            self.process(now, ticket, ask);
        } else if self.deferred.len() < DEFERRED_OF_EACH * self.limits.max_members {
            self.deferred.push_back((ticket, ask));
        } else {
            let message = "too much is asked of a group whose state is being written; ask again later";
            self.answer(ticket, Err(Refusal::Other(Error::new(Code::Overloaded, message))));
        }
        self.tick(now)
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Millis) -> Vec<Effect> {
        if self.armed <= now {
            self.expire(now);
            self.rearm();
        }
        std::mem::take(&mut self.effects)
    }

    /// The command that was proposed last is applied.
    pub(super) fn applied(&mut self, now: Millis) -> Vec<Effect> {
        self.revision += 1;
        match self.flight.take() {
            Some(Flight::Round) => self.answer_joins(now),
            Some(Flight::Assigned) => self.answer_syncs(now),
            Some(Flight::Replaced { member, leader_before, knows_skipping }) => {
                self.answer_replaced(now, &member, leader_before, knows_skipping);
            }
            Some(Flight::Emptied) | None => {}
        }
        while self.flight.is_none()
            && let Some((ticket, ask)) = self.deferred.pop_front()
        {
            self.process(now, ticket, ask);
        }
        self.rearm();
        self.tick(now)
    }

    /// Ends it: everyone who waits is told why.
    pub(super) fn fail(mut self, why: &Refusal) -> Vec<Effect> {
        let waiting = self.members.values_mut().flat_map(|present| [present.joining.take(), present.syncing.take()]);
        let deferred = std::mem::take(&mut self.deferred).into_iter().map(|(ticket, _)| ticket);
        let waiting: Vec<Ticket> = waiting.flatten().chain(deferred).collect();
        waiting.into_iter().for_each(|ticket| self.answer(ticket, Err(why.clone())));
        self.effects
    }

    /// Whether a member may commit, as far as is known here. It was heard of.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_commit(
        &mut self,
        now: Millis,
        generation: i32,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), Refusal> {
        if self.flight.is_some() {
            // The commit comes after what is under way, and is judged then.
            self.touch(now, member);
            return Ok(());
        }
        if generation < 0 && self.stage == Stage::Empty {
            return Ok(());
        }
        self.check_member(member, instance)?;
        if generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        if self.stage == Stage::Completing {
            return Err(Refusal::RebalanceInProgress);
        }
        self.touch(now, member);
        Ok(())
    }

    /// How often the state was changed that this stands on; `None` while it is being changed.
    pub(super) fn revision(&self) -> Option<u64> {
        self.flight.is_none().then_some(self.revision)
    }

    /// Whether a command is under way that is built on this revision.
    pub(super) fn awaits(&self, revision: u64) -> bool {
        self.flight.is_some() && self.revision == revision
    }

    /// When [`tick`](Self::tick) has something to do, or earlier; `None` if nothing is due.
    pub(super) fn wake(&self) -> Option<Millis> {
        (self.armed < Millis::MAX).then_some(self.armed)
    }

    /// Whether there is nothing here that the state does not say.
    pub(super) fn is_idle(&self) -> bool {
        self.has_nobody() && self.flight.is_none() && self.deferred.is_empty()
    }

    /// Whether nobody is in the group, or about to be.
    pub(super) fn has_nobody(&self) -> bool {
        self.stage == Stage::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    /// About what its members take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.members.iter().map(|(id, present)| id.len() + present.member.bytes()).sum()
    }

    /// As those see it who operate the group.
    pub(super) fn describe(&self) -> Described {
        let is_stable = self.stage == Stage::Stable;
        let described = |(id, present): (&String, &Present)| DescribedMember {
            member_id: id.clone(),
            instance: present.member.instance.clone(),
            client_id: present.member.client_id.clone(),
            host: present.member.host.clone(),
            metadata: present.member.metadata(&self.protocol).cloned().unwrap_or_default(),
            assignment: if is_stable { present.member.assignment.clone() } else { Default::default() },
        };
        Described {
            state: self.state(),
            protocol_type: self.protocol_type.clone(),
            protocol: if is_stable { self.protocol.clone() } else { String::new() },
            generation: self.generation,
            members: self.members.iter().map(described).collect(),
        }
    }

    /// What goes on in the group.
    pub(super) fn state(&self) -> GroupState {
        match self.stage {
            Stage::Empty => GroupState::Empty,
            Stage::Preparing => GroupState::PreparingRebalance,
            Stage::Completing => GroupState::CompletingRebalance,
            Stage::Stable => GroupState::Stable,
        }
    }

    /// `consumer`, or another kind of group.
    pub(super) fn protocol_type(&self) -> &str {
        &self.protocol_type
    }

    fn process(&mut self, now: Millis, ticket: Ticket, ask: Ask) {
        match ask {
            Ask::Join { join, new_id } => self.join(now, ticket, join, new_id),
            Ask::Sync(sync) => self.sync(now, ticket, sync),
            Ask::Heartbeat(heartbeat) => {
                let answer = self.heartbeat(now, &heartbeat).map(|()| Answer::Alive);
                self.answer(ticket, answer);
            }
            Ask::Leave(leaving) => {
                let left = self.leave(now, &leaving);
                self.answer(ticket, Ok(Answer::Left(left)));
            }
        }
    }

    fn heartbeat(&mut self, now: Millis, heartbeat: &Heartbeat) -> Result<(), Refusal> {
        self.check_member(&heartbeat.member_id, heartbeat.instance.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        self.touch(now, &heartbeat.member_id);
        match self.stage {
            Stage::Empty => Err(Refusal::UnknownMember),
            Stage::Preparing => Err(Refusal::RebalanceInProgress),
            // Members begin with heartbeats once they have joined, before they have their assignments.
            Stage::Completing | Stage::Stable => Ok(()),
        }
    }

    /// Whether a member is who it says.
    fn check_member(&self, member: &str, instance: Option<&str>) -> Result<(), Refusal> {
        if let Some(instance) = instance {
            let holder = self.holder(instance).ok_or(Refusal::UnknownMember)?;
            if holder != member {
                return Err(Refusal::FencedInstance);
            }
        }
        self.members.contains_key(member).then_some(()).ok_or(Refusal::UnknownMember)
    }

    /// The member that has an instance id.
    fn holder(&self, instance: &str) -> Option<&str> {
        let holder = self.members.iter().find(|(_, present)| present.member.instance.as_deref() == Some(instance));
        holder.map(|(id, _)| id.as_str())
    }

    /// A member was heard of.
    fn touch(&mut self, now: Millis, member: &str) {
        if let Some(present) = self.members.get_mut(member) {
            present.until = now + Millis::from(present.member.session_timeout_ms);
            let until = present.until;
            self.arm(until);
        }
    }

    fn arm(&mut self, at: Millis) {
        self.armed = self.armed.min(at);
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, Refusal>) {
        self.effects.push(Effect::Answer(ticket, answer));
    }

    fn refuse(&mut self, ticket: Option<Ticket>, why: Refusal) {
        if let Some(ticket) = ticket {
            self.answer(ticket, Err(why));
        }
    }

    /// Proposes the group as it is here now. Everything else waits.
    fn propose(&mut self, phase: Phase, flight: Flight) {
        let members = self.members.iter().map(|(id, present)| (id.clone(), present.member.clone())).collect();
        let membership = Membership {
            revision: self.revision,
            generation: self.generation,
            phase,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members,
        };
        self.effects.push(Effect::Propose(membership.to_proto(&self.group)));
        self.flight = Some(flight);
        self.armed = Millis::MAX;
    }
}
