//! State files: what a group's log amounts to at an index, so that a start does not need the log up to there. Bytes on
//! disk: `docs/FORMATS.md`, "State file".
//!
//! L5: the newest file of a group is the only ground for what its log no longer holds. It is read whole or not at all, and
//! an older one never stands in for it: the log between the two may be gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Term};

use crate::io::is_full;
use crate::{Io, OpenMode, write_durably};

/// `SLG-STAT`: the first bytes of a state file.
const MAGIC: [u8; 8] = *b"SLG-STAT";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const HASH_BYTES: usize = blake3::OUT_LEN;
const MAX_MEMBERSHIP_BYTES: usize = StateImage::MAX_MEMBERSHIP_BYTES;
/// What the name of a file that was set aside has behind its own.
const ASIDE: &str = "aside";
const MAX_STATE_BYTES: u64 = StateImage::MAX_STATE_BYTES;

/// An entry of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPoint {
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: RaftIndex,
}

/// The state of a group once everything up to `at` is applied.
#[derive(Clone, PartialEq, Eq)]
pub struct StateImage {
    /// The last entry that is in it.
    pub at: LogPoint,
    /// The log above this entry, up to `at`, is needed beside the state; the log up to it is not. At most `at`.
    pub frontier: LogPoint,
    /// The group's membership as of `at`; opaque here, at most 1 MiB.
    pub membership: Bytes,
    /// The state; opaque here, at most 1 GiB.
    pub state: Bytes,
}

impl StateImage {
    /// The most bytes of a membership.
    pub const MAX_MEMBERSHIP_BYTES: usize = 1 << 20;
    /// The most bytes of a state: it is held in memory.
    pub const MAX_STATE_BYTES: u64 = 1 << 30;
}

/// Why a state file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// An error of the disk; its text names the file and what was tried.
    #[error("state file: {0}")]
    Io(#[from] io::Error),
    /// Bytes that fail the checksum or contradict themselves (L5).
    #[error("the state file {} is damaged: {what}. Nothing was changed; restore the file from a copy", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file of a version that this one does not know.
    #[error("{} has format version {version}, this version knows 1: it was written by a newer one", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A state that no file can hold.
    #[error("the state of shard {shard} has {bytes} bytes, a state file holds at most {max_bytes}")]
    TooLarge {
        /// The group.
        shard: ShardId,
        /// Its bytes.
        bytes: u64,
        /// The most there can be.
        max_bytes: u64,
    },
}

/// The state files of one group, in a directory of their own.
///
/// ```
/// use std::sync::Arc;
///
/// use stratalog_proto::{RaftIndex, ShardId, Term};
/// use stratalog_storage::{LogPoint, RealDisk, StateFiles, StateImage};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let files = StateFiles::open(Arc::new(RealDisk), dir.path(), ShardId(7))?;
/// assert!(files.newest()?.is_none());
/// let at = LogPoint { term: Term(2), index: RaftIndex(9) };
/// files.save(&StateImage { at, frontier: at, membership: "members".into(), state: "state".into() })?;
/// assert_eq!(files.newest()?.unwrap().state, "state");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StateFiles {
    io: Arc<dyn Io>,
    dir: PathBuf,
    shard: ShardId,
    /// One writer at a time.
    writing: Mutex<()>,
}

