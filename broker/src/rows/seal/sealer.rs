//! The sealer: picks what is due, builds on blocking threads, proposes, and lets go of the tail or of the files.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, PartitionId, RaftIndex, TopicId, internal};
use stratalog_storage::SegmentMeta;
use stratalog_storage::sabotage::{Bug, planted};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::passed::count_passed;
use super::troubles::Troubles;
use super::{Job, build, due};
use crate::idle::tick;
use crate::rows::merge::is_unknown;
use crate::rows::options::RowsOptions;
use crate::rows::shard_rows::ShardRows;
use crate::rows::tail::Capture;
use crate::rows::usage::{Pressure, Usage};

/// How often it is looked for what is due.
const TICK: Duration = Duration::from_millis(100);

/// Seals topics of all shards that are led here.
pub(in crate::rows) struct Sealer {
    options: RowsOptions,
    usage: Arc<Usage>,
    builds: Semaphore,
    /// Segments that came to count.
    pub(in crate::rows) segments: AtomicU64,
    /// Rows in them.
    pub(in crate::rows) rows: AtomicU64,
    /// Bytes of segment files that were written, whether they came to count or not.
    pub(in crate::rows) bytes: AtomicU64,
    /// Seals that did not come to count.
    pub(in crate::rows) failures: AtomicU64,
}

