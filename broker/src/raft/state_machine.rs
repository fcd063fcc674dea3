//! The machine of a group as openraft drives it.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, OptionalSend};
use stratalog_proto::entry::Entry as Commands;
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Term};
use stratalog_storage::StateImage;

use super::machine::{Captured, Machine};
use super::snapshots::{Received, SnapshotData, SnapshotMeta, Snapshots};
use super::types::{Answers, EntryBytes, LogId, StoredMembership, TypeConfig};
use crate::fatal::halt;

/// How long a full disk is left alone.
const FULL_WAIT: Duration = Duration::from_secs(5);

/// Applies what openraft commits.
pub(super) struct StateMachine {
    shard: ShardId,
    machine: Arc<dyn Machine>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<Snapshots>,
}

impl StateMachine {
    /// A machine that was restored to the newest state file, if there is one.
    pub(super) fn new(shard: ShardId, machine: Arc<dyn Machine>, snapshots: Arc<Snapshots>) -> Self {
        let SnapshotMeta { last_log_id, last_membership } = snapshots.newest().unwrap_or_default();
        Self { shard, machine, applied: last_log_id, membership: last_membership, snapshots }
    }

    /// The state as it is, and where; `None` before the first entry.
    pub(super) fn capture(&self) -> Option<(LogId, StoredMembership, Result<Captured, Error>)> {
        Some((self.applied?, self.membership.clone(), self.machine.capture()))
    }

    /// Saves an installed state; waits where there is no room for it, since an error would stop the group, until that is
    /// being stopped.
    async fn save(&self, image: &StateImage) -> io::Result<()> {
        let stopping = self.snapshots.log().stopping();
        loop {
            match self.snapshots.save(image.clone()).await {
                Err(error) if error.code == Code::StorageFull && !stopping.load(Ordering::Acquire) => {
                    tracing::warn!(shard = %self.shard, %error, "a snapshot waits for room to be saved");
                    tokio::time::sleep(FULL_WAIT).await;
                }
                saved => return saved.map(|_| ()).map_err(io::Error::other),
            }
        }
    }

    fn apply_commands(&self, index: RaftIndex, term: Term, bytes: EntryBytes) -> Answers {
        let apply = || Commands::parse(bytes.bytes).and_then(|entry| self.machine.apply(index, term, &entry));
        match catch_unwind(AssertUnwindSafe(apply)) {
            Ok(Ok(results)) => Answers(results),
            Ok(Err(error)) => halt(&format!("shard {} cannot apply its entry {index}: {error}", self.shard)),
            // The state may be half changed, and openraft would go on without this group's answers.
            Err(_) => halt(&format!("shard {} panicked while it applied entry {index}", self.shard)),
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Saved;

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
            if let Some(after) = self.snapshots.log().committed(index) {
                self.machine.committed(after);
            }
            let answers = match entry.payload {
                EntryPayload::Normal(bytes) => self.apply_commands(index, Term(log_id.leader_id.term), bytes),
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

    /// There is something to tell if a state file was saved since the last time; see [`super::Group::snapshot`].
    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Saved> {
        self.snapshots.newest().map(|_| Saved(Arc::clone(&self.snapshots)))
    }

    async fn get_snapshot_builder(&mut self) -> Saved {
        Saved(Arc::clone(&self.snapshots))
    }

    /// Called once the whole snapshot is here, so that nothing can fail but this replica's disk. The order is what makes
    /// a crash at any step harmless: the log reaches the snapshot, then the state file says so, then the state changes,
    /// and with it what may be deleted.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        let SnapshotData::Received(received) = data else {
            return Err(io::Error::other("a snapshot of this replica's own was given to it to install"));
        };
        let Received { image, entries, changing: _until_installed } = *received;
        self.snapshots.log().install(image.frontier, image.at, entries).await?;
        self.save(&image).await?;
        self.machine.restore(image.at.index, image.state).map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.machine.advance(image.at.index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, SnapshotData>>> {
        Ok(self.snapshots.newest().map(|meta| self.snapshots.kept(meta)))
    }
}

/// Tells openraft of the newest state file. Nothing is written here: an error would stop the group.
pub(super) struct Saved(Arc<Snapshots>);

impl RaftSnapshotBuilder<TypeConfig> for Saved {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, SnapshotData>> {
        let meta: SnapshotMetaOf<TypeConfig> = self.0.newest().unwrap_or_default();
        Ok(self.0.kept(meta))
    }
}
