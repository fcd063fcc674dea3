//! The rows of one shard while this node leads it: its log, its tail and its segment files, and what follows from the three
//! together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Offset, PartitionId, Term, TopicId};
use stratalog_query::{RawRecords, ShardSnapshot, TailChunk};
use stratalog_storage::SegmentMeta;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::copies::SegmentCopies;
use super::cut::cut;
use super::extent::Extent;
use super::files::SegmentFiles;
use super::garbage::Garbage;
use super::log::RowLog;
use super::materializer::{Progress, start_of_tail};
use super::rebuild::Rebuild;
use super::replica::Replica;
use super::tail::Tail;
use super::usage::Usage;
use crate::outcome::CommandResult;

/// How often it is looked whether a file that is waited for is here.
const LOOK: Duration = Duration::from_millis(20);
/// How long a query waits for a whole copy of a damaged file.
const REPLACED_WAIT: Duration = Duration::from_secs(2);

/// One shard's rows, of one term of leadership.
pub(super) struct ShardRows {
    pub(super) log: Arc<dyn RowLog>,
    /// In which this node leads the shard, or did.
    pub(super) term: Term,
    pub(super) tail: Arc<Tail>,
    pub(super) files: Arc<SegmentFiles>,
    pub(super) copies: Arc<dyn SegmentCopies>,
    pub(super) progress: Arc<Progress>,
    pub(super) rebuild: Rebuild,
    pub(super) garbage: Arc<Garbage>,
    /// As of the [replica](Replica::sealing).
    pub(super) sealing: Arc<tokio::sync::Mutex<()>>,
    /// As of the [replica](Replica::merging).
    pub(super) merging: Arc<tokio::sync::Mutex<()>>,
    wanted: Arc<Notify>,
    /// Cancelled when the leadership ends.
    pub(super) stop: CancellationToken,
}

impl ShardRows {
    /// The rows of a replica that has begun to lead in a term, with an empty tail that starts at the row frontiers.
    pub(super) fn new(replica: &Replica, term: Term, usage: Arc<Usage>) -> Self {
        let log = replica.log.clone();
        let tail = Arc::new(Tail::new(start_of_tail(&*log), usage.clone()));
        usage.register(Arc::downgrade(&tail));
        Self {
            rebuild: Rebuild::of(&*log),
            log,
            term,
            tail,
            files: replica.files.clone(),
            copies: replica.copies.clone(),
            progress: Arc::default(),
            garbage: replica.garbage.clone(),
            sealing: replica.sealing.clone(),
            merging: replica.merging.clone(),
            wanted: replica.wanted.clone(),
            stop: replica.stop.child_token(),
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
            let (segments, (extent, chunks)) = self.files.resolve(|| {
                let (extent, chunks) = self.unsealed(topic, tail.chunks);
                (extent.segments.clone(), (extent, chunks))
            });
            let fence = tail.materialized;
            Ok(ShardSnapshot {
                shard: self.log.id(),
                fence,
                lag: self.log.applied().0.saturating_sub(fence.0),
                segments,
                tail: chunks,
                log_starts: Arc::new(extent.hiding()),
                ends: None,
                raw,
            })
        })
    }

    /// What of a topic is in files, and those of the chunks that are not, at one moment.
    fn unsealed(&self, topic: TopicId, chunks: &[Arc<TailChunk>]) -> (Extent, Vec<Arc<TailChunk>>) {
        let extent = self.log.extent(topic);
        let above = |chunk: &&Arc<TailChunk>| chunk.first_index > extent.row_frontier;
        let straddles = |chunk: &Arc<TailChunk>| !above(&chunk) && chunk.last_index > extent.row_frontier;
        if !chunks.iter().any(straddles) {
            let chunks = chunks.iter().filter(above).cloned().collect();
            return (extent, chunks);
        }
        let (extent, sealed) = self.log.extent_and_sealed(topic);
        let chunks = chunks.iter().filter_map(|chunk| cut(chunk, &sealed)).collect();
        (extent, chunks)
    }

    /// Waits until the files of all live segments of a topic are here, and a moment for whole copies of those that are damaged:
    /// most of what is asked for may not need them, and what does says what is wrong. Where nobody else could have them, nothing
    /// is waited for.
    ///
    /// # Errors
    /// [`Code::Unavailable`] at the deadline, saying how many are missing.
    pub(super) async fn wait_for_files(&self, topic: TopicId, deadline: Instant) -> Result<(), Error> {
        let replaced = Instant::now() + REPLACED_WAIT;
        loop {
            let live = self.segments(topic);
            let (missing, absent) = (self.files.missing(live.iter()).len(), self.files.absent(live.iter()));
            let is_whole = missing == 0 && !self.files.has_suspects();
            let now = Instant::now();
            if is_whole || absent == 0 && now >= replaced.min(deadline) || !self.copies.may_have(self.log.id()) {
                return Ok(());
            }
            if now >= deadline {
                let shard = self.log.id();
                let message = format!(
                    "{absent} column segments of topic {topic} in shard {shard} are not on this node yet; they are fetched \
                     from other replicas, ask again in a moment"
                );
                return Err(Error::new(Code::Unavailable, message));
            }
            self.wanted.notify_one();
            tokio::time::sleep(LOOK.min(deadline.saturating_duration_since(now))).await;
        }
    }

    /// Whether this leadership goes on, as far as is known.
    ///
    /// # Errors
    /// [`Code::NotLeader`].
    pub(super) fn check_leads(&self) -> Result<(), Error> {
        match self.stop.is_cancelled() || !self.log.leads_in(self.term) {
            true => Err(self.no_longer()),
            false => Ok(()),
        }
    }

    /// That this leadership has ended.
    pub(super) fn no_longer(&self) -> Error {
        Error::new(Code::NotLeader, format!("this node leads shard {} no longer", self.log.id()))
    }

    /// Proposes a command that names files of this leadership, in its term alone: other replicas have let go of them once
    /// an entry of a later one is applied.
    ///
    /// # Errors
    /// As [`Shard::propose_in`](crate::shard::Shard::propose_in).
    pub(super) async fn propose(&self, command: Command) -> Result<CommandResult, Error> {
        self.log.propose_in(self.term, command).await
    }

    /// Has a majority of the replicas have the files of segments that were just built here, before they are proposed.
    ///
    /// # Errors
    /// Those of [`SegmentCopies::hold`]; [`Code::NotLeader`] once this node leads no longer.
    pub(super) async fn hold(&self, segments: &[SegmentMeta]) -> Result<(), Error> {
        self.files.arrived(segments.iter().map(|meta| meta.id));
        if segments.is_empty() {
            return Ok(());
        }
        tokio::select! {
            held = self.copies.hold(self.log.id(), self.term, segments) => held,
            () = self.stop.cancelled() => Err(self.no_longer()),
        }
    }

    /// Removes the files of segments that do not count, and will not (S2), here and elsewhere.
    pub(super) async fn discard(&self, segments: Vec<SegmentMeta>) {
        self.copies.release(self.log.id(), self.term, &segments);
        let files = self.files.clone();
        // A file that stays behind is garbage, and collected later.
        let _ = tokio::task::spawn_blocking(move || files.discard(&segments)).await;
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