impl Sealer {
    pub(in crate::rows) fn new(options: RowsOptions, usage: Arc<Usage>) -> Self {
        Self {
            builds: Semaphore::new(options.parallel_seals.max(1)),
            options,
            usage,
            segments: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Seals what is due in one shard, until it is led no longer.
    pub(in crate::rows) async fn run(self: Arc<Self>, shard: Arc<ShardRows>, stop: CancellationToken) {
        let (mut troubles, mut changes) = (Troubles::default(), self.usage.watch());
        loop {
            tokio::select! {
                () = tick(TICK) => {}
                () = stop.cancelled() => return,
            }
            changes.mark_unchanged();
            if shard.tail.fill().is_empty() {
                // Nothing becomes due before something comes.
                tokio::select! {
                    _ = changes.changed() => continue,
                    () = stop.cancelled() => return,
                }
            }
            let due = self.due(&shard);
            troubles.retain(&due);
            for topic in due {
                if !troubles.is_waiting(topic) {
                    let sealed = self.seal(&shard, topic).await;
                    troubles.tell(&shard, topic, sealed.map(|_| ()));
                }
            }
        }
    }

    fn due(&self, shard: &ShardRows) -> Vec<TopicId> {
        let bytes = self.usage.bytes();
        // All tails are looked at only where their sum asks for it.
        let node = if bytes < self.options.rebuild_bytes { Pressure::default() } else { self.usage.pressure() };
        due(&shard.tail.fill(), node, &self.options)
    }

    /// Seals all that is in the tail of a topic; whether there was anything.
    ///
    /// Runs to its end even if the caller goes away.
    ///
    /// # Errors
    /// Why the rows are still in the tail.
    pub(in crate::rows) async fn seal(self: &Arc<Self>, shard: &Arc<ShardRows>, topic: TopicId) -> Result<bool, Error> {
        let (sealer, shard) = (self.clone(), shard.clone());
        let sealing = tokio::spawn(async move {
            let _one_at_a_time = shard.sealing.lock().await;
            shard.check_leads()?;
            let sealed = || shard.log.extent_and_sealed(topic).1;
            let captured = shard.tail.capture(topic, || frontier(&shard, topic), sealed);
            let Some(mut captured) = captured else { return Ok(false) };
            let passed = shard.log.passed(topic, captured.next);
            count_passed(&mut captured, &passed);
            let sealed = sealer.seal_captured(&shard, topic, captured).await;
            if sealed.is_err() {
                sealer.failures.fetch_add(1, Ordering::Relaxed);
            }
            sealed.map(|()| true)
        });
        sealing.await.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a seal failed: {panic}"))))
    }

    async fn seal_captured(&self, shard: &Arc<ShardRows>, topic: TopicId, captured: Capture) -> Result<(), Error> {
        let built = self.build(shard, topic, &captured).await;
        let segments = built.inspect_err(|_| shard.tail.release(topic, &captured))?;
        if let Err(error) = shard.hold(&segments).await {
            shard.tail.release(topic, &captured);
            shard.discard(segments).await;
            return Err(error);
        }
        let proposed = shard.propose(Command::Seal(command(topic, &captured, &segments))).await;
        let applied = frontier(shard, topic).is_some_and(|frontier| frontier >= captured.next);
        match proposed {
            Ok(_) => {
                if planted(Bug::SealWithoutCompare) {
                    self.seal_again(shard, topic, &captured).await?;
                }
                self.sealed(shard, topic, &captured, &segments);
            }
            // Whoever moved the frontier was us: one seal of a shard is under way at a time, and what leaders before proposed
            // was applied when this one began. Or it was a later leader, and the files are garbage.
            Err(error) if is_unknown(error.code) && applied => {
                tracing::info!(%error, "a seal applied although its outcome was unknown");
                shard.garbage.suspect();
                self.sealed(shard, topic, &captured, &segments);
            }
            // It may still apply: its files stay until that is known, and the tail until the frontier moves.
            Err(error) if is_unknown(error.code) => {
                shard.tail.doubt(topic, &captured);
                shard.garbage.suspect();
                return Err(error);
            }
            Err(error) => {
                shard.tail.release(topic, &captured);
                shard.discard(segments).await;
                return Err(error);
            }
        }
        Ok(())
    }

    /// What is never done: the same rows in other files, on the frontier that they were built on before.
    async fn seal_again(&self, shard: &Arc<ShardRows>, topic: TopicId, captured: &Capture) -> Result<(), Error> {
        let segments = self.build(shard, topic, captured).await?;
        shard.hold(&segments).await?;
        shard.propose(Command::Seal(command(topic, captured, &segments))).await.map(drop)
    }

    async fn build(
        &self,
        shard: &Arc<ShardRows>,
        topic: TopicId,
        captured: &Capture,
    ) -> Result<Vec<SegmentMeta>, Error> {
        let hosted = shard.log.topics().into_iter().find(|hosted| hosted.id == topic);
        let hosted = hosted.ok_or_else(|| {
            Error::new(
                Code::UnknownTopic,
                format!("cannot seal topic {topic}: it is no longer in shard {}", shard.log.id()),
            )
        })?;
        let job = Job {
            io: shard.log.io().clone(),
            dir: shard.log.segments_dir().to_owned(),
            shard: shard.log.id(),
            topic,
            bucket_ns: hosted.config.bucket_ns,
            index_budget_bytes: self.options.index_budget_bytes,
            chunks: captured.chunks.clone(),
        };
        let _permit = self.builds.acquire().await.map_err(|_| Error::new(Code::Unavailable, "the node is stopping"))?;
        match tokio::task::spawn_blocking(move || build(&job)).await {
            Ok(Ok(segments)) => {
                self.bytes.fetch_add(segments.iter().map(|meta| meta.bytes).sum(), Ordering::Relaxed);
                Ok(segments)
            }
            Ok(Err(failed)) => {
                shard.discard(failed.written).await;
                Err(failed.error)
            }
            Err(panic) => {
                shard.garbage.suspect();
                Err(Error::new(Code::Internal, format!("building segments of topic {topic} failed: {panic}")))
            }
        }
    }

    fn sealed(&self, shard: &ShardRows, topic: TopicId, captured: &Capture, segments: &[SegmentMeta]) {
        shard.tail.settle(topic, captured.next);
        let rows: u64 = segments.iter().map(|meta| meta.rows).sum();
        self.segments.fetch_add(segments.len() as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        tracing::debug!(shard = %shard.log.id(), %topic, next = %captured.next, segments = segments.len(), rows, "sealed");
    }
}

fn frontier(shard: &ShardRows, topic: TopicId) -> Option<RaftIndex> {
    shard.log.manifest().topic(topic).map(|live| live.row_frontier)
}

fn command(topic: TopicId, captured: &Capture, segments: &[SegmentMeta]) -> internal::Seal {
    let of = |partition: PartitionId, value| internal::PartitionCount { partition: partition.0, value };
    internal::Seal {
        topic: topic.to_bytes(),
        expect: captured.expect.0,
        next: captured.next.0,
        segments: segments.iter().map(internal::SegmentMeta::from).collect(),
        rowless: captured.rowless.iter().map(|(partition, count)| of(*partition, *count)).collect(),
        ends: captured.ends.iter().map(|(partition, end)| of(*partition, end.0)).collect(),
    }
}
