//! One group's log: its part of the lane, its vote, and what of it is in memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId, ShardId, Term};
use stratalog_storage::{Frame, FrameKind, Lane, LaneError, LanePos, Votes};
use tokio::sync::watch;

use super::codec::encode_vote;
use super::doubts::Doubts;
use super::index::{Located, LogIndex, Slot};
use super::log_cache::CacheShare;
use super::promise::{NoPromise, Promise, Promises};
use super::runtime::Beat;
use super::stalled::Stalls;
use super::types::Vote;
use super::uncommitted::Uncommitted;
use crate::fatal::halt;

/// The index of a Truncate frame after which nothing is kept.
pub(super) const KEEP_NOTHING: RaftIndex = RaftIndex(u64::MAX);

/// What a Truncate frame has for its term if the log goes back to what it was before its last Purge frame.
pub(super) const ABANDONED: Term = Term(1);

/// What a Truncate frame has for its term if the log begins anew behind it, whatever was before.
pub(super) const BEGINS_ANEW: Term = Term(2);

/// How long a full disk is left alone before a vote is tried again.
const FULL_WAIT: Duration = Duration::from_secs(1);

/// A handle on the log of one group. Clones share it.
#[derive(Clone)]
pub(crate) struct GroupLog(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) shard: ShardId,
    pub(super) replica: ReplicaId,
    pub(super) lane: Arc<Lane>,
    pub(super) votes: Arc<Votes>,
    pub(super) index: RwLock<LogIndex>,
    pub(super) vote: Mutex<Option<Vote>>,
    /// Appends handed to the lane. Held from then until the index knows of them: their numbers have the order of the lane,
    /// and no file counts as free while it holds what is on its way into the index. Taken before `index` and `kept`, never
    /// by a flush, and not held over anything that blocks.
    pub(super) appends: Mutex<u64>,
    /// Appends that are durable.
    pub(super) flushed: watch::Sender<u64>,
    pub(super) kept: Mutex<Kept>,
    /// What all groups of the lane promised of its room.
    pub(super) promises: Promises,
    /// Which of them wait for its disk.
    pub(super) stalls: Stalls,
    pub(super) beat: Beat,
    /// The group is being stopped, or was: nothing more is waited for.
    pub(super) stopping: Arc<AtomicBool>,
    /// Raft is starting: it looks at entries for their terms and memberships only.
    pub(super) starting: AtomicBool,
    /// What was discarded at the end of the lane may have been acknowledged by this replica; see [`super::doubt`].
    pub(super) doubted: AtomicBool,
    /// A part of the log is lost, and with it what this replica acknowledged; see [`super::repair`].
    pub(super) lost: AtomicBool,
    /// What is doubted of all groups of the lane.
    pub(super) doubts: Arc<Doubts>,
    pub(super) uncommitted: Uncommitted,
    pub(super) cache: CacheShare,
    /// Held as long as the log can be written; dropped after the lane.
    pub(super) _keep: Arc<dyn Send + Sync>,
}

/// What keeps the log, or allows to let go of it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The frontier of the newest durable state file.
    pub(super) frontier: Option<RaftIndex>,
    /// A lane file that is kept though no entry of the index needs it: nothing was released since it was last needed.
    pub(super) file: Option<u64>,
}

/// What a log holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retained {
    /// The first entry that is held; above `last` if none is.
    pub(crate) first: RaftIndex,
    /// The last entry, held or not; `None` before the first.
    pub(crate) last: Option<RaftIndex>,
    /// What the entries take in the lane, in bytes.
    pub(crate) bytes: u64,
    /// The oldest lane file that has to stay; `None` if none has to.
    pub(crate) oldest_file: Option<u64>,
}

/// An entry on its way into the log.
pub(super) struct NewEntry {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) kind: FrameKind,
    pub(super) payload: Bytes,
    /// Kept once the entry is handed to the lane.
    pub(super) promises: Arc<[Promise]>,
}

