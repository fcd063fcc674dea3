//! What commands would do.

use stratalog_proto::entry::Command;
use stratalog_proto::{Error, RaftIndex, Term};

use super::{At, Effects, ShardState};

impl ShardState {
    /// The state that commands would leave behind which depend on nothing but the state: what a dry run of Drop and
    /// DeleteRecords tells is what apply would do, since it is what apply does. Takes a copy of the state that nobody else sees.
    ///
    /// # Errors
    /// The first refusal.
    pub(crate) fn rehearse(mut self, commands: &[Command]) -> Result<Self, Error> {
        // Not the place of an entry that can be.
        let at = At { index: RaftIndex(u64::MAX), term: Term(u64::MAX) };
        let mut effects = Effects::default();
        commands.iter().try_for_each(|command| self.command(at, 0, command.clone(), &mut effects).map(|_| ()))?;
        Ok(self)
    }
}
