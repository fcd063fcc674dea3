//! A running Raft group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::{EmptyNode, ProgressResponder};
use openraft::raft::ClientWriteResult;
use openraft::{Config, RaftMetrics, ServerState, SnapshotPolicy};
use stratalog_proto::{Code, Error, RaftIndex, ShardId};
use stratalog_storage::StateFiles;
use stratalog_storage::sabotage::{Bug, planted};
use tokio::sync::oneshot;

use super::log::GroupLog;
use super::machine::Machine;
use super::network::Network;
use super::peers::Peers;
use super::promise::Promise;
use super::snapshots::{Snapshots, blocking};
use super::state_machine::StateMachine;
use super::types::{EntryBytes, TypeConfig};
use crate::outcome::Results;

pub(super) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// One group of this node.
pub(crate) struct Group {
    pub(super) raft: Raft,
    pub(super) log: GroupLog,
    pub(super) snapshots: Arc<Snapshots>,
    /// One snapshot at a time, taken here or received. What is received holds it until Raft has done with it.
    pub(super) changing_state: Arc<tokio::sync::Mutex<()>>,
}

/// An entry that was proposed.
pub(crate) struct Submitted {
    shard: ShardId,
    answer: oneshot::Receiver<ClientWriteResult<TypeConfig>>,
}

impl Group {
    /// Starts the group over its recovered log, with the machine as the newest of its state files has it. Nothing above
    /// that is applied until a majority, or this replica [alone](Self::lead), has elected a leader.
    ///
    /// # Errors
    /// The state file or the log cannot be read, or the machine does not know the state.
    pub(crate) async fn start(
        log: GroupLog,
        machine: Arc<dyn Machine>,
        states: Arc<StateFiles>,
        peers: Arc<dyn Peers>,
    ) -> Result<Self, Error> {
        let config = config(log.shard())?;
        let (opened, restored) = (log.clone(), Arc::clone(&machine));
        let snapshots = blocking(move || Snapshots::start(states, &opened, &*restored)).await??;
        let state_machine = StateMachine::new(log.shard(), machine, Arc::clone(&snapshots));
        let network = Network { peers, shard: log.shard(), replica: log.replica() };
        log.set_starting(true);
        let raft = Raft::new(log.replica().0, Arc::new(config), network, log.clone(), state_machine).await;
        log.set_starting(false);
        let raft = raft.map_err(|error| stopped(log.shard(), &error))?;
        Ok(Self { raft, log, snapshots, changing_state: Arc::default() })
    }

    /// Makes this replica, the only voter, the leader at once, and waits until all of its log is applied. The blank entry
    /// of the new term commits what earlier terms left behind.
    ///
    /// # Errors
    /// [`Code::Timeout`] if that takes longer than `timeout`; [`Code::CorruptData`] if its log is gone.
    pub(crate) async fn lead(&self, timeout: Duration) -> Result<(), Error> {
        let replica = self.log.replica().0;
        let initialized = self.raft.is_initialized().await.map_err(|error| stopped(self.log.shard(), &error))?;
        if initialized && self.log.last_index().is_none() {
            let message = format!(
                "L5: replica {replica} of shard {} has voted, and neither a log nor a state file is there: files of the \
                 log are lost. Nothing was changed; restore them from a copy",
                self.log.shard()
            );
            return Err(Error::new(Code::CorruptData, message));
        }
        if initialized {
            self.raft.trigger().elect(false).await.map_err(|error| stopped(self.log.shard(), &error))?;
        } else {
            let voters = BTreeMap::from([(replica, EmptyNode {})]);
            self.raft.initialize(voters).await.map_err(|error| stopped(self.log.shard(), &error))?;
        }
        let led_or_failed = |metrics: &RaftMetrics<TypeConfig>| {
            let applied_term = metrics.last_applied.map(|id| id.leader_id.term);
            metrics.running_state.is_err()
                || metrics.state == ServerState::Leader && applied_term == Some(metrics.current_term)
        };
        let metrics = self.raft.wait(Some(timeout)).metrics(led_or_failed, "lead and apply the log").await;
        let metrics = metrics.map_err(|error| {
            let (shard, last) = (self.log.shard(), self.log.last_index().unwrap_or(0));
            let message = format!("shard {shard} did not apply its log (up to entry {last}) in {timeout:?}: {error}");
            Error::new(Code::Timeout, message)
        })?;
        metrics.running_state.map_err(|error| {
            let message = format!("shard {} cannot apply its log: {error}", self.log.shard());
            Error::new(Code::CorruptData, message)
        })
    }

    /// Proposes an entry, which keeps what its commands were promised once it is in the log. Entries are appended in the
    /// order of these calls.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the group has stopped; the entry was not proposed.
    pub(crate) async fn submit(&self, entry: Bytes, promises: Vec<Promise>) -> Result<Submitted, Error> {
        let (responder, answer) = ProgressResponder::complete_only();
        let entry = EntryBytes { bytes: entry, promises: promises.into() };
        let sent = self.raft.client_write_ff(entry, Some(responder)).await;
        sent.map_err(|error| stopped(self.log.shard(), &error))?;
        Ok(Submitted { shard: self.log.shard(), answer })
    }

    /// Whether this replica leads, and runs.
    pub(crate) fn is_leader(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.running_state.is_ok() && metrics.state == ServerState::Leader
    }

    /// The group's log.
    pub(crate) fn log(&self) -> &GroupLog {
        &self.log
    }

    /// Stops the group; what is proposed and not yet applied stays without an answer.
    pub(crate) async fn stop(&self) {
        self.log.set_stopping();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(shard = %self.log.shard(), %error, "a Raft group did not stop cleanly");
        }
    }
}

impl Submitted {
    /// Waits until the entry is applied here.
    ///
    /// # Errors
    /// [`Code::NotLeader`]: it was not appended. [`Code::Timeout`]: it may or may not be applied, now or later.
    pub(crate) async fn outcome(self) -> Result<(RaftIndex, Results), Error> {
        match self.answer.await {
            Ok(Ok(response)) => Ok((RaftIndex(response.log_id.index), response.data.0)),
            Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                let message = format!("this node does not lead shard {}: {forward}", self.shard);
                Err(Error::new(Code::NotLeader, message))
            }
            Ok(Err(error)) => Err(unknown(self.shard, &error.to_string())),
            Err(_) => Err(unknown(self.shard, "the group stopped")),
        }
    }
}

/// What is the same for every group. Limits on entries are high because entries are few and large: bytes are what is
/// bounded, by the log's reader and by the batcher.
fn config(shard: ShardId) -> Result<Config, Error> {
    let config = Config {
        cluster_name: format!("shard-{shard}"),
        heartbeat_interval: 500,
        election_timeout_min: 1_500,
        election_timeout_max: 3_000,
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

pub(super) fn stopped(shard: ShardId, error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Unavailable, format!("the Raft group of shard {shard} has stopped: {error}"))
}

fn unknown(shard: ShardId, why: &str) -> Error {
    let message = format!("an entry of shard {shard} has no answer, and may or may not take effect: {why}");
    Error::new(Code::Timeout, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these, changed, loses acknowledged records (see the module's documentation).
    #[test]
    fn l1_settings_that_lose_data_are_off() {
        let config = config(ShardId(1)).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
        assert_ne!(config.allow_log_reversion, Some(true));
    }
}
