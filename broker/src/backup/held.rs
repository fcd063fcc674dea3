//! A shard that is copied from this node.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyPiece};
use stratalog_proto::{Code, Error, ShardId};
use stratalog_storage::{File, Io, OpenMode};
use tokio::sync::OwnedSemaphorePermit;

use super::copy::{CopiedFile, ShardCopy, damaged};
use crate::broker::Broker;
use crate::raft::{GroupCopy, LogCopy};

/// What one answer holds of a state or a file.
const PIECE_BYTES: u64 = 2 << 20;
/// Segments of one answer.
const LIST: usize = 4_096;

/// What is left of a copy: its state and its log go once they were read.
pub(super) struct HeldShard {
    shard: ShardId,
    state: Option<Bytes>,
    log: Option<Arc<LogCopy>>,
    last: u64,
    files: Arc<[CopiedFile]>,
    io: Arc<dyn Io>,
    /// The file that was read last.
    reading: Option<Reading>,
    broker: Weak<Broker>,
    _permit: OwnedSemaphorePermit,
}

/// A file as it is read from its beginning on.
struct Reading {
    segment: u64,
    file: Arc<dyn File>,
    /// Where the next piece begins if all of them are asked for in order.
    next: u64,
    hash: blake3::Hasher,
}

impl HeldShard {
    /// Opens a shard that this node leads.
    ///
    /// # Errors
    /// As [`ShardCopy::take`]; [`Code::Overloaded`] if too many are open.
    pub(super) async fn open(broker: &Arc<Broker>, shard: ShardId) -> Result<(Self, CopyAnswer), Error> {
        let full = |_| Error::new(Code::Overloaded, "this node has too many copies of shards open; try it later");
        let permit = Arc::clone(broker.copies()).try_acquire_owned().map_err(full)?;
        let copy = ShardCopy::take(broker, shard).await?;
        let head = CopyAnswer { head: Some(copy.head(broker, shard)), ..CopyAnswer::default() };
        let ShardCopy { group: GroupCopy { at, state, log, .. }, files, io } = copy;
        let (state, log, files) = (Some(state), Some(Arc::new(log)), files.into());
        let (last, broker) = (at.index.0, Arc::downgrade(broker));
        Ok((Self { shard, state, log, last, files, io, reading: None, broker, _permit: permit }, head))
    }

    /// # Errors
    /// [`Code::InvalidRequest`] for what is not there, or not any more; those of reading.
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<CopyAnswer, Error> {
        match ask {
            Ask::Open(_) => Err(self.wrong("it is open already")),
            Ask::StateFrom(from) => self.state(from),
            Ask::EntriesFrom(from) => self.entries(from).await,
            Ask::SegmentsFrom(from) => Ok(self.segments(from)),
            Ask::Piece(piece) => self.piece(piece).await,
        }
    }

    fn state(&mut self, from: u64) -> Result<CopyAnswer, Error> {
        let state = self.state.take().ok_or_else(|| self.wrong("its state was read to its end"))?;
        let len = state.len() as u64;
        let range = from.min(len)..from.saturating_add(PIECE_BYTES).min(len);
        let bytes = state.slice(range.start as usize..range.end as usize);
        self.state = (range.end < len).then_some(state);
        Ok(CopyAnswer { bytes, ..CopyAnswer::default() })
    }

    async fn entries(&mut self, from: u64) -> Result<CopyAnswer, Error> {
        let log = self.log.take().ok_or_else(|| self.wrong("its log was read to its end"))?;
        let read = Arc::clone(&log);
        let (bytes, next_entry) = blocking(move || read.entries(from)).await?;
        self.log = (next_entry <= self.last).then_some(log);
        Ok(CopyAnswer { bytes, next_entry, ..CopyAnswer::default() })
    }

    fn segments(&self, from: u64) -> CopyAnswer {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let segments = self.files.iter().skip(from).take(LIST).map(|file| file.segment.clone()).collect();
        CopyAnswer { segments, ..CopyAnswer::default() }
    }

    async fn piece(&mut self, CopyPiece { segment, offset }: CopyPiece) -> Result<CopyAnswer, Error> {
        let found = usize::try_from(segment).ok().filter(|at| *at < self.files.len());
        let at = found.ok_or_else(|| self.wrong("it has no such segment"))?;
        let (io, files) = (Arc::clone(&self.io), Arc::clone(&self.files));
        let before = self.reading.take().filter(|reading| reading.segment == segment);
        let read = blocking(move || {
            let wanted = &files[at].segment;
            let range = offset.min(wanted.bytes)..offset.saturating_add(PIECE_BYTES).min(wanted.bytes);
            let mut reading = before.map_or_else(|| Reading::begin(&*io, segment, &files[at]), Ok)?;
            let bytes = reading.read(range, &files[at])?;
            let is_another = reading.next == wanted.bytes && reading.hash.finalize().as_bytes() != &wanted.blake3[..];
            Ok((reading, bytes, is_another.then(|| files[at].examine())))
        });
        let (reading, bytes, damage) = read.await?;
        if let Some(what) = damage {
            let stopping = || Error::new(Code::Unavailable, "the node is stopping");
            let broker = self.broker.upgrade().ok_or_else(stopping)?;
            return Err(damaged(&broker, self.shard, &self.files[at].segment.name, &what));
        }
        self.reading = Some(reading);
        Ok(CopyAnswer { bytes, ..CopyAnswer::default() })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(Code::InvalidRequest, format!("shard {} cannot be copied as it is asked for: {what}", self.shard))
    }
}

impl Reading {
    fn begin(io: &dyn Io, segment: u64, copied: &CopiedFile) -> Result<Self, Error> {
        let file = io.open(&copied.path, OpenMode::Read).map_err(|error| unreadable(copied, &error))?;
        Ok(Self { segment, file, next: 0, hash: blake3::Hasher::new() })
    }

    fn read(&mut self, range: Range<u64>, copied: &CopiedFile) -> Result<Bytes, Error> {
        let bytes = self.file.view(range.clone()).map_err(|error| unreadable(copied, &error))?;
        if range.start == self.next {
            self.hash.update(&bytes);
            self.next = range.end;
        }
        Ok(bytes)
    }
}

fn unreadable(copied: &CopiedFile, error: &io::Error) -> Error {
    Error::new(Code::Io, format!("cannot read {} for a backup: {error}", copied.path.display()))
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("reading for a backup failed: {panic}"))))
}
