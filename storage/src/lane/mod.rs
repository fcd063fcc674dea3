//! The lane: one write-ahead log shared by all shards of a node, so that one sync makes every shard's waiting frames
//! durable. Bytes on disk: `docs/FORMATS.md`, "Lane".
//!
//! * L1: a frame is acknowledged after the sync of its group, and groups are written one after the other, each only when
//!   the one before it is durable.
//! * L4: a file goes only after it was released, a synced header says so, and nobody reads it any more.
//! * L5: what [`Lane::open`] discards was never acknowledged; all else that is not whole is an error. Whoever knows of others
//!   that have it may have the damaged files [set aside](DamagedLane::set_aside): they are kept.

mod aside;
mod damage;
mod doubt;
mod encode;
mod error;
mod files;
mod fill;
mod flush;
mod format;
mod frame;
mod jobs;
mod lost;
mod maker;
mod open;
mod options;
mod queue;
mod recovery;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod resealed;
mod salvage;
mod shared;
mod spare;
#[cfg(any(test, feature = "simulation"))]
mod stepped;
#[cfg(test)]
mod tests;
mod votes;
pub(crate) mod walk;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

use files::LogFile;
use flush::Flusher;
use format::{FRAME_HEADER_BYTES, FrameHeader, Place, max_payload_bytes};
use queue::Summed;
use recovery::check_payload;
use shared::Shared;
use spare::SpareWatch;

use crate::Io;

pub use aside::SetAside;
pub use doubt::LaneDoubt;
pub use error::LaneError;
pub use frame::{Frame, FrameKind, LanePos, RecoveredFrame, Recovery, TornTail};
pub use options::{GroupTimes, LaneObserver, LaneOptions, LaneStats, LaneUsage};
pub use salvage::DamagedLane;
#[cfg(any(test, feature = "simulation"))]
pub use stepped::SteppedLane;
pub use votes::Votes;

/// Called once, on the flush thread, when the frames of an append are durable, or cannot be known to be.
pub type Done = Box<dyn FnOnce(Result<(), LaneError>) + Send>;

/// Called once, when the lane stops at an error; see [`Lane::on_failure`].
pub type Failed = Box<dyn FnOnce(LaneError) + Send>;

/// One write-ahead log, shared by all shards that are mapped to it. Dropping it closes it.
///
/// ```
/// use std::sync::{Arc, mpsc};
///
/// use stratalog_proto::{RaftIndex, ReplicaId, ShardId, Term};
/// use stratalog_storage::{Frame, FrameKind, Lane, LaneOptions, RealDisk};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let options = LaneOptions { file_bytes: 1 << 20, ..LaneOptions::default() };
/// let (lane, recovery) = Lane::open(Arc::new(RealDisk), dir.path(), options)?;
/// assert!(recovery.frames.is_empty());
///
/// let (durable, wait) = mpsc::channel();
/// let frame = Frame {
///     shard: ShardId(1),
///     term: Term(1),
///     replica: ReplicaId(1),
///     index: RaftIndex(1),
///     kind: FrameKind::Normal,
///     payload: "an entry".into(),
/// };
/// let positions = lane.append(vec![frame], Box::new(move |result| durable.send(result).unwrap()))?;
/// wait.recv()??;
/// assert_eq!(lane.read(positions[0])?, "an entry");
/// # Ok(())
/// # }
/// ```
pub struct Lane {
    shared: Arc<Shared>,
    spare: SpareWatch,
    flusher: Mutex<Option<JoinHandle<()>>>,
    max_payload: usize,
}

