//! The merger: picks what pays, builds on a blocking thread within a rate, and proposes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, ShardId, TopicId};
use stratalog_storage::sabotage::{Bug, planted};
use stratalog_storage::{SegmentHandle, SegmentMeta};
use tokio_util::sync::CancellationToken;

use super::blame::Blame;
use super::build::{BuildFailed, Job, build};
use super::commit::commit;
use super::edit::{Edit, Merged, Rewritten};
use super::policy::{Limits, View};
use super::room::Room;
use super::troubles::Troubles;
use crate::pace::Pace;
use crate::rows::log::HostedTopic;
use crate::rows::options::RowsOptions;
use crate::rows::replica::Replicas;
use crate::rows::shard_rows::ShardRows;
use crate::rows::usage::Usage;

/// How often it is looked for something to merge.
const TICK: Duration = Duration::from_secs(1);
/// How often even a shard whose manifest is as it was is looked at: its log starts may have moved.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A merge waits while rows are this far behind the log.
const MAX_LAG: Duration = Duration::from_secs(1);
/// How often a merge to the end begins again because somebody else took an input away.
const MAX_CONFLICTS: usize = 10;

/// Merges segments of all shards, one merge of a shard at a time.
pub(in crate::rows) struct Merger {
    options: RowsOptions,
    usage: Arc<Usage>,
    /// Of work in the background.
    pace: Arc<Pace>,
    /// Of work that somebody waits for.
    full_speed: Arc<Pace>,
    pub(super) room: Arc<Room>,
    put_aside: Mutex<HashMap<(ShardId, TopicId), PutAside>>,
    /// Merges that came to count.
    pub(in crate::rows) merges: AtomicU64,
    /// Bytes of their inputs.
    pub(in crate::rows) bytes_read: AtomicU64,
    /// Bytes of segment files that were written, whether they came to count or not.
    pub(in crate::rows) bytes_written: AtomicU64,
    /// Merges that did not come to count.
    pub(in crate::rows) failures: AtomicU64,
}

/// Segments that were tried and are better left alone, and whether each had a copy's bytes by then.
type PutAside = HashMap<SegmentId, bool>;

/// What of a topic is to be merged, and how.
struct Work<'a> {
    shard: &'a Arc<ShardRows>,
    topic: &'a HostedTopic,
    inputs: Vec<Arc<SegmentMeta>>,
    edit: Edit,
    must: bool,
    pace: &'a Arc<Pace>,
}

/// A merge that does not count, or of which nobody knows.
struct NotMerged {
    error: Error,
    blame: Blame,
}

impl From<Error> for NotMerged {
    fn from(error: Error) -> Self {
        Self { error, blame: Blame::Elsewhere }
    }
}

/// What came of looking for something to merge in a shard.
enum Looked {
    /// There was something.
    Tried,
    /// Nothing, until the shard changes.
    NothingToDo,
    /// There may be something another time.
    TooEarly,
}

