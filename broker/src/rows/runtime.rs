//! All rows of a node: its threads and tasks, and what the rest of the broker asks of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, ShardId, TopicId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::SegmentMeta;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission;
use super::catalog::{Directory, Schemas};
use super::log::RowLog;
use super::materializer::Materializer;
use super::options::RowsOptions;
use super::retention::{ends_before, expired};
use super::seal::Sealer;
#[cfg(test)]
use super::shard_rows::Coverage;
use super::shard_rows::ShardRows;
use super::usage::Usage;
use crate::fatal;

/// How long a seal on demand waits for the rows of what is in the log.
const CATCH_UP: Duration = Duration::from_secs(30);

/// The rows of all shards of a node. It is the catalogue that queries read.
pub(crate) struct Rows {
    pub(super) directory: Arc<dyn Directory>,
    pub(super) schemas: Arc<Schemas>,
    shards: Vec<Arc<ShardRows>>,
    options: RowsOptions,
    usage: Arc<Usage>,
    sealer: Arc<Sealer>,
    stop: CancellationToken,
    tasks: TaskTracker,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a drop removed, or would remove.
#[derive(Clone, Debug, Default)]
pub(crate) struct DroppedSegments {
    pub(crate) segments: Vec<(ShardId, Arc<SegmentMeta>)>,
    /// Spent on Drop commands, from proposal to application; without the seal between them.
    pub(crate) elapsed: Duration,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowsStats {
    pub(crate) tail_bytes: u64,
    pub(crate) tail_rows: u64,
    /// Of the shard that is furthest behind.
    pub(crate) lag: Duration,
    /// Raft entries that are applied and not yet rows, of all shards.
    pub(crate) lag_entries: u64,
    /// Topics that are held back since a batch of theirs cannot be read, counted in each of their shards.
    pub(crate) held_topics: u64,
    pub(crate) rows_made: u64,
    pub(crate) dead_rows_made: u64,
    pub(crate) bytes_parsed: u64,
    pub(crate) rows_sealed: u64,
    pub(crate) segments_sealed: u64,
    pub(crate) bytes_sealed: u64,
    pub(crate) seal_failures: u64,
}

impl Rows {
    /// Starts making rows of shards whose logs are applied. Files that no manifest names are removed first.
    ///
    /// # Errors
    /// [`Code::Io`] if the segments cannot be listed, or a thread not be started.
    pub(crate) async fn start(
        logs: Vec<Arc<dyn RowLog>>,
        directory: Arc<dyn Directory>,
        options: RowsOptions,
    ) -> Result<Arc<Self>, Error> {
        let usage = Arc::new(Usage::default());
        let shards: Vec<_> = logs.into_iter().map(|log| Arc::new(ShardRows::new(log, usage.clone()))).collect();
        for shard in &shards {
            collect_garbage(shard).await?;
            unlink_when_removed(shard);
        }
        let rows = Arc::new(Self {
            directory,
            schemas: Arc::default(),
            shards,
            sealer: Arc::new(Sealer::new(options.clone(), usage.clone())),
            options,
            usage,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            threads: Mutex::default(),
        });
        rows.start_materializers()?;
        for shard in &rows.shards {
            rows.tasks.spawn(rows.sealer.clone().run(shard.clone(), rows.stop.clone()));
        }
        rows.tasks.spawn(retain(Arc::downgrade(&rows), rows.options.retention_interval, rows.stop.clone()));
        Ok(rows)
    }

