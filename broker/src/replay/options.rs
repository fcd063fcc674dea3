//! When the log is rolled.

use std::time::Duration;

/// How much log is kept, and when ranges of it become replay segments. The same for all shards of a node.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// A shard is rolled when so many bytes of its log are not in replay segments yet. Also about the most that one roll
    /// holds in memory.
    pub roll_bytes: u64,
    /// Bytes that the log files of the node may take; above it, the shards with the oldest entries are rolled early.
    pub lane_bytes: u64,
    /// How often it is looked for what is due.
    pub interval: Duration,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { roll_bytes: 64 << 20, lane_bytes: 1 << 30, interval: Duration::from_millis(200) }
    }
}
