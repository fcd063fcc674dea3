//! All rows of a node: its threads and tasks, and what the rest of the broker asks of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, ShardId, TopicId};
use stratalog_query::TopicInfo;
use stratalog_storage::RowCounts;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission;
use super::catalog::{Directory, Schemas};
#[cfg(test)]
use super::coverage::Coverage;
use super::dead_letters::Turns;
use super::garbage;
use super::log::RowLog;
use super::materializer::Materializer;
use super::merge::{Merged, Merger};
use super::options::RowsOptions;
use super::retention::retain;
use super::seal::Sealer;
use super::shard_rows::ShardRows;
use super::usage::Usage;
use crate::fatal;

/// How long a seal on demand waits for the rows of what is in the log.
pub(super) const CATCH_UP: Duration = Duration::from_secs(30);

/// The rows of all shards of a node. It is the catalogue that queries read.
pub(crate) struct Rows {
    pub(super) directory: Arc<dyn Directory>,
    pub(super) schemas: Arc<Schemas>,
    pub(super) shards: Vec<Arc<ShardRows>>,
    pub(super) options: RowsOptions,
    usage: Arc<Usage>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) merger: Arc<Merger>,
    pub(super) retries: Turns,
    stop: CancellationToken,
    tasks: TaskTracker,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
    pub(crate) merges: u64,
    pub(crate) merge_failures: u64,
    pub(crate) bytes_merged: u64,
    pub(crate) bytes_written_by_merges: u64,
    /// Offsets without a row in a live segment, of all topics, by what became of them (S1).
    pub(crate) counts: RowCounts,
}

impl Rows {
    /// Starts making rows of shards whose logs are applied.
    ///
    /// # Errors
    /// [`Code::Io`] if a thread cannot be started.
    pub(crate) async fn start(
        logs: Vec<Arc<dyn RowLog>>,
        directory: Arc<dyn Directory>,
        options: RowsOptions,
    ) -> Result<Arc<Self>, Error> {
        let usage = Arc::new(Usage::default());
        let shards: Vec<_> = logs.into_iter().map(|log| Arc::new(ShardRows::new(log, usage.clone()))).collect();
        shards.iter().for_each(|shard| unlink_when_removed(shard));
        let stop = CancellationToken::new();
        let rows = Arc::new(Self {
            directory,
            schemas: Arc::default(),
            shards,
            sealer: Arc::new(Sealer::new(options.clone(), usage.clone())),
            merger: Arc::new(Merger::new(options.clone(), usage.clone(), stop.clone())),
            retries: Turns::default(),
            options,
            usage,
            stop,
            tasks: TaskTracker::new(),
            threads: Mutex::default(),
        });
        rows.start_materializers()?;
        for shard in &rows.shards {
            rows.tasks.spawn(rows.sealer.clone().run(shard.clone(), rows.stop.clone()));
            rows.tasks.spawn(garbage::run(shard.clone(), rows.stop.clone()));
        }
        rows.tasks.spawn(rows.merger.clone().run(rows.shards.clone(), rows.stop.clone()));
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
        let sealing = self.shards_of(topic).map(|shard| async move {
            shard.caught_up(Instant::now() + CATCH_UP).await?;
            self.sealer.seal(shard, topic.id).await?;
            shard.check_not_held(topic.id)
        });
        futures::future::join_all(sealing).await.into_iter().collect()
    }

    /// Merges the segments of a topic until each bucket has as few as possible, and no row lies below log start.
    ///
    /// # Errors
    /// Why a shard did not come to the end; what was merged stays merged.
    pub(crate) async fn merge_now(&self, topic: &TopicInfo) -> Result<Merged, Error> {
        let mut done = Merged::default();
        for shard in self.shards_of(topic) {
            done.add(self.merger.merge_all(shard, topic.id).await?);
        }
        Ok(done)
    }

    /// Where the offsets of a topic are, for each shard that hosts it (S1).
    #[cfg(test)]
    pub(crate) fn coverage(&self, topic: &TopicInfo) -> Vec<(ShardId, Coverage)> {
        let covered = |shard: &Arc<ShardRows>| Some((shard.log.id(), shard.coverage(topic.id)?));
        self.shards_of(topic).filter_map(covered).collect()
    }

    /// Says so where an offset is neither a row nor counted as rowless.
    pub(super) fn audit(&self) {
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
            merges: self.merger.merges.load(Ordering::Relaxed),
            merge_failures: self.merger.failures.load(Ordering::Relaxed),
            bytes_merged: self.merger.bytes_read.load(Ordering::Relaxed),
            bytes_written_by_merges: self.merger.bytes_written.load(Ordering::Relaxed),
            counts: self.counts(),
        }
    }

    fn counts(&self) -> RowCounts {
        let manifests = self.shards.iter().map(|shard| shard.log.manifest());
        manifests.fold(RowCounts::default(), |sum, manifest| {
            manifest.topics().fold(sum, |sum, (_, live)| sum.plus(live.counts))
        })
    }

    /// Every shard, ascending.
    pub(super) fn shards(&self) -> &[Arc<ShardRows>] {
        &self.shards
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

/// Unlinking happens on a blocking thread, not in apply.
fn unlink_when_removed(shard: &ShardRows) {
    let (files, runtime) = (shard.files.clone(), Handle::current());
    shard.log.on_segments_removed(Box::new(move |removed| {
        let (files, removed) = (files.clone(), removed.to_vec());
        runtime.spawn_blocking(move || files.condemn(&removed));
    }));
}
