//! Members that join, and come back.

use super::{Answer, Flight, Machine, Millis, Present, Stage, Ticket};
use crate::groups::api::{Join, Joined, JoinedMember, Refusal};
use crate::shard::{MAX_MEMBERSHIP_BYTES, Member, Phase};

/// How long a member waits that was never told its id: it may have gone away without a word.
const NEW_MEMBER_WAIT: Millis = 5 * 60_000;
/// What members say of themselves, at most: as much is left for what is assigned to them.
const MAX_BYTES: usize = MAX_MEMBERSHIP_BYTES / 2;

impl Machine {
    pub(super) fn join(&mut self, now: Millis, ticket: Ticket, join: Join, new_id: String) {
        let joined = if !self.accepts(&join.member_id) {
            self.drop_member(&join.member_id, &Refusal::UnknownMember);
            Err(Refusal::GroupFull)
        } else if join.member_id.is_empty() {
            self.join_as_new(now, ticket, join, new_id)
        } else {
            self.join_as_known(now, ticket, join)
        };
        if let Err(refusal) = joined {
            self.answer(ticket, Err(refusal));
        }
        self.after_removal(now);
    }

    /// Whether there is room for a member. While members join, those count who have: so that a group shrinks to its bound.
    fn accepts(&self, member: &str) -> bool {
        let most = self.limits.max_members;
        match self.stage {
            Stage::Empty => true,
            Stage::Preparing => {
                let joining = self.members.values().filter(|present| present.joining.is_some()).count();
                self.members.get(member).is_some_and(|present| present.joining.is_some()) || joining < most
            }
            Stage::Completing | Stage::Stable => self.members.contains_key(member) || self.members.len() < most,
        }
    }

    fn join_as_new(&mut self, now: Millis, ticket: Ticket, join: Join, new_id: String) -> Result<(), Refusal> {
        self.check_protocols(&join)?;
        self.check_bytes("", &join)?;
        if let Some(instance) = &join.instance {
            match self.holder(instance).map(str::to_owned) {
                Some(old_id) => self.replace(now, ticket, join, &old_id, new_id),
                None => self.add(now, ticket, join, new_id),
            }
            return Ok(());
        }
        if !join.needs_member_id {
            self.add(now, ticket, join, new_id);
            return Ok(());
        }
        if self.pending.len() >= self.limits.max_members {
            return Err(Refusal::GroupFull);
        }
        let until = now + millis(join.session_timeout);
        self.pending.insert(new_id.clone(), until);
        self.arm(until);
        Err(Refusal::MemberIdRequired(new_id))
    }

    fn join_as_known(&mut self, now: Millis, ticket: Ticket, join: Join) -> Result<(), Refusal> {
        self.check_protocols(&join)?;
        self.check_bytes(&join.member_id, &join)?;
        if join.instance.is_none() && self.pending.contains_key(&join.member_id) {
            let id = join.member_id.clone();
            self.add(now, ticket, join, id);
            return Ok(());
        }
        self.check_member(&join.member_id, join.instance.as_deref())?;
        let is_leader = self.leader == join.member_id;
        let is_same = self.members.get(&join.member_id).is_some_and(|known| known.member.protocols == join.protocols);
        match self.stage {
            Stage::Empty => return Err(Refusal::UnknownMember),
            Stage::Preparing => self.update(ticket, join),
            // It may not have heard that it had joined.
            Stage::Completing if is_same => {
                let joined = self.joined(&join.member_id, is_leader);
                self.answer(ticket, Ok(Answer::Joined(joined)));
            }
            // A leader that joins wants an assignment anew: topics may have changed.
            Stage::Stable if is_same && !is_leader => {
                let joined = self.joined(&join.member_id, false);
                self.answer(ticket, Ok(Answer::Joined(joined)));
            }
            Stage::Completing | Stage::Stable => {
                self.update(ticket, join);
                self.prepare(now);
            }
        }
        Ok(())
    }

    /// Whether a member knows a way of assignment that all others know.
    fn check_protocols(&self, join: &Join) -> Result<(), Refusal> {
        let is_known_to_all =
            |protocol: &str| self.members.values().all(|present| present.member.metadata(protocol).is_some());
        let fits = match self.stage {
            Stage::Empty => !join.protocol_type.is_empty() && !join.protocols.is_empty(),
            _ => {
                join.protocol_type == self.protocol_type
                    && join.protocols.iter().any(|(protocol, _)| is_known_to_all(protocol))
            }
        };
        fits.then_some(()).ok_or(Refusal::InconsistentProtocol)
    }

