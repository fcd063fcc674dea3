//! What becomes of a group by the passing of time alone.

use super::{Machine, Millis};
use crate::groups::api::Refusal;

impl Machine {
    /// Ends what was to end until now. Once a command is under way, the rest waits for it.
    pub(super) fn expire(&mut self, now: Millis) {
        if self.flight.is_some() {
            return;
        }
        self.pending.retain(|_, until| *until > now);
        let is_gone = |(id, present): (&String, &super::Present)| present.is_gone(now).then(|| id.clone());
        let mut gone: Vec<String> = self.members.iter().filter_map(is_gone).collect();
        if self.sync_until.is_some_and(|until| until <= now) {
            self.sync_until = None;
            gone.extend(std::mem::take(&mut self.unsynced));
        }
        for id in &gone {
            tracing::info!(group = self.group, member = id, "a member of a group was not heard of in time");
            self.drop_member(id, &Refusal::UnknownMember);
        }
        self.after_removal(now);
        let is_over = self.round.as_ref().is_some_and(|round| round.deadline() <= now);
        if is_over && self.flight.is_none() {
            self.end_round(now);
        }
    }

    /// Finds out when something is due next.
    pub(super) fn rearm(&mut self) {
        if self.flight.is_some() {
            self.armed = Millis::MAX;
            return;
        }
        let sessions = self.members.values().filter(|present| present.may_go()).map(|present| present.until);
        let others = self.round.as_ref().map(|round| round.deadline()).into_iter().chain(self.sync_until);
        self.armed = sessions.chain(others).chain(self.pending.values().copied()).min().unwrap_or(Millis::MAX);
    }
}