impl Merger {
    pub(in crate::rows) fn new(options: RowsOptions, usage: Arc<Usage>, stop: CancellationToken) -> Self {
        Self {
            pace: Arc::new(Pace::new(options.merge_rate_bytes, stop.clone())),
            full_speed: Arc::new(Pace::new(0, stop)),
            room: Arc::new(Room::new(options.merge_held_bytes)),
            options,
            usage,
            put_aside: Mutex::default(),
            merges: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Merges what pays in the shards that are led here, one after the other, until it is stopped. Does nothing if the rate
    /// is 0.
    pub(in crate::rows) async fn run(self: Arc<Self>, replicas: Arc<Replicas>, stop: CancellationToken) {
        let mut looked: HashMap<ShardId, (u64, Instant)> = HashMap::new();
        let (mut troubles, mut pause) = (Troubles::default(), TICK);
        if self.options.merge_rate_bytes == 0 {
            return;
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            pause = TICK;
            for shard in &replicas.led() {
                let version = shard.log.manifest().version();
                let known = looked.get(&shard.log.id());
                let is_known = known.is_some_and(|(seen, at)| *seen == version && at.elapsed() < LOOK_AGAIN);
                if is_known || troubles.is_full() || self.is_pressed(shard) {
                    continue;
                }
                match self.merge_next(shard, &mut troubles).await {
                    Looked::Tried => pause = Duration::ZERO,
                    Looked::NothingToDo => _ = looked.insert(shard.log.id(), (version, Instant::now())),
                    Looked::TooEarly => {}
                }
            }
        }
    }

    /// Whether rows that are to become visible need the machine first.
    fn is_pressed(&self, shard: &ShardRows) -> bool {
        self.usage.bytes() > self.options.tail_budget_bytes / 2 || shard.progress.lag() > MAX_LAG
    }

    /// Does the first merge that pays in a shard and does not fail.
    async fn merge_next(self: &Arc<Self>, shard: &Arc<ShardRows>, troubles: &mut Troubles) -> Looked {
        let (id, topics, mut looked) = (shard.log.id(), shard.log.topics(), Looked::NothingToDo);
        let is_hosted = |known: TopicId| topics.iter().any(|topic| topic.id == known);
        troubles.retain(id, is_hosted);
        self.put_aside.lock().retain(|(of, topic), _| *of != id || is_hosted(*topic));
        for topic in topics {
            if troubles.is_waiting(id, topic.id) {
                looked = Looked::TooEarly;
                continue;
            }
            let Some(inputs) = self.plan(shard, &topic, false) else { continue };
            match self.merge(shard, &topic, inputs, &self.pace).await {
                Ok(_) => {
                    troubles.is_over(id, topic.id);
                    return Looked::Tried;
                }
                Err(error) => {
                    troubles.failed(id, topic.id, &error);
                    looked = Looked::TooEarly;
                }
            }
        }
        looked
    }

    /// Merges segments of a topic in a shard until each bucket has as few as possible, and no row lies below log start; what
    /// that did.
    ///
    /// # Errors
    /// Why it did not come to the end; what was merged stays merged.
    pub(in crate::rows) async fn merge_all(
        self: &Arc<Self>,
        shard: &Arc<ShardRows>,
        topic: TopicId,
    ) -> Result<Merged, Error> {
        let (mut done, mut conflicts) = (Merged::default(), 0);
        loop {
            let hosted = hosted(shard, topic)?;
            let Some(inputs) = self.plan(shard, &hosted, true) else { return Ok(done) };
            match self.merge(shard, &hosted, inputs, &self.full_speed).await {
                Ok(merged) => done.add(merged),
                Err(error) if error.code == Code::Conflict && conflicts < MAX_CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn plan(&self, shard: &ShardRows, topic: &HostedTopic, to_the_end: bool) -> Option<Vec<Arc<SegmentMeta>>> {
        let mut segments = shard.segments(topic.id);
        let put_aside = self.put_aside_of(shard, topic.id, &segments);
        // What is still to be fetched is merged once it is here.
        segments.retain(|meta| shard.files.has(meta.id));
        if segments.is_empty() {
            return None;
        }
        let log_starts: BTreeMap<PartitionId, Offset> = log_starts(shard, topic.id).into_iter().collect();
        let (segments, log_starts, put_aside) = (&segments[..], &log_starts, &put_aside);
        let view =
            View { segments, log_starts, bucket_ns: topic.config.bucket_ns, put_aside, limits: Limits::default() };
        view.next(to_the_end)
    }

    /// The segments of a topic that are left alone. Those that live no longer are forgotten, and those that got a whole copy
    /// in the place of a damaged file.
    fn put_aside_of(&self, shard: &ShardRows, topic: TopicId, live: &[Arc<SegmentMeta>]) -> HashSet<SegmentId> {
        let (mut all, key) = (self.put_aside.lock(), (shard.log.id(), topic));
        let Some(known) = all.get_mut(&key) else { return HashSet::new() };
        let live: HashSet<SegmentId> = live.iter().map(|meta| meta.id).collect();
        known.retain(|id, replaced| live.contains(id) && *replaced == shard.files.is_replaced(*id));
        let left_alone: HashSet<SegmentId> = known.keys().copied().collect();
        if left_alone.is_empty() {
            all.remove(&key);
        }
        left_alone
    }

    /// Merges segments. Where they do not go together, those that do are merged none the less, and the others put aside: that
    /// is no error.
    async fn merge(
        self: &Arc<Self>,
        shard: &Arc<ShardRows>,
        topic: &HostedTopic,
        inputs: Vec<Arc<SegmentMeta>>,
        pace: &Arc<Pace>,
    ) -> Result<Merged, Error> {
        let (mut merged, mut parts) = (Merged::default(), vec![inputs]);
        while let Some(inputs) = parts.pop() {
            let work = Work { shard, topic, inputs: inputs.clone(), edit: Edit::default(), must: false, pace };
            match self.carry_out(work).await {
                Ok(rewritten) => merged.add(Merged::of(inputs.len(), &rewritten)),
                Err(NotMerged { error, blame }) => {
                    let Some(apart) = blame.apart(&inputs) else { return Err(error) };
                    let put_aside = apart.put_aside.iter().map(|meta| (meta.id, shard.files.is_replaced(meta.id)));
                    let put_aside: PutAside = put_aside.collect();
                    let (shard, topic, segments) = (shard.log.id(), topic.id, inputs.len());
                    let left_apart = put_aside.len();
                    tracing::info!(%shard, %topic, segments, left_apart, %error, "segments are not merged with each other");
                    self.put_aside.lock().entry((shard, topic)).or_default().extend(put_aside);
                    merged.left_apart += left_apart as u64;
                    parts.extend(apart.again);
                }
            }
        }
        Ok(merged)
    }

    /// Puts segments in the place of `inputs` in which rows are changed as `edit` says, and none lies below log start. Does
    /// nothing where nothing would change.
    ///
    /// Runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// [`Code::Conflict`] if an input is no longer live, or has no row that a replacement stands for: plan again;
    /// what reading, writing or proposing reports. Unless its outcome is unknown, nothing has changed.
    pub(in crate::rows) async fn rewrite(
        self: &Arc<Self>,
        shard: &Arc<ShardRows>,
        topic: TopicId,
        inputs: &[Arc<SegmentMeta>],
        edit: Edit,
    ) -> Result<Rewritten, Error> {
        let topic = hosted(shard, topic)?;
        let inputs = inputs.to_vec();
        let work = Work { shard, topic: &topic, inputs, edit, must: true, pace: &self.full_speed };
        self.carry_out(work).await.map_err(|failed| failed.error)
    }

    async fn carry_out(self: &Arc<Self>, work: Work<'_>) -> Result<Rewritten, NotMerged> {
        let (merger, shard, topic) = (self.clone(), work.shard.clone(), work.topic.clone());
        let Work { inputs, edit, must, pace, .. } = work;
        let pace = pace.clone();
        let merging = tokio::spawn(async move {
            let _one_at_a_time = shard.merging.lock().await;
            shard.check_leads()?;
            let handles = live(&shard, topic.id, &inputs)?;
            let log_starts = log_starts(&shard, topic.id);
            let job = |inputs, edit| Job {
                io: shard.log.io().clone(),
                dir: shard.log.segments_dir().to_owned(),
                shard: shard.log.id(),
                topic: topic.id,
                bucket_ns: topic.config.bucket_ns,
                index_budget_bytes: merger.options.index_budget_bytes,
                inputs,
                log_starts: log_starts.clone(),
                edit,
                must,
                pace: pace.clone(),
                room: merger.room.clone(),
            };
            if planted(Bug::MergeWithoutCompare) {
                let first = job(handles.clone(), edit.clone());
                merger.build_and_commit(&shard, topic.id, &inputs, &log_starts, first).await?;
            }
            let done = merger.build_and_commit(&shard, topic.id, &inputs, &log_starts, job(handles, edit)).await;
            let counter = if done.is_ok() { &merger.merges } else { &merger.failures };
            counter.fetch_add(1, Ordering::Relaxed);
            done
        });
        merging.await.unwrap_or_else(|panic| {
            Err(NotMerged::from(Error::new(Code::Internal, format!("a merge failed: {panic}"))))
        })
    }

    async fn build_and_commit(
        &self,
        shard: &Arc<ShardRows>,
        topic: TopicId,
        inputs: &[Arc<SegmentMeta>],
        log_starts: &[(PartitionId, Offset)],
        job: Job,
    ) -> Result<Rewritten, NotMerged> {
        let built = match tokio::task::spawn_blocking(move || build(&job)).await {
            Ok(Ok(Some(built))) => built,
            Ok(Ok(None)) => return Ok(Rewritten::default()),
            Ok(Err(BuildFailed { error, blame, written })) => {
                shard.discard(written).await;
                return Err(NotMerged { error, blame });
            }
            Err(panic) => {
                shard.garbage.suspect();
                let message = format!("building segments of topic {topic} failed: {panic}");
                return Err(NotMerged { error: Error::new(Code::Internal, message), blame: Blame::Together });
            }
        };
        let bytes = |metas: &mut dyn Iterator<Item = u64>| metas.sum();
        self.bytes_read.fetch_add(bytes(&mut inputs.iter().map(|meta| meta.bytes)), Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes(&mut built.segments.iter().map(|meta| meta.bytes)), Ordering::Relaxed);
        let rewritten = commit(shard, topic, inputs, log_starts, built).await?;
        let (shard, inputs, outputs) = (shard.log.id(), inputs.len(), rewritten.segments.len());
        tracing::debug!(%shard, %topic, inputs, outputs, "merged");
        Ok(rewritten)
    }
}

fn hosted(shard: &ShardRows, topic: TopicId) -> Result<HostedTopic, Error> {
    shard.log.topics().into_iter().find(|hosted| hosted.id == topic).ok_or_else(|| {
        let message = format!("cannot rewrite segments of topic {topic}: it is no longer in shard {}", shard.log.id());
        Error::new(Code::UnknownTopic, message)
    })
}

/// The log starts of a topic's partitions, but for those at 0.
pub(in crate::rows) fn log_starts(shard: &ShardRows, topic: TopicId) -> Vec<(PartitionId, Offset)> {
    let partitions = shard.log.partitions(topic).into_iter().map(|info| (info.partition, info.log_start));
    partitions.filter(|(_, start)| *start > Offset(0)).collect()
}

/// Handles of the inputs, which keep their files in place.
fn live(shard: &ShardRows, topic: TopicId, inputs: &[Arc<SegmentMeta>]) -> Result<Vec<Arc<SegmentHandle>>, Error> {
    let (handles, missing) = shard.files.resolve(|| {
        let manifest = shard.log.manifest();
        let is_live =
            |meta: &&Arc<SegmentMeta>| manifest.topic(topic).is_some_and(|live| live.segments.contains_key(&meta.id));
        let live: Vec<_> = inputs.iter().filter(is_live).cloned().collect();
        let missing = inputs.len() - live.len();
        (live, missing)
    });
    if missing > 0 || handles.is_empty() {
        let message = format!("S2: {missing} of {} segments to be merged are no longer live", inputs.len());
        return Err(Error::new(Code::Conflict, message));
    }
    Ok(handles)
}
