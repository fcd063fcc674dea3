//! When a node scrubs.

use std::time::Duration;

/// How fast and how often the segments of a node are read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// Bytes that are read in a second; 0: nothing is scrubbed.
    pub rate_bytes: u64,
    /// From the begin of one pass to the begin of the next, which is later where a pass takes longer; zero: nothing is
    /// scrubbed.
    pub every: Duration,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self { rate_bytes: 10 << 20, every: Duration::from_secs(7 * 24 * 3_600) }
    }
}
