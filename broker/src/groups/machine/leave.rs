//! Members that leave, or are gone.

use super::{Machine, Millis, Stage};
use crate::groups::api::{Leaving, Refusal};

impl Machine {
    pub(super) fn leave(&mut self, now: Millis, leaving: &[Leaving]) -> Vec<Result<(), Refusal>> {
        let left = leaving.iter().map(|leaving| self.leave_one(leaving)).collect();
        self.after_removal(now);
        left
    }

    fn leave_one(&mut self, leaving: &Leaving) -> Result<(), Refusal> {
        let instance = leaving.instance.as_deref();
        if leaving.member_id.is_empty() {
            let holder = instance.and_then(|instance| self.holder(instance)).map(str::to_owned);
            let holder = holder.ok_or(Refusal::UnknownMember)?;
            self.drop_member(&holder, &Refusal::UnknownMember);
            return Ok(());
        }
        if self.pending.remove(&leaving.member_id).is_some() {
            return Ok(());
        }
        self.check_member(&leaving.member_id, instance)?;
        self.drop_member(&leaving.member_id, &Refusal::UnknownMember);
        Ok(())
    }

    /// Takes a member out; what comes of that is for [`after_removal`](Self::after_removal).
    pub(super) fn drop_member(&mut self, id: &str, why: &Refusal) {
        let Some(gone) = self.members.remove(id) else { return };
        self.unsynced.remove(id);
        self.refuse(gone.joining, why.clone());
        self.refuse(gone.syncing, why.clone());
        if self.leader == id {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        self.has_lost = true;
    }

    /// What comes of members that were taken out, and of ids that nobody joined with: the others join anew, or wait for
    /// fewer.
    pub(super) fn after_removal(&mut self, now: Millis) {
        let has_lost = std::mem::take(&mut self.has_lost);
        if has_lost && matches!(self.stage, Stage::Stable | Stage::Completing) {
            self.prepare(now);
        }
        self.try_to_complete(now);
    }
}
