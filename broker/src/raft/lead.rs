//! The first replica of a group, and the one that is alone in it.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::impls::EmptyNode;
use openraft::{RaftMetrics, ServerState};
use stratalog_proto::{Code, Error};

use super::group::{Group, show_members, stopped};
use super::types::TypeConfig;

/// Milliseconds before a new leader says what it has committed, and says it again.
const TELL_AGAIN_MS: [u64; 4] = [0, 20, 40, 80];

impl Group {
    /// Begins a new group, with this replica as its only voter; does nothing if it has begun already.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if its log is gone; [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn form(&self) -> Result<(), Error> {
        // It began before, and what is lost of its log comes from a leader.
        if self.log.is_lost() {
            return Ok(());
        }
        let initialized = self.raft.is_initialized().await.map_err(|error| self.stopped(&error))?;
        if initialized {
            return self.check_log();
        }
        let voters = BTreeMap::from([(self.log.replica().0, EmptyNode {})]);
        self.raft.initialize(voters).await.map_err(|error| self.stopped(&error))?;
        show_members(&self.raft).await.map_err(|error| self.stopped(&error))
    }

    /// Makes this replica, if it is the only voter, the leader at once, and waits until all of its log is applied. The
    /// blank entry of the new term commits what earlier terms left behind. Returns at once where others vote, too. From then
    /// on the group serves.
    ///
    /// # Errors
    /// [`Code::Timeout`] if that takes longer than `timeout`; [`Code::CorruptData`] if its log is gone.
    pub(crate) async fn lead(&self, timeout: Duration) -> Result<(), Error> {
        if self.is_alone() && !self.log.is_lost() {
            self.lead_alone(timeout).await?;
        }
        self.serves.send_replace(true);
        Ok(())
    }

    async fn lead_alone(&self, timeout: Duration) -> Result<(), Error> {
        self.check_log()?;
        self.raft.trigger().elect(false).await.map_err(|error| self.stopped(&error))?;
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
        })?;
        // Whoever asks next is to see what was waited for.
        let mut role = self.watch_role();
        role.wait_for(|role| role.leads).await.map(|_| ()).map_err(|error| self.stopped(&error))
    }

    /// Has the other replicas hear at once what a new leader has committed, and not only with the next heartbeat. The leader
    /// of before waits for that: it answers what was proposed to it once it knows that it is committed. Said again: one that
    /// has not acknowledged the first entry of the new term yet believes it only up to what it is known to have.
    pub(crate) async fn tell_committed(&self) {
        for pause in TELL_AGAIN_MS.into_iter().filter(|_| !self.is_alone()) {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if let Err(error) = self.raft.trigger().heartbeat().await {
                tracing::debug!(shard = %self.log.shard(), %error, "the others hear what is committed with the next heartbeat");
            }
        }
    }

    /// Whether this replica is the only one that votes.
    pub(crate) fn is_alone(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.voter_ids().eq([self.log.replica().0])
    }

    /// Whether this replica knows of another one that leads, or did a moment ago.
    pub(crate) fn is_led_elsewhere(&self) -> bool {
        self.role.borrow().is_led_by_another(self.log.replica())
    }

    /// A replica that has voted has a log, or a state file in its place.
    fn check_log(&self) -> Result<(), Error> {
        if self.log.vote().is_none() || self.log.last_index().is_some() {
            return Ok(());
        }
        let message = format!(
            "L5: replica {} of shard {} has voted, and neither a log nor a state file is there: files of the log are \
             lost. Nothing was changed; restore them from a copy",
            self.log.replica(),
            self.log.shard()
        );
        Err(Error::new(Code::CorruptData, message))
    }

    pub(super) fn stopped(&self, error: &dyn std::fmt::Display) -> Error {
        stopped(self.log.shard(), error)
    }
}
