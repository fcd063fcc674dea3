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
#[cfg(test)]
pub(in crate::rows) use sweep::Clocks;
pub(super) use sweep::retain;

/// The present by this node's clock, in nanoseconds since the epoch. What is too old is not decided by one clock, but by
/// [`SegmentCopies::clock_ns`](super::copies::SegmentCopies::clock_ns).
pub(crate) fn clock_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
