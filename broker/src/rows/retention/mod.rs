//! What leaves: by the retention of a topic, or because somebody says so.
//!
//! - `plan` decides, purely, which segments and records of a topic have to go;
//! - `carry_out` proposes that, or tells what it would do, and what comes back of the disk;
//! - `sweep` does so from time to time for every topic.
//!
//! Rows leave by the segment, records of a `raw` topic by the replay segment: one command each, whatever is in them.

mod carry_out;
mod plan;
mod sweep;
#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use carry_out::Gone;
pub(super) use sweep::retain;

/// The present, in nanoseconds since the epoch, by which everything is too old or not: the clock of this node, which is
/// the lowest that a quorum of one reports.
pub(super) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
