//! The state files of a running group, and what openraft moves about in their place.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, RaftIndex, Term};
use stratalog_storage::{LogPoint, StateFiles, StateImage};
use tokio::sync::OwnedMutexGuard;

use super::codec::{decode_stored_membership, encode_stored_membership};
use super::log::GroupLog;
use super::machine::Machine;
use super::sending::Sending;
use super::staged::StagedEntries;
use super::types::{LogId, StoredMembership, TypeConfig, log_id};

pub(super) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// The state files of a group, with what the newest one says.
pub(super) struct Snapshots {
    files: Arc<StateFiles>,
    log: GroupLog,
    newest: Mutex<Option<SnapshotMeta>>,
    /// Two saves must not end in the other order. Held over a write, which `newest` must not be: tasks look at it.
    saving: Mutex<()>,
    sending: Sending,
}

/// What openraft knows as a snapshot: never its bytes, which are read when they are sent.
pub(super) enum SnapshotData {
    /// The newest state file of this replica.
    Kept(Arc<Snapshots>),
    /// One that came whole from a leader.
    Received(Box<Received>),
}

/// A snapshot from a leader: the state, and the entries that it needs, in a file of this replica.
pub(super) struct Received {
    pub(super) image: StateImage,
    pub(super) entries: StagedEntries,
    /// No other snapshot is taken or received while this one is there: who waited for its install may be gone.
    pub(super) changing: OwnedMutexGuard<()>,
}

impl Snapshots {
    /// Reads the newest state file, and restores the machine to it. Blocks.
    ///
    /// # Errors
    /// As [`open`](Self::open), or the machine does not know the state.
    pub(super) fn start(files: Arc<StateFiles>, log: &GroupLog, machine: &dyn Machine) -> Result<Arc<Self>, Error> {
        let (snapshots, image) = Self::open(files, log.clone())?;
        if let Some(image) = image {
            machine.restore(image.at.index, image.state)?;
            machine.advance(image.at.index);
        }
        Ok(Arc::new(snapshots))
    }

    /// Reads the newest state file; returns its state beside. Blocks.
    ///
    /// # Errors
    /// It is damaged, or not the one that the log was recovered with.
    pub(super) fn open(files: Arc<StateFiles>, log: GroupLog) -> Result<(Self, Option<StateImage>), Error> {
        let image = files.newest()?;
        let newest = image.as_ref().map(meta_of).transpose()?;
        let [marker, last] = log.ends().map(|end| end.map(|(_, index)| RaftIndex(index)));
        let reached =
            image.as_ref().is_none_or(|image| marker == Some(image.frontier.index) && last >= Some(image.at.index));
        if !reached {
            let message = format!("the log of shard {} was not recovered with its newest state file", files.shard());
            return Err(Error::new(Code::Internal, message));
        }
        Ok((
            Self { files, log, newest: Mutex::new(newest), saving: Mutex::default(), sending: Sending::default() },
            image,
        ))
    }

    /// Of the newest durable state file.
    pub(super) fn newest(&self) -> Option<SnapshotMeta> {
        self.newest.lock().clone()
    }

    pub(super) fn log(&self) -> &GroupLog {
        &self.log
    }

    pub(super) fn files(&self) -> &Arc<StateFiles> {
        &self.files
    }

    /// Those that are being sent.
    pub(super) fn sending(&self) -> &Sending {
        &self.sending
    }

    /// The newest state file as openraft's snapshot.
    pub(super) fn kept(self: &Arc<Self>, meta: SnapshotMeta) -> SnapshotOf<TypeConfig, SnapshotData> {
        SnapshotOf::<TypeConfig, SnapshotData> { meta, snapshot: SnapshotData::Kept(Arc::clone(self)) }
    }

    /// Saves the state as it was once `at` was applied, when the log is durable up to there: its frontier, and the bytes of
    /// the file. The order matters: a state ahead of its log would make Raft give up the log.
    ///
    /// # Errors
    /// [`Code::Internal`] for a frontier above `at`; [`Code::Unavailable`]: the log is closed; those of [`save`](Self::save).
    pub(super) async fn save_applied(
        self: &Arc<Self>,
        at: LogId,
        frontier: RaftIndex,
        membership: &StoredMembership,
        state: Vec<u8>,
    ) -> Result<(LogPoint, u64), Error> {
        if frontier.0 > at.index {
            let shard = self.log.shard();
            let message = format!("L4: shard {shard} has its frontier at {frontier} and applied {}", at.index);
            return Err(Error::new(Code::Internal, message));
        }
        let frontier = LogPoint { term: self.log.term_of(frontier), index: frontier };
        self.log.durable_through(RaftIndex(at.index)).await?;
        let membership = encode_stored_membership(membership);
        let image = StateImage { at: point(at), frontier, membership, state: state.into() };
        Ok((frontier, self.save(image).await?))
    }

    /// Saves a state up to which the log is durable; the bytes of the file. One that is not newer than the newest is
    /// dropped: 0 bytes.
    ///
    /// # Errors
    /// Those of the disk; the file before it is then still there.
    pub(super) async fn save(self: &Arc<Self>, image: StateImage) -> Result<u64, Error> {
        let this = Arc::clone(self);
        let save = move || {
            let meta = meta_of(&image)?;
            let _saving = this.saving.lock();
            if this.newest().is_some_and(|newest| newest.last_log_id >= meta.last_log_id) {
                return Ok(0);
            }
            let bytes = this.files.save(&image)?;
            this.log.state_saved(image.frontier.index);
            *this.newest.lock() = Some(meta);
            Ok(bytes)
        };
        blocking(save).await?
    }

    /// Reads the newest state file, to send it.
    pub(super) async fn read_newest(self: &Arc<Self>) -> Result<StateImage, Error> {
        let this = Arc::clone(self);
        let none = || Error::new(Code::Internal, "there is no state file to send");
        blocking(move || this.files.newest()).await??.ok_or_else(none)
    }
}

/// What openraft knows of a state file.
pub(super) fn meta_of(image: &StateImage) -> Result<SnapshotMeta, Error> {
    let membership = decode_stored_membership(image.membership.clone());
    let corrupt = |error: io::Error| Error::new(Code::CorruptData, format!("the membership of a state: {error}"));
    Ok(SnapshotMeta {
        last_log_id: Some(log_id(image.at.term.0, image.at.index.0)),
        last_membership: membership.map_err(corrupt)?,
    })
}

pub(super) fn point(id: LogId) -> LogPoint {
    LogPoint { term: Term(id.leader_id.term), index: RaftIndex(id.index) }
}

/// Runs what waits for the disk where it may wait.
pub(super) async fn blocking<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> Result<R, Error> {
    let ended = |error| Error::new(Code::Internal, format!("a task of the disk ended early: {error}"));
    tokio::task::spawn_blocking(f).await.map_err(ended)
}

/// The bytes of a state that arrives in pieces.
pub(super) fn hash(state: &Bytes) -> [u8; 32] {
    *blake3::hash(state).as_bytes()
}