impl GroupLog {
    /// The group.
    pub(crate) fn shard(&self) -> ShardId {
        self.0.shard
    }

    /// This replica's Raft node id in the group.
    pub(crate) fn replica(&self) -> ReplicaId {
        self.0.replica
    }

    /// The commands of an entry; `None` for one that has none. Blocks on the disk if it is no longer in memory.
    ///
    /// # Errors
    /// [`Code::CorruptData`] naming file and offset; [`Code::Internal`] for an index that the log does not hold.
    pub(crate) fn payload(&self, index: RaftIndex) -> Result<Option<Bytes>, Error> {
        let located = self.0.index.read().get(index.0);
        let located = located.ok_or_else(|| self.no_entry(index))?;
        match located.slot.kind {
            FrameKind::Normal => self.load(&located).map(Some).map_err(|error| self.unreadable(index, &error)),
            _ => Ok(None),
        }
    }

    /// The commands of an entry, if they are in memory.
    pub(crate) fn cached_payload(&self, index: RaftIndex) -> Option<Bytes> {
        self.0.index.read().get(index.0)?.payload
    }

    /// The term of an entry.
    pub(crate) fn term_of(&self, index: RaftIndex) -> Term {
        Term(self.0.index.read().term_of(index.0))
    }

    /// Bytes that the disk can certainly take: what is admitted beyond them could fail in the log, which is fatal.
    pub(crate) fn room_bytes(&self) -> u64 {
        self.0.lane.room_bytes()
    }

