//! What a replica may answer a linearizable read from, and how fresh what it knows is.

use std::time::Duration;

use openraft::LinearizerOption;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use stratalog_proto::{Code, Error, RaftIndex};
use stratalog_storage::sabotage::{Bug, planted};
use tokio::time::Instant;

use super::group::Group;

impl Group {
    /// An index with everything that was acknowledged before this call: whoever has applied it may serve a linearizable
    /// read. A quorum has confirmed meanwhile that this replica leads.
    ///
    /// # Errors
    /// [`Code::NotLeader`]; [`Code::Timeout`] if no quorum answers in time; [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn read_index(&self, timeout: Duration) -> Result<RaftIndex, Error> {
        if planted(Bug::StaleRead) {
            return self.own_index();
        }
        let late = |why: &dyn std::fmt::Display| {
            let message = format!("no majority of shard {} confirmed that this replica leads: {why}", self.log.shard());
            Error::new(Code::Timeout, message)
        };
        // A majority has to answer what is sent after now.
        let confirmed = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(timeout);
        let asked = tokio::time::timeout(timeout, self.raft.get_read_linearizer(confirmed)).await;
        match asked.map_err(|_| late(&format_args!("it took longer than {timeout:?}")))? {
            Ok(linearizer) => Ok(RaftIndex(linearizer.read_log_id().index())),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(self.not_leader()),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => Err(late(&error)),
            Err(RaftError::Fatal(error)) => Err(self.stopped(&error)),
        }
    }

    /// What this replica has applied, if it believes that it leads. Others may have acknowledged more.
    fn own_index(&self) -> Result<RaftIndex, Error> {
        let believes = self.role.borrow().leader == Some(self.log.replica());
        let applied = self.raft.metrics().borrow_watched().last_applied;
        applied.filter(|_| believes).map(|id| RaftIndex(id.index)).ok_or_else(|| self.not_leader())
    }

    /// How long ago a leader was heard of; `None` before the first time. Not of interest on a leader.
    pub(crate) fn last_heard(&self) -> Option<Duration> {
        self.heard.lock().last().map(|at| at.elapsed())
    }

    /// How long ago nothing was committed that lies above `applied`, by what this replica heard of its leaders; `None` if that
    /// is longer ago than it remembers. Not of interest on a leader.
    pub(crate) fn age_of(&self, applied: RaftIndex) -> Option<Duration> {
        self.heard.lock().age_of(applied.0, Instant::now())
    }

    /// That this replica does not lead, and who does as far as it knows.
    pub(crate) fn not_leader(&self) -> Error {
        let shard = self.log.shard();
        let message = match self.role.borrow().leader.filter(|leader| *leader != self.log.replica()) {
            Some(leader) => format!("this node does not lead shard {shard}; replica {leader} does"),
            None => format!("shard {shard} has no leader that this node knows of; send it again"),
        };
        Error::new(Code::NotLeader, message)
    }
}
