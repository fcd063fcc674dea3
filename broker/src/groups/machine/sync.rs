//! The leader assigns, and every member hears what is assigned to it.

use std::collections::HashMap;

use bytes::Bytes;
use stratalog_proto::{Code, Error};

use super::{Answer, Flight, Machine, Millis, Stage, Ticket};
use crate::groups::api::{Refusal, Sync, Synced};
use crate::shard::{MAX_MEMBERSHIP_BYTES, Phase};

impl Machine {
    pub(super) fn sync(&mut self, now: Millis, ticket: Ticket, sync: Sync) {
        match self.try_to_sync(now, ticket, sync) {
            Ok(Some(synced)) => self.answer(ticket, Ok(Answer::Synced(synced))),
            Ok(None) => {}
            Err(refusal) => self.answer(ticket, Err(refusal)),
        }
    }

    /// `None`: the answer comes later.
    fn try_to_sync(&mut self, now: Millis, ticket: Ticket, sync: Sync) -> Result<Option<Synced>, Refusal> {
        self.check_member(&sync.member_id, sync.instance.as_deref())?;
        if sync.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        let differs = |said: &Option<String>, is: &str| said.as_ref().is_some_and(|said| said != is);
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(Refusal::InconsistentProtocol);
        }
        match self.stage {
            Stage::Empty => Err(Refusal::UnknownMember),
            Stage::Preparing => Err(Refusal::RebalanceInProgress),
            Stage::Stable => {
                self.has_synced(&sync.member_id);
                self.touch(now, &sync.member_id);
                Ok(self.synced(&sync.member_id))
            }
            Stage::Completing => {
                let assignments =
                    if self.leader == sync.member_id { Some(self.complete_of(sync.assignments)?) } else { None };
                self.has_synced(&sync.member_id);
                let before = self.members.get_mut(&sync.member_id).and_then(|present| present.syncing.replace(ticket));
                // The client asks once more, and does not wait for its earlier request.
                self.refuse(before, Refusal::RebalanceInProgress);
                if let Some(assignments) = assignments {
                    self.assign(assignments);
                }
                Ok(None)
            }
        }
    }

    /// What is assigned to each member: nothing to those that the leader has forgotten.
    fn complete_of(&self, assignments: Vec<(String, Bytes)>) -> Result<HashMap<String, Bytes>, Refusal> {
        let assignments: HashMap<String, Bytes> =
            assignments.into_iter().filter(|(id, _)| self.members.contains_key(id)).collect();
        let bytes = self.bytes() + assignments.values().map(Bytes::len).sum::<usize>();
        if bytes <= MAX_MEMBERSHIP_BYTES {
            return Ok(assignments);
        }
        let message = format!(
            "what the members of group `{}` say and what is assigned to them takes {bytes} bytes, and may take \
             {MAX_MEMBERSHIP_BYTES}: use several groups",
            self.group
        );
        Err(Refusal::Other(Error::new(Code::MessageTooLarge, message)))
    }

    fn assign(&mut self, mut assignments: HashMap<String, Bytes>) {
        for (id, present) in &mut self.members {
            present.member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.stage = Stage::Stable;
        self.propose(Phase::Stable, Flight::Assigned);
    }

    /// The assignment is in the state: members hear of it.
    pub(super) fn answer_syncs(&mut self, now: Millis) {
        for (id, ticket) in self.take_syncing() {
            if let Some(synced) = self.synced(&id) {
                self.answer(ticket, Ok(Answer::Synced(synced)));
            }
            self.touch(now, &id);
        }
    }

    /// Who waits for an assignment, and does no more.
    pub(super) fn take_syncing(&mut self) -> Vec<(String, Ticket)> {
        let waiting = self.members.iter_mut().filter_map(|(id, present)| Some((id.clone(), present.syncing.take()?)));
        waiting.collect()
    }

    fn has_synced(&mut self, member: &str) {
        self.unsynced.remove(member);
        if self.unsynced.is_empty() {
            self.sync_until = None;
        }
    }

    fn synced(&self, member: &str) -> Option<Synced> {
        let assignment = self.members.get(member)?.member.assignment.clone();
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        Some(Synced { protocol_type, protocol, assignment })
    }
}