    /// Bytes that the log can come to take before its device is as full as logs may make it. Asks the device.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn space_bytes(&self) -> io::Result<u64> {
        Ok(self.0.lane.growth_bytes()?.saturating_add(self.room_bytes()))
    }

    /// Has the lane's next file made now, if it is not there.
    pub(super) fn prepare_room(&self) {
        self.0.lane.prepare();
    }

    /// Promises `bytes` of the lane's room to entries that are appended next, if as many and `reserve` more are neither taken
    /// nor promised.
    ///
    /// # Errors
    /// [`NoPromise::Room`].
    pub(super) fn promise(&self, bytes: u64, reserve: u64) -> Result<Promise, NoPromise> {
        self.0.promises.make(bytes, reserve, self)
    }

    /// As [`promise`](Self::promise), to a record batch that is going to wait for its entry.
    ///
    /// # Errors
    /// [`NoPromise`].
    pub(crate) fn promise_waiting(&self, bytes: u64, reserve: u64) -> Result<Promise, NoPromise> {
        self.0.promises.make_waiting(bytes, reserve, self)
    }

    /// The largest entry.
    pub(crate) fn max_entry_bytes(&self) -> usize {
        self.0.lane.max_payload()
    }

    /// The index of the last entry, if there is one.
    pub(super) fn last_index(&self) -> Option<u64> {
        self.0.index.read().last().map(|(_, index)| index)
    }

    /// What the log holds.
    pub(crate) fn retained(&self) -> Retained {
        // What the lane has got is in the index, too: the file that holds it does not look free.
        let _appends = self.0.appends.lock();
        let index = self.0.index.read();
        let oldest_file = self.oldest_file(&index);
        let (first, last) = (RaftIndex(index.first()), index.last().map(|(_, last)| RaftIndex(last)));
        Retained { first, last, bytes: index.bytes(), oldest_file }
    }

    fn oldest_file(&self, index: &LogIndex) -> Option<u64> {
        [self.0.kept.lock().file, index.first_file()].into_iter().flatten().min()
    }

    /// Lets go of the entries up to and including `upto`: the caller holds, verified and durable, what replaces them (L4),
    /// and has [purged](super::Group::purge) Raft's log up to there. Changes nothing on disk: after a restart the newest
    /// state file says the same.
    ///
    /// # Panics
    /// If no durable state file has its frontier there, or Raft still reads the entries (L4).
    pub(crate) fn release(&self, upto: RaftIndex) {
        let mut index = self.0.index.write();
        let mut kept = self.0.kept.lock();
        let frontier = kept.frontier;
        assert!(frontier >= Some(upto), "L4: entries up to {upto} are released, a state file covers {frontier:?}");
        index.release(upto.0);
        // A log that jumped beyond needs what it was before, until the state file that it jumped for is durable.
        let jumped = index.base().is_some_and(|(_, base)| base > upto.0);
        if frontier == Some(upto) && !jumped {
            kept.file = None;
        }
    }

    /// Returns when the entries up to and including `index` that the log has are durable.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: the log is closed.
    pub(crate) async fn durable_through(&self, index: RaftIndex) -> Result<(), Error> {
        let append = self.0.index.read().append_of(index.0);
        match append {
            None => Ok(()),
            Some(append) => self.flushed_through(append).await.map_err(|_| {
                Error::new(Code::Unavailable, format!("the log of shard {} closed before its flush", self.0.shard))
            }),
        }
    }

    /// The number of the first append that is not durable yet, if there is one.
    pub(crate) fn unflushed(&self) -> Option<u64> {
        let appended = *self.0.appends.lock();
        let flushed = *self.0.flushed.borrow();
        (flushed < appended).then_some(flushed + 1)
    }

    /// The groups of the lane that wait for its disk.
    pub(super) fn stalls(&self) -> &Stalls {
        &self.0.stalls
    }

    /// When the clocks of its node tick.
    pub(super) fn beat(&self) -> Beat {
        self.0.beat
    }

    /// (term, index) up to which Raft does not read, and of the last entry.
    pub(super) fn ends(&self) -> [Option<(u64, u64)>; 2] {
        let index = self.0.index.read();
        [index.marker(), index.last()]
    }

    /// The entries of a range that Raft may read, until their payloads exceed `max_bytes`; at least one if there is one.
    pub(super) fn locate(&self, range: std::ops::Range<u64>, max_bytes: usize) -> Vec<Located> {
        let index = self.0.index.read();
        let readable = index.marker().map_or(0, |(_, marker)| marker + 1);
        index.range(range.start.max(readable)..range.end, max_bytes)
    }

    /// The state file with this frontier is durable.
    pub(super) fn state_saved(&self, frontier: RaftIndex) {
        let mut kept = self.0.kept.lock();
        kept.frontier = kept.frontier.max(Some(frontier));
    }

    /// Whether Raft is starting.
    pub(super) fn is_starting(&self) -> bool {
        self.0.starting.load(Ordering::Acquire)
    }

    pub(super) fn set_starting(&self, starting: bool) {
        self.0.starting.store(starting, Ordering::Release);
    }

    /// The payload of an entry. Blocks on the disk if it is not in memory.
    pub(super) fn load(&self, located: &Located) -> io::Result<Bytes> {
        match &located.payload {
            Some(payload) => Ok(payload.clone()),
            None => self.0.lane.read(located.slot.pos).map_err(io_error),
        }
    }

    /// Hands entries to the lane and makes them readable. `flushed` is called on the flush thread once they are durable.
    ///
    /// # Errors
    /// The lane is closed. An error of the disk stops the process.
    pub(super) fn append(&self, entries: Vec<NewEntry>, flushed: impl FnOnce() + Send + 'static) -> io::Result<()> {
        entries.iter().for_each(|entry| self.0.uncommitted.appended(entry.index));
        let frames = entries.iter().map(|entry| self.frame(entry)).collect();
        let mut appends = self.0.appends.lock();
        let (append, positions) = self.write(&mut appends, frames, flushed)?;
        let mut index = self.0.index.write();
        for (entry, pos) in entries.into_iter().zip(positions) {
            index.push(entry.index, entry.term, Slot { pos, kind: entry.kind }, Some((entry.payload, append)));
            // The lane's room is smaller by now: nothing has to be kept free for the entry any more.
            drop(entry.promises);
        }
        index.evict(self.0.cache.bytes());
        Ok(())
    }

    /// An entry that came into this log is committed: how long ago it came, unless that was before a restart.
    pub(super) fn committed(&self, index: RaftIndex) -> Option<Duration> {
        self.0.uncommitted.committed(index.0)
    }

    /// Removes the entries above `last`; the frame that says so is flushed before any later one.
    pub(super) fn truncate_after(&self, last: Option<u64>) -> io::Result<()> {
        let kept = last.map_or(KEEP_NOTHING, RaftIndex);
        let mut appends = self.0.appends.lock();
        self.mark(&mut appends, FrameKind::Truncate, Term(0), kept)?;
        self.0.index.write().truncate_after(last);
        Ok(())
    }

    /// Raft no longer reads the entries up to `index`. They stay until they are [released](Self::release).
    ///
    /// One above the last entry, as after the install of a snapshot that the log does not reach, makes the log go on
    /// after it.
    pub(super) fn purge(&self, term: u64, index: u64) -> io::Result<()> {
        if self.last_index().is_some_and(|last| index <= last) {
            self.0.index.write().mark(term, index);
            return Ok(());
        }
        self.jump(term, index)
    }

    /// Makes the log go on after (term, index). What it held stays in the lane until the entries up to there are released.
    pub(super) fn jump(&self, term: u64, index: u64) -> io::Result<()> {
        let mut appends = self.0.appends.lock();
        let purge = self.mark(&mut appends, FrameKind::Purge, Term(term), RaftIndex(index))?;
        let mut held = self.0.index.write();
        let oldest = self.oldest_file(&held);
        self.0.kept.lock().file = oldest.or(Some(purge.file));
        held.jump(term, index);
        Ok(())
    }

    /// The last saved vote.
    pub(super) fn vote(&self) -> Option<Vote> {
        *self.0.vote.lock()
    }

    /// Whether this replica never heard of its group: it has neither a vote nor an entry.
    pub(crate) fn is_blank(&self) -> bool {
        self.vote().is_none() && self.last_index().is_none()
    }

    /// Whoever has an entry of a term has saved a vote of that term or a later one before. Without it, this replica could
    /// vote twice in a term. Only the entry with which a group begins comes before any vote.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if the vote is lost.
    pub(super) fn check_vote(&self) -> Result<(), Error> {
        let last = self.ends()[1].filter(|(term, _)| *term > 0);
        let Some((term, index)) = last.filter(|_| self.vote().is_none()) else { return Ok(()) };
        let message = format!(
            "L1: replica {} of shard {} has entries up to {index}, of term {term}, and no vote: the file of its vote is \
             lost, and without it the replica could vote twice in a term. Nothing was changed; restore `lanes/0/votes` \
             from a copy",
            self.0.replica, self.0.shard
        );
        Err(Error::new(Code::CorruptData, message))
    }

    /// Saves a vote: durable when it returns, and after everything that was appended before it. On a full disk it waits:
    /// nobody was told of the vote, and the one before it still counts.
    ///
    /// # Errors
    /// The group is being stopped. An error of the disk, other than that it is full, stops the process.
    pub(super) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        self.all_durable().await?;
        let mut told = false;
        loop {
            let inner = Arc::clone(&self.0);
            let save = move || inner.votes.save(inner.shard, &encode_vote(&vote));
            match tokio::task::spawn_blocking(save).await.map_err(io::Error::other)? {
                Ok(()) => break,
                Err(error) if error.is_full() => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(shard = %self.0.shard, %error, "a vote waits for room to be saved");
                    }
                    if self.0.stopping.load(Ordering::Acquire) {
                        return Err(io::Error::other(error));
                    }
                    tokio::time::sleep(FULL_WAIT).await;
                }
                Err(error) => halt(&format!("the vote of shard {} cannot be saved: {error}", self.0.shard)),
            }
        }
        *self.0.vote.lock() = Some(vote);
        Ok(())
    }

    /// Whether what was discarded at the end of the lane may have been acknowledged by this replica.
    pub(super) fn is_doubted(&self) -> bool {
        self.0.doubted.load(Ordering::Acquire)
    }

    /// Whether this replica certainly lacks a part of what it acknowledged, who votes with it included. It is in doubt, too.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }

    /// What is in doubt, or lost, is so no more with `false`: the file that says it goes, which blocks on the disk.
    pub(super) fn set_doubted(&self, doubted: bool) {
        if !doubted
            && self.0.lost.swap(false, Ordering::AcqRel)
            && let Err(error) = self.0.votes.end_loss(self.0.shard)
        {
            tracing::warn!(shard = %self.0.shard, %error, "a loss that was made good could not be forgotten; it comes back at the next start");
        }
        self.0.doubted.store(doubted, Ordering::Release);
        self.0.doubts.set(self.0.shard, doubted);
    }

    /// Says whether nothing more is to be waited for.
    pub(super) fn set_stopping(&self, stopping: bool) {
        self.0.stopping.store(stopping, Ordering::Release);
    }

    /// Whether the group is being stopped, or was; for somebody who does not hold the log.
    pub(super) fn stopping(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0.stopping)
    }

    /// Writes a frame without a payload, while `appends` is held: where it lies.
    pub(super) fn mark(&self, appends: &mut u64, kind: FrameKind, term: Term, index: RaftIndex) -> io::Result<LanePos> {
        let frame = Frame { shard: self.0.shard, term, replica: self.0.replica, index, kind, payload: Bytes::new() };
        let (_, positions) = self.write(appends, vec![frame], || ())?;
        positions.first().copied().ok_or_else(|| io::Error::other("the lane gave a frame no place"))
    }

    /// Returns when everything that was appended so far is durable.
    pub(super) async fn all_durable(&self) -> io::Result<()> {
        let appended = *self.0.appends.lock();
        self.flushed_through(appended).await.map_err(io::Error::other)
    }

    async fn flushed_through(&self, append: u64) -> Result<(), watch::error::RecvError> {
        self.0.flushed.subscribe().wait_for(|done| *done >= append).await.map(|_| ())
    }

    fn frame(&self, entry: &NewEntry) -> Frame {
        Frame {
            shard: self.0.shard,
            term: Term(entry.term),
            replica: self.0.replica,
            index: RaftIndex(entry.index),
            kind: entry.kind,
            payload: entry.payload.clone(),
        }
    }

    /// Hands frames to the lane, while `appends` is held: the number of this append, and where they lie.
    fn write(
        &self,
        appends: &mut u64,
        frames: Vec<Frame>,
        flushed: impl FnOnce() + Send + 'static,
    ) -> io::Result<(u64, Vec<LanePos>)> {
        let append = *appends + 1;
        let inner = Arc::clone(&self.0);
        let done = move |result: Result<(), LaneError>| match result {
            Ok(()) => {
                inner.index.write().flushed(append, inner.cache.bytes());
                inner.flushed.send_replace(append);
                flushed();
            }
            Err(error) => halt(&format!("the log of shard {} cannot be made durable: {error}", inner.shard)),
        };
        let positions = self.0.lane.append(frames, Box::new(done)).map_err(io_error)?;
        *appends = append;
        Ok((append, positions))
    }

    fn no_entry(&self, index: RaftIndex) -> Error {
        let message = format!("the log of shard {} holds no entry {index}", self.0.shard);
        Error::new(Code::Internal, message)
    }

    pub(super) fn unreadable(&self, index: RaftIndex, error: &io::Error) -> Error {
        let code = if error.kind() == io::ErrorKind::InvalidData { Code::CorruptData } else { Code::Io };
        Error::new(code, format!("entry {index} of shard {} cannot be read: {error}", self.0.shard))
    }
}

/// Keeps the lane's distinction between damage and a failed read.
fn io_error(error: LaneError) -> io::Error {
    match &error {
        LaneError::Corrupt { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
        _ => io::Error::other(error),
    }
}
