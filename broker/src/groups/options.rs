//! Settings of groups.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::shard::MAX_MEMBERS;

/// How groups are coordinated.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// How long an empty group waits for more members, once one has joined, before its first generation.
    pub initial_rebalance_delay: Duration,
    /// Session timeouts that members may ask for.
    pub session_timeouts: RangeInclusive<Duration>,
    /// The most members of a group, at most 1,000.
    pub max_members: usize,
    /// For how long the offsets of a group without members are kept.
    pub offsets_retention: Duration,
    /// How often offsets are looked for that are to go.
    pub expire_every: Duration,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_millis(500),
            session_timeouts: Duration::from_secs(6)..=Duration::from_secs(30 * 60),
            max_members: MAX_MEMBERS,
            offsets_retention: Duration::from_secs(7 * 24 * 3_600),
            expire_every: Duration::from_secs(60),
        }
    }
}
