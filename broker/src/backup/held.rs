//! A shard that is copied from this node.

use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyPiece};
use stratalog_proto::{Code, Error, ShardId};
use stratalog_storage::{File, Io, OpenMode};
use tokio::sync::OwnedSemaphorePermit;

use super::copy::{CopiedFile, ShardCopy};
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
    files: Vec<CopiedFile>,
    io: Arc<dyn Io>,
    /// The file that was read last.
    open: Option<(u64, Arc<dyn File>)>,
    _permit: OwnedSemaphorePermit,
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
        let (state, log) = (Some(state), Some(Arc::new(log)));
        Ok((Self { shard, state, log, last: at.index.0, files, io, open: None, _permit: permit }, head))
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
        let found = usize::try_from(segment).ok().and_then(|at| self.files.get(at));
        let found = found.ok_or_else(|| self.wrong("it has no such segment"))?;
        let (len, path) = (found.segment.bytes, found.path.clone());
        let (io, open) = (Arc::clone(&self.io), self.open.take().filter(|(at, _)| *at == segment));
        let (file, bytes) = blocking(move || {
            let failed = |error| Error::new(Code::Io, format!("cannot read {} for a backup: {error}", path.display()));
            let file = open.map_or_else(|| io.open(&path, OpenMode::Read), |(_, file)| Ok(file)).map_err(failed)?;
            let range = offset.min(len)..offset.saturating_add(PIECE_BYTES).min(len);
            let bytes = file.view(range).map_err(failed)?;
            Ok((file, bytes))
        })
        .await?;
        self.open = Some((segment, file));
        Ok(CopyAnswer { bytes, ..CopyAnswer::default() })
    }

    fn wrong(&self, what: &str) -> Error {
        Error::new(Code::InvalidRequest, format!("shard {} cannot be copied as it is asked for: {what}", self.shard))
    }
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("reading for a backup failed: {panic}"))))
}
