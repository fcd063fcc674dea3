//! The rows of one shard: its log, its tail and its segment files, and what follows from the three together.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, TopicId};
use stratalog_query::{RawRecords, ShardSnapshot};
use stratalog_storage::SegmentMeta;

use super::files::SegmentFiles;
use super::log::RowLog;
use super::materializer::{Progress, start_of_tail};
use super::tail::Tail;
use super::usage::Usage;

/// One shard's rows.
pub(super) struct ShardRows {
    pub(super) log: Arc<dyn RowLog>,
    pub(super) tail: Arc<Tail>,
    pub(super) files: Arc<SegmentFiles>,
    pub(super) progress: Arc<Progress>,
    /// Held while a topic of the shard is sealed: one at a time.
    pub(super) sealing: tokio::sync::Mutex<()>,
}

/// Where the offsets of a topic in a shard are (S1): all at or below the fence are in exactly one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Offsets assigned at or below the fence.
    pub(crate) offsets: u64,
    /// Rows that went to column segments, dropped ones included.
    pub(crate) sealed_rows: u64,
    /// Rows in the tail.
    pub(crate) tail_rows: u64,
    /// Offsets without a row: control batches and `raw` topics.
    pub(crate) rowless: u64,
    /// Rows in live segments.
    pub(crate) live_rows: u64,
}

impl Coverage {
    /// S1: rows + rowless = offsets.
    pub(crate) fn holds(&self) -> bool {
        self.sealed_rows + self.tail_rows + self.rowless == self.offsets && self.live_rows <= self.sealed_rows
    }
}

impl ShardRows {
    /// The rows of a shard whose log is applied, with an empty tail that starts at the row frontiers.
    pub(super) fn new(log: Arc<dyn RowLog>, usage: Arc<Usage>) -> Self {
        let tail = Tail::new(start_of_tail(&*log), usage);
        for topic in log.topics() {
            let sealed = log.offsets_through(topic.id, topic.row_frontier);
            tail.count_sealed(topic.id, sealed.expect("S1: it is known at the row frontier"));
        }
        let files = SegmentFiles::new(log.io().clone(), log.segments_dir(), log.id());
        Self {
            log,
            tail: Arc::new(tail),
            files: Arc::new(files),
            progress: Arc::default(),
            sealing: tokio::sync::Mutex::new(()),
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
            let (segments, frontier) = self.files.resolve(|| {
                let manifest = self.log.manifest();
                let live = manifest.topic(topic);
                let metas = live.map(|live| live.segments.values().cloned().collect()).unwrap_or_default();
                (metas, live.map_or(RaftIndex(0), |live| live.row_frontier))
            });
            let fence = tail.materialized;
            Ok(ShardSnapshot {
                shard: self.log.id(),
                fence,
                lag: self.log.applied().0.saturating_sub(fence.0),
                segments,
                tail: tail.chunks.iter().filter(|chunk| chunk.first_index > frontier).cloned().collect(),
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

    /// Accounts for every offset of a topic. `None` while it is held back, and while its rows are made from replay segments:
    /// how many offsets there are at an index behind the replay frontier is not known.
    pub(super) fn coverage(&self, topic: TopicId) -> Option<Coverage> {
        self.tail.read(topic, |tail| {
            if tail.held.is_some() {
                return None;
            }
            Some(Coverage {
                offsets: self.log.offsets_through(topic, tail.materialized)?,
                sealed_rows: tail.counts.sealed_rows,
                tail_rows: tail.counts.tail_rows,
                rowless: tail.counts.rowless,
                live_rows: self.settled_rows(topic, tail.chunks.first().map(|chunk| chunk.first_index)),
            })
        })
    }

    /// What does not agree of a topic's rows and offsets (S1). Nothing is said while the tail is rebuilt and has not come
    /// to the topic's row frontier: the offsets up to there count as sealed from the start.
    pub(super) fn disagreement(&self, topic: TopicId) -> Option<Coverage> {
        let frontier = self.log.manifest().topic(topic).map_or(RaftIndex(0), |live| live.row_frontier);
        if self.tail.materialized() < frontier {
            return None;
        }
        self.coverage(topic).filter(|coverage| !coverage.holds())
    }

    /// Rows of live segments; 0 while a seal is in the manifest whose rows are still in the tail as well.
    fn settled_rows(&self, topic: TopicId, tail_begins: Option<RaftIndex>) -> u64 {
        let manifest = self.log.manifest();
        let live = manifest.topic(topic);
        let live = live.filter(|live| tail_begins.is_none_or(|begins| live.row_frontier < begins));
        live.map_or(0, |live| live.segments.values().map(|meta| meta.rows).sum())
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