    fn start_materializers(&self) -> Result<(), Error> {
        for shard in &self.shards {
            let id = shard.log.id();
            let materializer = Materializer {
                log: shard.log.clone(),
                tail: shard.tail.clone(),
                usage: self.usage.clone(),
                progress: shard.progress.clone(),
                options: self.options.clone(),
                stop: self.stop.clone(),
            };
            let runtime = Handle::current();
            let run = move || {
                let _halt = HaltOnPanic { shard: id, stop: materializer.stop.clone() };
                materializer.run(&runtime);
            };
            let thread = std::thread::Builder::new().name(format!("rows-{id}")).spawn(run);
            let thread = thread.map_err(|error| {
                Error::new(Code::Io, format!("cannot start the thread that makes rows of shard {id}: {error}"))
            })?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    /// Waits until everything that is applied now is visible. Topics that are held back are not waited for.
    ///
    /// # Errors
    /// [`Code::Timeout`] at the deadline: it goes on in the background.
    pub(crate) async fn caught_up(&self, deadline: Instant) -> Result<(), Error> {
        for shard in &self.shards {
            shard.caught_up(deadline).await?;
        }
        Ok(())
    }

    /// Returns when a batch of the topic may be produced to the shard: its rows keep up with its log.
    ///
    /// # Errors
    /// [`Code::Overloaded`] after [`RowsOptions::throttle_wait`]; nothing was produced.
    pub(crate) async fn admit(&self, shard: ShardId, topic: TopicId) -> Result<(), Error> {
        match self.shards.iter().find(|rows| rows.log.id() == shard) {
            Some(rows) => admission::admit(rows, topic, &self.usage, &self.options).await,
            None => Ok(()),
        }
    }

    /// Seals the rows of all records of a topic that are applied now.
    ///
    /// # Errors
    /// Why rows of a shard are still in the tail; others may be sealed.
    pub(crate) async fn seal_now(&self, topic: &TopicInfo) -> Result<(), Error> {
        for shard in self.shards_of(topic) {
            shard.caught_up(Instant::now() + CATCH_UP).await?;
            self.sealer.seal(shard, topic.id).await?;
            shard.check_not_held(topic.id)?;
        }
        Ok(())
    }

    /// Drops every segment whose time bucket ends at or before a time, seals the tail, and drops what that made: at most
    /// two Drop commands a shard. A dry run seals, and only says what it would drop.
    ///
    /// # Errors
    /// As [`seal_now`](Self::seal_now), and what proposing a Drop reports; some segments may be dropped already.
    pub(crate) async fn drop_before(
        &self,
        topic: &TopicInfo,
        before_ns: i64,
        dry_run: bool,
    ) -> Result<DroppedSegments, Error> {
        let mut dropped = DroppedSegments::default();
        if !dry_run {
            // Before anything is sealed: on a full disk this is what makes the room that a seal needs.
            self.drop_sealed(topic, before_ns, &mut dropped).await?;
        }
        self.seal_now(topic).await?;
        if dry_run {
            dropped.segments = self.sealed_before(topic, before_ns);
        } else {
            self.drop_sealed(topic, before_ns, &mut dropped).await?;
        }
        Ok(dropped)
    }

    async fn drop_sealed(&self, topic: &TopicInfo, before_ns: i64, dropped: &mut DroppedSegments) -> Result<(), Error> {
        let started = Instant::now();
        for shard in self.shards_of(topic) {
            let plan = ends_before(&shard.segments(topic.id), before_ns);
            drop_segments(shard, topic.id, &plan).await?;
            dropped.segments.extend(plan.into_iter().map(|meta| (shard.log.id(), meta)));
        }
        dropped.elapsed += started.elapsed();
        Ok(())
    }

    fn sealed_before(&self, topic: &TopicInfo, before_ns: i64) -> Vec<(ShardId, Arc<SegmentMeta>)> {
        let of_shard = |shard: &Arc<ShardRows>| {
            let id = shard.log.id();
            ends_before(&shard.segments(topic.id), before_ns)
                .into_iter()
                .map(move |meta| (id, meta))
                .collect::<Vec<_>>()
        };
        self.shards_of(topic).flat_map(of_shard).collect()
    }

    /// Drops what has expired, in every shard that this node leads; the number of segments.
    pub(super) async fn drop_expired(&self, now_ns: i64) -> usize {
        let mut count = 0;
        for shard in self.shards.iter().filter(|shard| shard.log.is_leader()) {
            for topic in shard.log.topics() {
                let Some(retention_ns) = topic.config.retention_ns else { continue };
                let plan = expired(&shard.segments(topic.id), retention_ns, now_ns);
                match drop_segments(shard, topic.id, &plan).await {
                    Ok(()) => count += plan.len(),
                    Err(error) => {
                        let shard = shard.log.id();
                        tracing::warn!(%shard, topic = %topic.id, %error, "cannot drop expired segments; trying again");
                    }
                }
            }
        }
        count
    }

    /// Where the offsets of a topic are, for each shard that hosts it (S1).
    #[cfg(test)]
    pub(crate) fn coverage(&self, topic: &TopicInfo) -> Vec<(ShardId, Coverage)> {
        let covered = |shard: &Arc<ShardRows>| Some((shard.log.id(), shard.coverage(topic.id)?));
        self.shards_of(topic).filter_map(covered).collect()
    }

    /// Says so where an offset is neither a row nor counted as rowless.
    fn audit(&self) {
        for topic in self.directory.topics() {
            let disagreement = |shard: &Arc<ShardRows>| Some((shard.log.id(), shard.disagreement(topic.id)?));
            for (shard, coverage) in self.shards_of(&topic).filter_map(disagreement) {
                tracing::error!(%shard, topic = topic.name, ?coverage, "S1: rows and offsets do not agree");
            }
        }
    }

    /// Numbers for metrics.
    pub(crate) fn stats(&self) -> RowsStats {
        let sum = |f: fn(&ShardRows) -> u64| self.shards.iter().map(|shard| f(shard)).sum();
        RowsStats {
            tail_bytes: self.usage.bytes() as u64,
            tail_rows: self.usage.rows() as u64,
            lag: self.shards.iter().map(|shard| shard.progress.lag()).max().unwrap_or_default(),
            lag_entries: sum(|shard| shard.log.applied().0.saturating_sub(shard.tail.materialized().0)),
            held_topics: sum(|shard| shard.tail.held_count() as u64),
            rows_made: sum(|shard| shard.progress.rows.load(Ordering::Relaxed)),
            dead_rows_made: sum(|shard| shard.progress.dead_rows.load(Ordering::Relaxed)),
            bytes_parsed: sum(|shard| shard.progress.bytes.load(Ordering::Relaxed)),
            rows_sealed: self.sealer.rows.load(Ordering::Relaxed),
            segments_sealed: self.sealer.segments.load(Ordering::Relaxed),
            bytes_sealed: self.sealer.bytes.load(Ordering::Relaxed),
            seal_failures: self.sealer.failures.load(Ordering::Relaxed),
        }
    }

    /// The shards that host a partition of the topic, ascending.
    pub(super) fn shards_of(&self, topic: &TopicInfo) -> impl Iterator<Item = &Arc<ShardRows>> {
        let ids: HashSet<ShardId> = topic.shards.iter().copied().collect();
        self.shards.iter().filter(move |shard| ids.contains(&shard.log.id()))
    }

    /// Stops threads and tasks. The tail is not sealed: the log has it.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = joined.await;
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A shard without a materializer would answer queries from an ever older state: it is better to stop and restart.
struct HaltOnPanic {
    shard: ShardId,
    stop: CancellationToken,
}

impl Drop for HaltOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.stop.is_cancelled() {
            fatal::halt(&format!("S1: the thread that makes rows of shard {} panicked", self.shard));
        }
    }
}

async fn collect_garbage(shard: &ShardRows) -> Result<(), Error> {
    let (files, manifest) = (shard.files.clone(), shard.log.manifest());
    let collected = tokio::task::spawn_blocking(move || files.collect_garbage(&manifest)).await;
    let removed =
        collected.map_err(|panic| Error::new(Code::Internal, format!("garbage collection failed: {panic}")))??;
    if removed > 0 {
        tracing::info!(shard = %shard.log.id(), removed, "removed segment files that no manifest names");
    }
    Ok(())
}

/// Unlinking happens on a blocking thread, not in apply.
fn unlink_when_removed(shard: &ShardRows) {
    let (files, runtime) = (shard.files.clone(), Handle::current());
    shard.log.on_segments_removed(Box::new(move |removed| {
        let (files, removed) = (files.clone(), removed.to_vec());
        runtime.spawn_blocking(move || files.condemn(&removed));
    }));
}

async fn drop_segments(shard: &ShardRows, topic: TopicId, plan: &[Arc<SegmentMeta>]) -> Result<(), Error> {
    if plan.is_empty() {
        return Ok(());
    }
    let segments = plan.iter().map(|meta| meta.id.to_bytes()).collect();
    let command = Command::Drop(internal::Drop { topic: topic.to_bytes(), segments });
    shard.log.propose(command).await.map(|_| ())
}

/// Applies retention, and checks S1, from time to time.
async fn retain(rows: std::sync::Weak<Rows>, interval: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        let Some(rows) = rows.upgrade() else { return };
        rows.audit();
        rows.schemas.retain(&rows.directory.topics().iter().map(|topic| topic.id).collect());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let dropped = rows.drop_expired(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)).await;
        if dropped > 0 {
            tracing::info!(dropped, "dropped expired segments");
        }
    }
}