impl Lane {
    /// Whether a directory holds a lane: one that was [made](Self::make) does, for ever.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn is_in(io: &dyn Io, dir: &Path) -> io::Result<bool> {
        let is_of_lane = |name: &String| format::file_number(name).is_some() || aside::is_name(name);
        Ok(io.exists(dir)? && io.list(dir)?.iter().any(is_of_lane))
    }

    /// What was [set aside](DamagedLane::set_aside) beside the lane in `dir` and not removed since. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list_aside(io: &dyn Io, dir: &Path) -> io::Result<Vec<SetAside>> {
        aside::list(io, dir)
    }

    /// Makes a lane without a frame, durable when this returns, the names of its directories included. One that is there
    /// already, and has no frame, stays. Blocks on the disk.
    ///
    /// # Errors
    /// [`LaneError::Corrupt`] if there is a lane that holds frames; those of the disk.
    pub fn make(io: Arc<dyn Io>, dir: &Path, options: &LaneOptions) -> Result<(), LaneError> {
        let (_, recovery) = open::open(Arc::clone(&io), dir, options, new_lane_id)?;
        if !recovery.frames.is_empty() {
            let what = format!("a log is to begin here, and there is one of {} frames", recovery.frames.len());
            return Err(LaneError::Corrupt { path: dir.to_owned(), offset: 0, what });
        }
        // A kill may have come between the making of a directory and the sync of its name.
        dir.parent().map_or(Ok(()), |parent| io.sync_dir(parent)).map_err(LaneError::from)
    }

    /// Opens the lane in `dir`, which is created if it is not there, and reads back what it holds.
    ///
    /// What is returned as recovered was synced by this call: it is durable even if it was not when the process died. A
    /// second lane must not be opened in the same directory; locking it is the caller's business.
    ///
    /// # Errors
    /// [`LaneError::Corrupt`] names file and offset of damage that no crash explains; nothing was changed then.
    pub fn open(io: Arc<dyn Io>, dir: &Path, options: LaneOptions) -> Result<(Arc<Lane>, Recovery), LaneError> {
        let (mut flusher, recovery) = open::open(io, dir, &options, new_lane_id)?;
        flusher.spare.start()?;
        let lane = Lane::over(&flusher, &options);
        let thread = thread::Builder::new().name("lane-flush".to_owned()).spawn(|| flusher.run())?;
        *lane.flusher.lock() = Some(thread);
        Ok((Arc::new(lane), recovery))
    }

    /// The lane that this flusher writes.
    fn over(flusher: &Flusher, options: &LaneOptions) -> Self {
        Self {
            shared: flusher.shared.clone(),
            spare: flusher.spare.watch(),
            flusher: Mutex::new(None),
            max_payload: max_payload_bytes(options.file_bytes),
        }
    }

    /// Queues frames and returns their positions at once, in order; never waits for the disk.
    ///
    /// `done` is called on the flush thread after one sync has made all of them durable; appends that wait together share
    /// a write and a sync, and their `done`s run in the order of the appends. It must not block, and it must not be what
    /// drops the last reference to the lane. After an error of the disk every `done` gets it and the lane stays dead: what
    /// is on the medium is then unknown.
    ///
    /// # Errors
    /// [`LaneError::TooLarge`], [`LaneError::Dead`], [`LaneError::Closed`]. Nothing was queued then, and `done` is dropped
    /// without being called.
    pub fn append(&self, frames: Vec<Frame>, done: Done) -> Result<Vec<LanePos>, LaneError> {
        if let Some(frame) = frames.iter().find(|frame| frame.payload.len() > self.max_payload) {
            return Err(LaneError::TooLarge {
                shard: frame.shard,
                index: frame.index,
                bytes: frame.payload.len(),
                max_bytes: self.max_payload,
            });
        }
        self.shared.push(frames.into_iter().map(Summed::from).collect(), done)
    }

    /// Has `failed` be called once the lane stops because its disk failed, or at a defect: with what was wrong, and also
    /// while nobody waits for an append. Not called for a lane that is closed without an error.
    ///
    /// It is called on the flush thread, behind the `done`s of what waited, and under the same terms; here, before this
    /// returns, if the lane has failed already.
    pub fn on_failure(&self, failed: Failed) {
        if let Some((failed, error)) = self.shared.watch(failed) {
            failed(error);
        }
    }

    /// The payload of a durable frame, verified. Blocks on the disk.
    ///
    /// # Errors
    /// [`LaneError::Corrupt`] names file and offset; [`LaneError::NotDurable`] for a position that is not yet flushed,
    /// [`LaneError::Released`] for one in a file that was given up.
    pub fn read(&self, pos: LanePos) -> Result<Bytes, LaneError> {
        let (log, header, frame) = self.read_frame(pos, pos.len)?;
        let end = check_payload(&header, &frame).map_err(|what| log.corrupt(pos.offset, what))?;
        Ok(frame.slice(FRAME_HEADER_BYTES..end))
    }

    /// The header of a durable frame, verified. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Lane::read`].
    pub fn read_header(&self, pos: LanePos) -> Result<RecoveredFrame, LaneError> {
        let (_, header, _) = self.read_frame(pos, 0)?;
        Ok(header.at(Place { file: pos.file, offset: pos.offset }))
    }

    /// The largest payload a frame can have, in bytes.
    pub fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// Bytes that can be appended into space that is allocated already. Admit no more than this where a full disk must be
    /// refused before the frames exist; appends beyond it wait for space.
    pub fn room_bytes(&self) -> u64 {
        let (number, left) = self.shared.room();
        self.spare.room_bytes(number, left)
    }

    /// Bytes that can be written beyond [`room_bytes`](Self::room_bytes) before the device is as full as the log may make
    /// it. Asks the device.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn growth_bytes(&self) -> io::Result<u64> {
        self.spare.growth_bytes()
    }

    /// Has the next file made now, if it is not there. By itself that begins once half of the last one is written.
    pub fn prepare(&self) {
        let (number, _) = self.shared.room();
        self.spare.is_ready_after(number);
    }

    /// Gives up all files below `first_needed` (L4): nothing is read of them from here on, and their space is used again,
    /// or given back, once that is durable and the reads that are under way have ended. Never blocks on the disk.
    ///
    /// A lower number than before changes nothing, and one above the file that the durable log ends in counts as that. A
    /// crash may bring back what was released last; whoever knows what is needed releases it again.
    pub fn release(&self, first_needed: u64) {
        let files = self.shared.release(first_needed);
        if !files.is_empty() {
            self.spare.release(files);
        }
    }

    /// Has the log go on in a new file: every append from now on is in the file whose number this gives, or in a later one.
    /// `done` is called once the log durably goes on there, as for [`Lane::append`]. `None`, and `done` is not called, if
    /// the new file is not there yet: it is being made, ask again soon.
    ///
    /// # Errors
    /// [`LaneError::Dead`], [`LaneError::Closed`].
    pub fn rotate(&self, done: Done) -> Result<Option<u64>, LaneError> {
        let (number, _) = self.shared.room();
        if !self.spare.is_ready_after(number) {
            return Ok(None);
        }
        self.shared.rotate(done).map(Some)
    }

    /// Has the space of released files below `number` be given back instead of being kept for the next file, so that
    /// their bytes are in no file any more; whether that is so by now. Blocks on the disk.
    ///
    /// # Errors
    /// [`LaneError::Io`] if the directory cannot be listed.
    pub fn discard_below(&self, number: u64) -> Result<bool, LaneError> {
        self.spare.keep_none_below(number);
        Ok(!self.spare.has_below(number)?)
    }

    /// The files that were not released.
    pub fn usage(&self) -> LaneUsage {
        self.shared.usage()
    }

    /// Counters since open.
    pub fn stats(&self) -> LaneStats {
        let (zeroed_bytes, recycled_files) = self.spare.counts();
        LaneStats { zeroed_bytes, recycled_files, ..self.shared.stats() }
    }

    /// Flushes what waits, records the end of the log and stops. Blocks; further appends are refused, reads go on.
    pub fn close(&self) {
        self.shared.close();
        self.spare.close();
        let flusher = self.flusher.lock().take();
        if let Some(flusher) = flusher.filter(|flusher| flusher.thread().id() != thread::current().id()) {
            // A panic of the flush thread was told to all waiters already.
            let _ = flusher.join();
        }
    }

    /// Reads and verifies the header of a frame; returns it with `payload_bytes` of what follows.
    fn read_frame(&self, pos: LanePos, payload_bytes: u32) -> Result<(Arc<LogFile>, FrameHeader, Bytes), LaneError> {
        let whole = FRAME_HEADER_BYTES as u64 + u64::from(pos.len);
        let log = self.shared.durable_file(pos, whole)?;
        let bytes = FRAME_HEADER_BYTES as u64 + u64::from(payload_bytes);
        let frame = log.file.view(pos.offset..pos.offset + bytes)?;
        let header = FrameHeader::decode(&frame).map_err(|what| log.corrupt(pos.offset, what))?;
        if header.len != pos.len {
            let what = format!("the frame has {} bytes, {} were expected", header.len, pos.len);
            return Err(log.corrupt(pos.offset, what));
        }
        Ok((log, header, frame))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A random number: no byte that comes from elsewhere can pass for one of this lane.
fn new_lane_id() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}