impl StateFiles {
    /// Opens the directory, creating it if it is not there, and removes what a crash left half written. What can be read
    /// afterwards is durable, even if a save was cut short before it could know.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open(io: Arc<dyn Io>, dir: &Path, shard: ShardId) -> Result<Self, StateError> {
        io.create_dir_all(dir)?;
        for name in io.list(dir)?.iter().filter(|name| name.ends_with(".tmp")) {
            io.remove(&dir.join(name))?;
        }
        io.sync_dir(dir)?;
        Ok(Self { io, dir: dir.to_owned(), shard, writing: Mutex::new(()) })
    }

    /// The files of a directory that is there, to look at: nothing is cleared away.
    pub(crate) fn to_look_at(io: Arc<dyn Io>, dir: &Path, shard: ShardId) -> Self {
        Self { io, dir: dir.to_owned(), shard, writing: Mutex::new(()) }
    }

    /// The group.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The disk.
    pub fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file, durable when this returns, and removes the older ones. Returns its length in bytes. Blocks.
    ///
    /// The log has to be durable up to `image.at` before: a state ahead of its log would make Raft give up the log.
    ///
    /// # Errors
    /// [`StateError::TooLarge`]; those of the disk: the older files are then still there.
    pub fn save(&self, image: &StateImage) -> Result<u64, StateError> {
        assert!(image.frontier <= image.at, "L4: frontier {:?} is above the state at {:?}", image.frontier, image.at);
        assert!(image.membership.len() <= MAX_MEMBERSHIP_BYTES, "a membership has at most 1 MiB");
        let bytes = image.state.len() as u64;
        if bytes > MAX_STATE_BYTES {
            return Err(StateError::TooLarge { shard: self.shard, bytes, max_bytes: MAX_STATE_BYTES });
        }
        let _writing = self.writing.lock();
        self.remove_cut_short()?;
        let header = encode_header(self.shard, image);
        let mut hasher = blake3::Hasher::new();
        let content: [&[u8]; 3] = [&header, &image.membership, &image.state];
        for part in content {
            hasher.update(part);
        }
        let hash = hasher.finalize();
        let parts = [content[0], content[1], content[2], hash.as_bytes()];
        write_durably(&*self.io, &self.path(image.at.index), &parts)?;
        self.remove_below(image.at.index)?;
        Ok(parts.iter().map(|part| part.len() as u64).sum())
    }

    /// The newest file, verified; `None` if there never was one. Blocks.
    ///
    /// # Errors
    /// [`StateError::Corrupt`], [`StateError::NewerVersion`], those of the disk; never an older file instead (L5).
    pub fn newest(&self) -> Result<Option<StateImage>, StateError> {
        let Some(index) = self.indexes()?.into_iter().max() else { return Ok(None) };
        let path = self.path(index);
        let file = self.io.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let corrupt = |what| StateError::Corrupt { path: path.clone(), what };
        if len > HEADER_BYTES as u64 + MAX_MEMBERSHIP_BYTES as u64 + MAX_STATE_BYTES + HASH_BYTES as u64 {
            return Err(corrupt("it is longer than a state file can be"));
        }
        let bytes = file.view(0..len)?;
        let image = decode(self.shard, &path, &bytes)?;
        if image.at.index != index {
            return Err(corrupt("its name is not that of its index"));
        }
        Ok(Some(image))
    }

    /// Has the files count no more: the log that they need is lost. They keep their bytes, under other names. Durable when
    /// this returns. Blocks.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set_aside(&self) -> Result<(), StateError> {
        let _writing = self.writing.lock();
        for index in self.indexes()? {
            let path = self.path(index);
            self.io.rename(&path, &path.with_added_extension(ASIDE))?;
        }
        Ok(self.io.sync_dir(&self.dir)?)
    }

    /// Whether a file of this name is one that was set aside.
    pub(crate) fn is_aside(name: &str) -> bool {
        name.strip_suffix(ASIDE).and_then(|name| name.strip_suffix('.')).is_some_and(|name| file_index(name).is_some())
    }

    /// Removes what an earlier save left half written: files have other names each time, and their space may be what is
    /// missing.
    fn remove_cut_short(&self) -> io::Result<()> {
        let names = self.io.list(&self.dir)?;
        let mut cut_short = names.iter().filter(|name| name.strip_suffix(".tmp").and_then(file_index).is_some());
        cut_short.try_for_each(|name| self.io.remove(&self.dir.join(name)))
    }

    fn remove_below(&self, index: RaftIndex) -> Result<(), StateError> {
        let older: Vec<RaftIndex> = self.indexes()?.into_iter().filter(|other| *other < index).collect();
        for index in &older {
            self.io.remove(&self.path(*index))?;
        }
        if !older.is_empty() {
            self.io.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn indexes(&self) -> io::Result<Vec<RaftIndex>> {
        Ok(self.io.list(&self.dir)?.iter().filter_map(|name| file_index(name)).collect())
    }

    pub(crate) fn path(&self, index: RaftIndex) -> PathBuf {
        self.dir.join(file_name(index))
    }
}

impl std::fmt::Debug for StateImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, frontier, membership, state } = self;
        let bytes = (membership.len(), state.len());
        f.debug_struct("StateImage").field("at", at).field("frontier", frontier).field("bytes", &bytes).finish()
    }
}

