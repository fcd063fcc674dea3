//! Segments that came to count, are not here, and cannot be made here: fetched from other replicas, in tasks of their own. The
//! roller never waits for another node.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::Error;
use stratalog_storage::RecMeta;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::peers::SegmentSources;
use super::steps::blocking;
use crate::idle::tick;
use crate::metrics::ReplayMetrics;
use crate::pull::{Round, Troubles, fetch};
use crate::shard::Shard;

/// How often it is looked for segments that are missing.
const TICK: Duration = Duration::from_secs(1);

/// Fetches the segments of one shard, until this is dropped.
pub(super) struct Pulling {
    stop: DropGuard,
    tasks: TaskTracker,
}

impl Pulling {
    /// Begins with it.
    pub(super) fn start(shard: Arc<Shard>, sources: SegmentSources, metrics: ReplayMetrics) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let puller = Puller { shard, sources, metrics, tasks: tasks.clone() };
        let ended = stop.clone();
        tasks.spawn(async move { ended.run_until_cancelled(puller.run()).await });
        Self { stop: stop.drop_guard(), tasks }
    }

    /// Ends it; when this returns, nothing of it uses the shard or its files.
    pub(super) async fn stop(self) {
        drop(self.stop);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Puller {
    shard: Arc<Shard>,
    sources: SegmentSources,
    metrics: ReplayMetrics,
    tasks: TaskTracker,
}

impl Puller {
    async fn run(self) {
        let (recs, mut troubles, mut whole_at) = (self.shard.recs(), Troubles::default(), None);
        loop {
            tokio::select! {
                () = tick(TICK) => {}
                () = recs.news() => {}
            }
            if !self.sources.peers.may_have(self.shard.id()) {
                continue;
            }
            self.look_into_suspects().await;
            let looked = self.shard.read(|state| {
                let (manifest, at) = (state.manifest(), Some((state.manifest().version(), recs.changes())));
                (at != whole_at).then(|| (at, recs.wanted(manifest.recs())))
            });
            let Some((at, wanted)) = looked else { continue };
            if wanted.is_empty() {
                (troubles, whole_at) = (Troubles::default(), at);
            }
            let due = troubles.due(wanted, |meta| meta.id);
            if !due.is_empty() {
                self.pull(due, &mut troubles).await;
            }
        }
    }

    /// Has segments be fetched again whose files were found damaged by whoever read them (L5).
    async fn look_into_suspects(&self) {
        let store = Arc::clone(self.shard.recs());
        if !store.has_suspects() {
            return;
        }
        let damaged = blocking(move || Ok(store.look_into_suspects())).await.unwrap_or_default();
        self.metrics.rec_damaged(damaged.len() as u64);
        for (meta, what) in damaged {
            tracing::error!(shard = %self.shard.id(), segment = %meta.id, what,
                "L5: a replay segment is damaged; a whole copy is fetched from another replica");
        }
    }

    /// Fetches segments one after the other: one that nobody has whole does not hold up the others.
    async fn pull(&self, due: Vec<Arc<RecMeta>>, troubles: &mut Troubles) {
        let (shard, count) = (self.shard.id(), due.len());
        let mut round = Round::begin();
        for meta in due {
            if let Err(error) = self.fetch(&meta).await {
                round.failed(meta.id, error);
            }
            // Whoever reads a damaged file waits for the next round.
            if round.is_vain() || self.shard.recs().has_suspects() {
                break;
            }
        }
        if let Some((segment, error)) = troubles.note(&round) {
            tracing::warn!(%shard, %segment, missing = count, code = %error.code, %error,
                "a replay segment was not fetched from another replica; trying again, ever more seldom");
        }
        if round.went_well() {
            tracing::info!(%shard, count, "fetched replay segments from other replicas");
        }
    }

    /// Has the file of a segment be here, whole, verified, durable and known to the store, unless somebody else sees to it.
    async fn fetch(&self, meta: &Arc<RecMeta>) -> Result<(), Error> {
        let recs = self.shard.recs();
        let Some(arrival) = recs.begin(meta) else { return Ok(()) };
        // From here on, who takes it out of the manifest ends this. What left it before must not come back.
        if !self.shard.read(|state| state.manifest().recs().iter().any(|live| live.id == meta.id)) {
            return Ok(());
        }
        let SegmentSources { peers, way } = &self.sources;
        let bytes = |offset| peers.fetch(self.shard.id(), meta, offset);
        fetch(recs.file_of(meta), Box::new(arrival), way, &self.tasks, bytes).await?;
        self.metrics.rec_written(meta.bytes);
        Ok(())
    }
}
