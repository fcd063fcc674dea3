//! How soon a lost leader is noticed, and the rest of what openraft is told at a start.

use std::ops::Range;
use std::time::Duration;

use openraft::{Config, SnapshotPolicy};
use stratalog_proto::{Code, Error, ShardId};
use stratalog_storage::sabotage::{Bug, planted};

/// How often a leader is heard of: every second tick of its node.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(300);
/// So much earlier it is due: a tick that comes a little sooner after the last heartbeat than that one came after its own
/// tick would send none.
const EARLY: Duration = Duration::from_millis(60);

/// How soon a lost leader is noticed.
///
/// A follower that hears nothing waits for the leader's lease, which is the end of `election`, and then for a random time
/// within `election`, and for the next tick of its node. With the defaults it stands for election 1.35 to 1.85 s after it last
/// heard of the leader, so that the gap stays below two seconds.
#[derive(Clone, Debug)]
pub(super) struct Timing {
    /// How often a leader is heard of.
    pub(super) heartbeat: Duration,
    /// How long a follower waits beyond the lease, chosen at random each time.
    pub(super) election: Range<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        let election = Duration::from_millis(500)..Duration::from_millis(850);
        Self { heartbeat: HEARTBEAT, election }
    }
}

impl Timing {
    /// What is the same for every group. Limits on entries are high because entries are few and large: bytes are what is
    /// bounded, by the log's reader and by the batcher.
    ///
    /// # Errors
    /// [`Code::Internal`] for times that contradict each other.
    pub(super) fn config(&self, shard: ShardId) -> Result<Config, Error> {
        let millis = |time: Duration| time.as_millis() as u64;
        let config = Config {
            cluster_name: format!("shard-{shard}"),
            heartbeat_interval: millis(self.heartbeat - EARLY),
            election_timeout_min: millis(self.election.start),
            election_timeout_max: millis(self.election.end),
            max_payload_entries: 4_096,
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_pre_vote: Some(true),
            // A leader that lost entries which its followers hold must not go on in the same term and write others in
            // their place (openraft's default would let it).
            enable_leader_restore: Some(planted(Bug::LeaderRestore)),
            ..Config::default()
        };
        config.validate().map_err(|error| Error::new(Code::Internal, format!("the Raft settings are invalid: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::runtime::BEAT;
    use super::*;

    /// Each of these, changed, loses acknowledged records (see the module's documentation).
    #[test]
    fn l1_settings_that_lose_data_are_off() {
        let config = Timing::default().config(ShardId(1)).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
        assert_ne!(config.allow_log_reversion, Some(true));
    }

    #[test]
    fn a_lost_leader_is_missed_in_less_than_two_seconds() {
        let Timing { heartbeat, election } = Timing::default();
        assert!(election.end * 2 + BEAT <= Duration::from_millis(1_850));
        // A heartbeat may be lost without anybody noticing.
        assert!(heartbeat * 2 < election.end);
        // Every second tick sends one, however late within its beat the one before was sent.
        assert!(BEAT * 2 == heartbeat && heartbeat - EARLY > BEAT && EARLY < BEAT);
    }
}