    /// Whether there is room for what a member says, in the place of what it said before.
    fn check_bytes(&self, member: &str, join: &Join) -> Result<(), Refusal> {
        let others = self.members.iter().filter(|(id, _)| *id != member);
        let others: usize = others.map(|(id, present)| id.len() + present.member.bytes()).sum();
        let said = member_of(join, Default::default()).bytes();
        (others + said <= MAX_BYTES).then_some(()).ok_or(Refusal::GroupFull)
    }

    fn add(&mut self, now: Millis, ticket: Ticket, join: Join, id: String) {
        if self.generation == 0
            && let Some(round) = &mut self.round
        {
            round.has_new = true;
        }
        if self.members.is_empty() {
            self.protocol_type.clone_from(&join.protocol_type);
        }
        if self.leader.is_empty() {
            self.leader.clone_from(&id);
        }
        self.pending.remove(&id);
        let until = now + NEW_MEMBER_WAIT;
        let member = member_of(&join, Default::default());
        self.members.insert(id, Present { member, joining: Some(ticket), syncing: None, is_new: true, until });
        self.arm(until);
        self.prepare(now);
    }

    /// A known member joins the next generation.
    fn update(&mut self, ticket: Ticket, join: Join) {
        let Some(present) = self.members.get_mut(&join.member_id) else { return };
        let assignment = std::mem::take(&mut present.member.assignment);
        let said_before = std::mem::replace(&mut present.member, member_of(&join, assignment));
        present.member.instance = said_before.instance;
        // The client asks once more, and does not wait for its earlier request.
        let before = present.joining.replace(ticket);
        self.refuse(before, Refusal::RebalanceInProgress);
    }

    /// A static member came back, and has forgotten its id.
    fn replace(&mut self, now: Millis, ticket: Ticket, join: Join, old_id: &str, new_id: String) {
        let leader_before = self.leader.clone();
        let Some(mut present) = self.members.remove(old_id) else { return };
        let (joining, syncing) = (present.joining.replace(ticket), present.syncing.take());
        let knows_skipping = join.knows_skipping;
        present.member = member_of(&join, present.member.assignment);
        present.is_new = false;
        self.members.insert(new_id.clone(), present);
        self.refuse(joining, Refusal::FencedInstance);
        self.refuse(syncing, Refusal::FencedInstance);
        if self.leader == old_id {
            self.leader.clone_from(&new_id);
        }
        self.unsynced.remove(old_id);
        self.touch(now, &new_id);
        match self.stage {
            Stage::Stable if self.chosen_protocol() == self.protocol => {
                self.propose(Phase::Stable, Flight::Replaced { member: new_id, leader_before, knows_skipping });
            }
            // Others may have been told of the one that it was.
            Stage::Stable | Stage::Completing => self.prepare(now),
            Stage::Empty | Stage::Preparing => {}
        }
    }

    /// Answers a static member that goes on as the one that it was. One that does not know of skipping must not take itself
    /// for the leader: what it would assign is not what holds.
    pub(super) fn answer_replaced(&mut self, now: Millis, member: &str, leader_before: String, knows_skipping: bool) {
        let is_leader = knows_skipping && self.leader == member;
        let mut joined = self.joined(member, is_leader);
        joined.skip_assignment = is_leader;
        if !knows_skipping {
            joined.leader = leader_before;
        }
        let ticket = self.members.get_mut(member).and_then(|present| present.joining.take());
        if let Some(ticket) = ticket {
            self.answer(ticket, Ok(Answer::Joined(joined)));
        }
        self.touch(now, member);
    }

    /// The generation as a member hears of it.
    pub(super) fn joined(&self, member: &str, with_members: bool) -> Joined {
        let said = |(id, present): (&String, &Present)| JoinedMember {
            member_id: id.clone(),
            instance: present.member.instance.clone(),
            metadata: present.member.metadata(&self.protocol).cloned().unwrap_or_default(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: member.to_owned(),
            skip_assignment: false,
            members: if with_members { self.members.iter().map(said).collect() } else { Vec::new() },
        }
    }
}

fn member_of(join: &Join, assignment: bytes::Bytes) -> Member {
    let timeout = |timeout| u32::try_from(millis(timeout)).unwrap_or(u32::MAX);
    Member {
        instance: join.instance.clone(),
        client_id: join.client_id.clone(),
        host: join.host.clone(),
        session_timeout_ms: timeout(join.session_timeout),
        rebalance_timeout_ms: timeout(join.rebalance_timeout),
        protocols: join.protocols.clone(),
        assignment,
    }
}

fn millis(timeout: std::time::Duration) -> Millis {
    Millis::try_from(timeout.as_millis()).unwrap_or(Millis::MAX).min(u32::MAX.into())
}
