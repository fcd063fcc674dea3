//! The rows of one shard: its log, its tail and its segment files, and what follows from the three together.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId};
use stratalog_query::{RawRecords, ShardSnapshot};
use stratalog_storage::SegmentMeta;

use super::files::SegmentFiles;
use super::garbage::Garbage;
use super::log::RowLog;
use super::materializer::{Progress, start_of_tail};
use super::rebuild::Rebuild;
use super::tail::Tail;
use super::usage::Usage;

/// One shard's rows.
pub(super) struct ShardRows {
    pub(super) log: Arc<dyn RowLog>,
    pub(super) tail: Arc<Tail>,
    pub(super) files: Arc<SegmentFiles>,
    pub(super) progress: Arc<Progress>,
    pub(super) rebuild: Rebuild,
    pub(super) garbage: Garbage,
    /// Held while a topic of the shard is sealed: one at a time.
    pub(super) sealing: tokio::sync::Mutex<()>,
    /// Held while segments of the shard are merged: one merge at a time.
    pub(super) merging: tokio::sync::Mutex<()>,
}

impl ShardRows {
    /// The rows of a shard whose log is applied, with an empty tail that starts at the row frontiers.
    pub(super) fn new(log: Arc<dyn RowLog>, usage: Arc<Usage>) -> Self {
        let tail = Arc::new(Tail::new(start_of_tail(&*log), usage.clone()));
        usage.register(Arc::downgrade(&tail));
        let files = SegmentFiles::new(log.io().clone(), log.segments_dir(), log.id());
        Self {
            rebuild: Rebuild::of(&*log),
            log,
            tail,
            files: Arc::new(files),
            progress: Arc::default(),
            garbage: Garbage::new(),
            sealing: tokio::sync::Mutex::new(()),
            merging: tokio::sync::Mutex::new(()),
        }
    }

    /// The rows of a topic, now: the tail's lock is taken first, then the manifest read, so that a seal that applies in
    /// between can neither hide a row nor show it twice (S1).
    ///
    /// # Errors
    /// Names what cannot be read, if the topic is held back.
    pub(super) fn snapshot(&self, topic: TopicId) -> Result<ShardSnapshot, Error> {
        let raw = Arc::new(LogRecords { log: self.log.clone(), topic });
        self.tail.read(topic, |tail| {
            if let Some(held) = tail.held {
                return Err(held.refusal(self.log.id(), topic));
            }
            let (segments, extent) = self.files.resolve(|| {
                let extent = self.log.extent(topic);
                (extent.segments.clone(), extent)
            });
            let fence = tail.materialized;
            Ok(ShardSnapshot {
                shard: self.log.id(),
                fence,
                lag: self.log.applied().0.saturating_sub(fence.0),
                segments,
                tail: tail.chunks.iter().filter(|chunk| chunk.first_index > extent.row_frontier).cloned().collect(),
                log_starts: Arc::new(extent.hiding()),
                ends: None,
                raw,
            })
        })
    }

    /// Whether rows of the topic are made of everything that is materialized.
    ///
    /// # Errors
    /// Names what cannot be read, if the topic is held back.
    pub(super) fn check_not_held(&self, topic: TopicId) -> Result<(), Error> {
        self.tail.held(topic).map_or(Ok(()), |held| Err(held.refusal(self.log.id(), topic)))
    }

    /// Waits until everything that is applied now is visible. Topics that are held back are not waited for.
    ///
    /// # Errors
    /// [`Code::Timeout`] at the deadline.
    pub(super) async fn caught_up(&self, deadline: Instant) -> Result<(), Error> {
        let target = self.log.applied();
        let mut materialized = self.tail.watch_materialized();
        let caught_up = materialized.wait_for(|index| *index >= target);
        if tokio::time::timeout_at(deadline.into(), caught_up).await.is_ok() {
            return Ok(());
        }
        let (shard, at) = (self.log.id(), self.tail.materialized());
        let message = format!("the rows of shard {shard} are made up to index {at}, not yet to {target}; try again");
        Err(Error::new(Code::Timeout, message))
    }

    /// The live segments of a topic.
    pub(super) fn segments(&self, topic: TopicId) -> Vec<Arc<SegmentMeta>> {
        let manifest = self.log.manifest();
        manifest.topic(topic).map(|live| live.segments.values().cloned().collect()).unwrap_or_default()
    }
}

/// `_raw`, read from the log.
struct LogRecords {
    log: Arc<dyn RowLog>,
    topic: TopicId,
}

impl RawRecords for LogRecords {
    fn raw(&self, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Bytes>>, Error> {
        self.log.values(self.topic, rows)
    }
}
