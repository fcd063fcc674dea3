//! Taking snapshots of a running group, and moving Raft's log on.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use stratalog_proto::{Code, Error, RaftIndex};

use super::group::{Group, stopped};
use super::snapshots::blocking;
use super::types::LogId;

/// How long a leader may still be sending what is to be purged.
const PURGE_WAIT: Duration = Duration::from_secs(2);
/// How long openraft may take to hear of a state file.
const NOTICE_WAIT: Duration = Duration::from_secs(60);

/// A durable state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The last entry that is in it.
    pub(crate) at: RaftIndex,
    /// It needs the log above this entry.
    pub(crate) frontier: RaftIndex,
    /// Bytes of the file that was written; 0 if the state had been saved before.
    pub(crate) bytes: u64,
}

impl Group {
    /// Saves the applied state as it is now, durably, once the log is durable up to there. Entries go on being applied
    /// meanwhile. One that is being received is not waited for: it may need the room that whoever calls this is to free.
    ///
    /// # Errors
    /// [`Code::StorageFull`] and other errors of the disk: the state file before is still there, and the group runs on.
    /// [`Code::Unavailable`]: nothing is applied yet, a rolled segment is not here yet (L4), another snapshot is being taken
    /// or received, or the group has stopped.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, Error> {
        let shard = self.log.shard();
        let busy = |_| Error::new(Code::Unavailable, format!("a snapshot of shard {shard} is being taken or received"));
        let _one = self.changing_state.try_lock().map_err(busy)?;
        let captured = self.raft.with_state_machine(|machine| Box::pin(async move { machine.capture() })).await;
        let captured = captured.map_err(|error| stopped(self.log.shard(), &error))?;
        let nothing = || Error::new(Code::Unavailable, format!("shard {} has applied nothing yet", self.log.shard()));
        let (at, membership, captured) = captured.ok_or_else(nothing)?;
        let captured = captured?;
        let state = blocking(captured.encode).await?;
        let (frontier, bytes) = self.snapshots.save_applied(at, captured.frontier, &membership, state).await?;
        self.raft.trigger().snapshot().await.map_err(|error| stopped(self.log.shard(), &error))?;
        let noticed = self.raft.wait(Some(NOTICE_WAIT));
        let noticed = noticed.metrics(|metrics| metrics.snapshot >= Some(at), "take note of a state file").await;
        noticed.map_err(|error| self.late("take note of a state file", &error))?;
        Ok(Snapshot { at: RaftIndex(at.index), frontier: frontier.index, bytes })
    }

    /// Tells Raft that it does not need the entries up to and including `upto`, which a durable state file covers, and
    /// returns when it does not read them any more. Frees nothing: see [`release`](super::GroupLog::release).
    ///
    /// # Errors
    /// [`Code::Timeout`]: they are being sent to another replica; try again. [`Code::Internal`]: no state file covers
    /// them. [`Code::Unavailable`]: the group has stopped.
    pub(crate) async fn purge(&self, upto: RaftIndex) -> Result<(), Error> {
        if self.log.snapshot_frontier() < upto {
            let message = format!("L4: no state file of shard {} covers its log up to {upto}", self.log.shard());
            return Err(Error::new(Code::Internal, message));
        }
        let purged = |last: Option<LogId>| last.is_some_and(|last| last.index >= upto.0);
        if purged(self.raft.data_metrics().borrow_watched().purged) {
            return Ok(());
        }
        self.raft.trigger().purge_log(upto.0).await.map_err(|error| stopped(self.log.shard(), &error))?;
        let moved = self.raft.wait(Some(PURGE_WAIT)).metrics(|metrics| purged(metrics.purged), "purge the log").await;
        moved.map(|_| ()).map_err(|error| self.late("purge its log", &error))
    }

    /// Whether the log, as it is, is needed to bring another replica up.
    pub(crate) fn sends_snapshot(&self) -> bool {
        self.snapshots.sending().needs_log()
    }

    /// Counts as sending a snapshot as long as what this gives is held.
    #[cfg(test)]
    pub(crate) fn begin_to_send(&self) -> impl Sized + use<> {
        let on_its_way = self.snapshots.sending().begin(stratalog_proto::ReplicaId(2));
        on_its_way.reach();
        on_its_way
    }

    fn late(&self, what: &str, error: &dyn std::fmt::Display) -> Error {
        Error::new(Code::Timeout, format!("shard {} did not {what} in time: {error}", self.log.shard()))
    }
}