impl StateError {
    fn code(&self) -> Code {
        match self {
            StateError::Io(error) if is_full(error) => Code::StorageFull,
            StateError::Io(_) => Code::Io,
            StateError::Corrupt { .. } => Code::CorruptData,
            StateError::NewerVersion { .. } => Code::NewerVersion,
            StateError::TooLarge { .. } => Code::Internal,
        }
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        Error::new(error.code(), error.to_string())
    }
}

fn file_name(index: RaftIndex) -> String {
    format!("{:020}.state", index.0)
}

/// The index in the name of a state file; `None` for other names.
fn file_index(name: &str) -> Option<RaftIndex> {
    let index = RaftIndex(name.strip_suffix(".state")?.parse().ok()?);
    (file_name(index) == name).then_some(index)
}

/// The bytes in front of membership and state.
fn encode_header(shard: ShardId, image: &StateImage) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&VERSION.to_le_bytes());
    out[12..16].copy_from_slice(&shard.0.to_le_bytes());
    let numbers = [
        image.at.term.0,
        image.at.index.0,
        image.frontier.term.0,
        image.frontier.index.0,
        image.membership.len() as u64,
        image.state.len() as u64,
    ];
    for (field, number) in out[16..].chunks_exact_mut(8).zip(numbers) {
        field.copy_from_slice(&number.to_le_bytes());
    }
    out
}

fn decode(shard: ShardId, path: &Path, bytes: &Bytes) -> Result<StateImage, StateError> {
    let corrupt = |what| StateError::Corrupt { path: path.to_owned(), what };
    let hashed = bytes.len().checked_sub(HASH_BYTES).filter(|len| *len >= HEADER_BYTES);
    let hashed = hashed.ok_or_else(|| corrupt("it is cut short"))?;
    if bytes[..8] != MAGIC {
        return Err(corrupt("it does not start with SLG-STAT"));
    }
    if bytes[hashed..] != *blake3::hash(&bytes[..hashed]).as_bytes() {
        return Err(corrupt("its BLAKE3 hash does not match"));
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if u32_at(8) != VERSION {
        return Err(StateError::NewerVersion { path: path.to_owned(), version: u32_at(8) });
    }
    if u32_at(12) != shard.0 {
        return Err(corrupt("it belongs to another shard"));
    }
    let point = |at| LogPoint { term: Term(u64_at(at)), index: RaftIndex(u64_at(at + 8)) };
    let (at, frontier) = (point(16), point(32));
    let membership_end = (HEADER_BYTES as u64).checked_add(u64_at(48)).filter(|end| *end <= hashed as u64);
    let membership_end = membership_end.ok_or_else(|| corrupt("its membership is longer than the file"))? as usize;
    if u64_at(56) != (hashed - membership_end) as u64 {
        return Err(corrupt("its state does not have the length that it says"));
    }
    if frontier > at || frontier.index > at.index {
        return Err(corrupt("its frontier is above its index"));
    }
    let membership = bytes.slice(HEADER_BYTES..membership_end);
    Ok(StateImage { at, frontier, membership, state: bytes.slice(membership_end..hashed) })
}

#[cfg(test)]
mod tests;
