//! One group's log: its part of the lane, its vote, and what of it is in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId, ShardId, Term};
use stratalog_storage::{Frame, FrameKind, Lane, LaneError, RecoveredFrame, Votes};
use tokio::sync::watch;

use super::codec::{decode_vote, encode_vote};
use super::index::{Located, LogIndex, Slot};
use super::promise::Promise;
use super::types::Vote;
use crate::fatal::halt;

/// The index of a Truncate frame after which nothing is kept.
const KEEP_NOTHING: RaftIndex = RaftIndex(u64::MAX);

/// A handle on the log of one group. Clones share it.
#[derive(Clone)]
pub(crate) struct GroupLog(Arc<Inner>);

struct Inner {
    shard: ShardId,
    replica: ReplicaId,
    lane: Arc<Lane>,
    votes: Arc<Votes>,
    index: RwLock<LogIndex>,
    vote: Mutex<Option<Vote>>,
    /// Appends handed to the lane.
    appends: Mutex<u64>,
    /// Appends that are durable.
    flushed: watch::Sender<u64>,
    cache_bytes: usize,
    /// Held as long as the log can be written; dropped after the lane.
    _keep: Arc<dyn Send + Sync>,
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
    /// Rebuilds the logs of the given groups from what the lane recovered. `cache_bytes` is what each keeps in memory of
    /// entries that are durable already. `keep` is dropped once nobody can write to the logs any more.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if a log has a hole (L5), a vote does not decode, or frames belong to a group that is not
    /// among `shards`.
    pub(crate) fn recover(
        shards: &[ShardId],
        replica: ReplicaId,
        lane: &Arc<Lane>,
        votes: &Arc<Votes>,
        frames: &[RecoveredFrame],
        cache_bytes: usize,
        keep: &Arc<dyn Send + Sync>,
    ) -> Result<BTreeMap<ShardId, GroupLog>, Error> {
        let mut indexes: BTreeMap<ShardId, LogIndex> = shards.iter().map(|id| (*id, LogIndex::default())).collect();
        for frame in frames {
            let index = indexes.get_mut(&frame.shard).ok_or_else(|| unknown_group(frame))?;
            replay(index, frame)?;
        }
        let open = |(shard, index)| {
            let vote = load_vote(votes, shard)?;
            let inner = Inner {
                shard,
                replica,
                lane: Arc::clone(lane),
                votes: Arc::clone(votes),
                index: RwLock::new(index),
                vote: Mutex::new(vote),
                appends: Mutex::new(0),
                flushed: watch::Sender::new(0),
                cache_bytes,
                _keep: Arc::clone(keep),
            };
            Ok((shard, GroupLog(Arc::new(inner))))
        };
        indexes.into_iter().map(open).collect()
    }

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

    /// The largest entry.
    pub(crate) fn max_entry_bytes(&self) -> usize {
        self.0.lane.max_payload()
    }

    /// The index of the last entry, if there is one.
    pub(super) fn last_index(&self) -> Option<u64> {
        self.0.index.read().last().map(|(_, index)| index)
    }

    /// (term, index) of the last purged and of the last entry.
    pub(super) fn ends(&self) -> [Option<(u64, u64)>; 2] {
        let index = self.0.index.read();
        [index.purged(), index.last()]
    }

    /// See [`LogIndex::range`].
    pub(super) fn locate(&self, range: std::ops::Range<u64>, max_bytes: usize) -> Vec<Located> {
        self.0.index.read().range(range, max_bytes)
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
        let append = self.next_append();
        let frames = entries.iter().map(|entry| self.frame(entry)).collect();
        let positions = self.write(frames, append, flushed)?;
        let mut index = self.0.index.write();
        for (entry, pos) in entries.into_iter().zip(positions) {
            index.push(entry.index, entry.term, Slot { pos, kind: entry.kind }, Some((entry.payload, append)));
            // The lane's room is smaller by now: nothing has to be kept free for the entry any more.
            drop(entry.promises);
        }
        index.evict(self.0.cache_bytes);
        Ok(())
    }

    /// Removes the entries above `last`; the frame that says so is flushed before any later one.
    pub(super) fn truncate_after(&self, last: Option<u64>) -> io::Result<()> {
        let kept = last.map_or(KEEP_NOTHING, RaftIndex);
        self.mark(FrameKind::Truncate, Term(0), kept)?;
        self.0.index.write().truncate_after(last);
        Ok(())
    }

