//! What committed entries are applied to.

use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::entry::Entry as Commands;
use stratalog_proto::{Error, RaftIndex, Term};

use crate::outcome::Results;

/// A replicated state. Its methods are called by one task, in the order of the log; readers may look at any time.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Applies an entry of a term: a pure function of the state and the arguments (A1).
    ///
    /// # Errors
    /// The entry cannot be applied here at all: the process stops.
    fn apply(&self, index: RaftIndex, term: Term, entry: &Commands) -> Result<Results, Error>;

    /// The entry to be applied next was committed this long after it came into this replica's log.
    fn committed(&self, _after: Duration) {}

    /// Everything up to `index` is applied; called after each entry, those without commands included, and before its
    /// proposer is answered.
    fn advance(&self, index: RaftIndex);

    /// The state as it is now: quick to take, since no entry is applied meanwhile.
    ///
    /// # Errors
    /// [`Unavailable`](stratalog_proto::Code::Unavailable): the log below its frontier is still needed here (L4).
    fn capture(&self) -> Result<Captured, Error>;

    /// Replaces the state by one that was captured here or on another replica, once everything up to `at` was applied.
    /// It is durable already, so files that it does not name may go.
    ///
    /// # Errors
    /// The bytes are not a state that this version knows: the replica does not start, or stops.
    fn restore(&self, at: RaftIndex, state: Bytes) -> Result<(), Error>;
}

/// A state at an index.
pub(crate) struct Captured {
    /// The state needs the log above this entry, and not the log up to it.
    pub(crate) frontier: RaftIndex,
    /// Makes the bytes for [`Machine::restore`]; may take its time, on any thread.
    pub(crate) encode: Box<dyn FnOnce() -> Vec<u8> + Send>,
}
