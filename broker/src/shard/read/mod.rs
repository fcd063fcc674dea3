//! Reading batches back: what fetch, the materializer, `_raw` and `verify` use.
//!
//! A batch lies in the write-ahead log while its entry is above the replay frontier, else in a replay segment. Where it is
//! read is decided under the state lock, as a [`Source`]; the read itself happens outside. A Roll, a Repack or a removal
//! may apply in between and take the source away: then the read fails, the state names another source, and that one is
//! read instead. Only a failure of a source that the state still names is one.

mod applied;
mod log;
mod merge;
mod source;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use applied::{Applied, AppliedBatch, Unreadable, Wanted};
pub(crate) use source::{MAX_MOVES, Source};

use stratalog_proto::Term;

/// The most that one record batch may decompress to.
pub(crate) const MAX_BATCH_CONTENT_BYTES: usize = 256 << 20;

/// A term as record batches say it.
pub(crate) fn leader_epoch(term: Term) -> i32 {
    i32::try_from(term.0).unwrap_or(i32::MAX)
}