    /// Forgets the entries up to `index`.
    pub(super) fn purge(&self, term: u64, index: u64) -> io::Result<()> {
        self.mark(FrameKind::Purge, Term(term), RaftIndex(index))?;
        self.0.index.write().purge(term, index);
        Ok(())
    }

    /// The last saved vote.
    pub(super) fn vote(&self) -> Option<Vote> {
        *self.0.vote.lock()
    }

    /// Saves a vote: durable when it returns, and after everything that was appended before it.
    pub(super) async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let appended = *self.0.appends.lock();
        let mut flushed = self.0.flushed.subscribe();
        flushed.wait_for(|done| *done >= appended).await.map_err(io::Error::other)?;
        let inner = Arc::clone(&self.0);
        let save = move || inner.votes.save(inner.shard, &encode_vote(&vote));
        match tokio::task::spawn_blocking(save).await.map_err(io::Error::other)? {
            Ok(()) => *self.0.vote.lock() = Some(vote),
            Err(error) => halt(&format!("the vote of shard {} cannot be saved: {error}", self.0.shard)),
        }
        Ok(())
    }

    fn mark(&self, kind: FrameKind, term: Term, index: RaftIndex) -> io::Result<()> {
        let append = self.next_append();
        let frame = Frame { shard: self.0.shard, term, leader: self.0.replica, index, kind, payload: Bytes::new() };
        self.write(vec![frame], append, || ()).map(|_| ())
    }

    fn next_append(&self) -> u64 {
        let mut appends = self.0.appends.lock();
        *appends += 1;
        *appends
    }

    fn frame(&self, entry: &NewEntry) -> Frame {
        let leader =
            self.vote().filter(|vote| vote.leader_id.term == entry.term).map_or(0, |vote| vote.leader_id.voted_for);
        Frame {
            shard: self.0.shard,
            term: Term(entry.term),
            leader: ReplicaId(leader),
            index: RaftIndex(entry.index),
            kind: entry.kind,
            payload: entry.payload.clone(),
        }
    }

    fn write(
        &self,
        frames: Vec<Frame>,
        append: u64,
        flushed: impl FnOnce() + Send + 'static,
    ) -> io::Result<Vec<stratalog_storage::LanePos>> {
        let inner = Arc::clone(&self.0);
        let done = move |result: Result<(), LaneError>| match result {
            Ok(()) => {
                inner.index.write().flushed(append, inner.cache_bytes);
                inner.flushed.send_replace(append);
                flushed();
            }
            Err(error) => halt(&format!("the log of shard {} cannot be made durable: {error}", inner.shard)),
        };
        self.0.lane.append(frames, Box::new(done)).map_err(io_error)
    }

    fn no_entry(&self, index: RaftIndex) -> Error {
        let message = format!("the log of shard {} holds no entry {index}", self.0.shard);
        Error::new(Code::Internal, message)
    }

    fn unreadable(&self, index: RaftIndex, error: &io::Error) -> Error {
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

fn replay(index: &mut LogIndex, frame: &RecoveredFrame) -> Result<(), Error> {
    match frame.kind {
        FrameKind::Truncate => index.truncate_after((frame.index != KEEP_NOTHING).then_some(frame.index.0)),
        FrameKind::Purge => index.purge(frame.term.0, frame.index.0),
        FrameKind::Blank | FrameKind::Normal | FrameKind::Membership => {
            if let Some(hole) = index.objection(frame.index.0) {
                let (file, offset) = (frame.pos.file, frame.pos.offset);
                let message = format!("L5: log of shard {}, file {file}, offset {offset}: {hole}", frame.shard);
                return Err(Error::new(Code::CorruptData, message));
            }
            index.push(frame.index.0, frame.term.0, Slot { pos: frame.pos, kind: frame.kind }, None);
        }
    }
    Ok(())
}

fn load_vote(votes: &Votes, shard: ShardId) -> Result<Option<Vote>, Error> {
    let corrupt = |error: String| {
        let message =
            format!("the vote of shard {shard} cannot be read, and without it the shard must not vote: {error}");
        Error::new(Code::CorruptData, message)
    };
    let bytes = votes.load(shard).map_err(|error| corrupt(error.to_string()))?;
    bytes.map(decode_vote).transpose().map_err(|error| corrupt(error.to_string()))
}

fn unknown_group(frame: &RecoveredFrame) -> Error {
    let message = format!("the log holds frames of shard {}, which this data directory does not have", frame.shard);
    Error::new(Code::CorruptData, message)
}
