//! What committed entries are applied to.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use stratalog_proto::entry::Entry as Commands;
use stratalog_proto::{Error, RaftIndex, ShardId};

use super::types::{Answers, EntryBytes, LogId, StoredMembership, TypeConfig};
use crate::fatal::halt;
use crate::outcome::Results;

/// A replicated state. Its methods are called by one task, in the order of the log; readers may look at any time.
pub(crate) trait Machine: Send + Sync + 'static {
    /// Applies an entry: a pure function of the state and the arguments (A1).
    ///
    /// # Errors
    /// The entry cannot be applied here at all: the process stops.
    fn apply(&self, index: RaftIndex, entry: &Commands) -> Result<Results, Error>;

    /// Everything up to `index` is applied; called after each entry, those without commands included, and before its
    /// proposer is answered.
    fn advance(&self, index: RaftIndex);
}

/// Applies what openraft commits.
pub(super) struct StateMachine {
    shard: ShardId,
    machine: Arc<dyn Machine>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    /// Nothing is kept durable: at each start the whole log is applied again.
    pub(super) fn new(shard: ShardId, machine: Arc<dyn Machine>) -> Self {
        Self { shard, machine, applied: None, membership: StoredMembership::default() }
    }

    fn apply_commands(&self, index: RaftIndex, bytes: EntryBytes) -> Answers {
        let apply = || Commands::parse(bytes.bytes).and_then(|entry| self.machine.apply(index, &entry));
        match catch_unwind(AssertUnwindSafe(apply)) {
            Ok(Ok(results)) => Answers(results),
            Ok(Err(error)) => halt(&format!("shard {} cannot apply its entry {index}: {error}", self.shard)),
            // The state may be half changed, and openraft would go on without this group's answers.
            Err(_) => halt(&format!("shard {} panicked while it applied entry {index}", self.shard)),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let log_id = entry.log_id();
            let index = RaftIndex(log_id.index);
            let answers = match entry.payload {
                EntryPayload::Normal(bytes) => self.apply_commands(index, bytes),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(log_id), membership);
                    Answers::default()
                }
                EntryPayload::Blank => Answers::default(),
            };
            self.applied = Some(log_id);
            self.machine.advance(index);
            if let Some(responder) = responder {
                responder.send(answers);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<NoSnapshots> {
        None
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMetaOf<TypeConfig>, _snapshot: ()) -> io::Result<()> {
        Err(no_snapshots())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, ()>>> {
        Ok(None)
    }
}

/// The whole log is kept, so there is no snapshot to build. openraft's own policy never asks for one.
pub(super) struct NoSnapshots;

impl RaftSnapshotBuilder<TypeConfig> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, ()>> {
        Err(no_snapshots())
    }
}

fn no_snapshots() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this node keeps its whole log and takes no snapshots")
}
