//! How much log there is: what decides when a range of it is rolled, and how long the range is.

use stratalog_proto::RaftIndex;

use super::log::GroupLog;

impl GroupLog {
    /// What the entries above `after`, up to `through`, take in the lane, in bytes. Looks at each of them.
    pub(crate) fn bytes_between(&self, after: RaftIndex, through: RaftIndex) -> u64 {
        self.0.index.read().sizes(after.0, through.0).sum()
    }

    /// The last entry of a range that begins after `after`, ends at or before `through`, and takes at most `max_bytes` in
    /// the lane; of one entry at least, if there is one.
    pub(crate) fn cut(&self, after: RaftIndex, through: RaftIndex, max_bytes: u64) -> RaftIndex {
        let mut bytes = 0u64;
        let within = |entry: &u64| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(*entry);
            first || bytes <= max_bytes
        };
        let entries = self.0.index.read().sizes(after.0, through.0).take_while(within).count();
        RaftIndex(after.0 + entries as u64)
    }

    /// The lane file in which an entry lies, if the log holds it.
    pub(crate) fn file_of(&self, index: RaftIndex) -> Option<u64> {
        self.0.index.read().file_of(index.0)
    }

    /// The frontier of the newest durable state file: a start needs the log above it. 0 if there is none.
    pub(crate) fn snapshot_frontier(&self) -> RaftIndex {
        self.0.kept.lock().frontier.unwrap_or_default()
    }
}
