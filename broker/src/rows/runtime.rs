//! All rows of a node: its replicas, and what the rest of the broker asks of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog_proto::{Error, ShardId, TopicId};
use stratalog_query::TopicInfo;
use stratalog_storage::SegmentMeta;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission;
use super::catalog::{Directory, Schemas};
use super::copies::SegmentCopies;
#[cfg(test)]
use super::coverage::Coverage;
use super::dead_letters::Turns;
use super::garbage;
use super::lead::Starter;
use super::log::RowLog;
use super::merge::{Merged, Merger};
use super::options::RowsOptions;
use super::pull::Puller;
use super::remake::Remaker;
use super::replica::{Replica, Replicas};
use super::retention::retain;
use super::seal::Sealer;
use super::shard_rows::ShardRows;
use super::usage::Usage;
use crate::pull::Way;

/// How long a seal on demand waits for the rows of what is in the log.
pub(super) const CATCH_UP: Duration = Duration::from_secs(30);

/// The rows of all shards that this node leads, and the column segments of all that it has a replica of. It is the
/// catalogue that queries read.
pub(crate) struct Rows {
    pub(super) directory: Arc<dyn Directory>,
    pub(super) schemas: Arc<Schemas>,
    pub(super) replicas: Arc<Replicas>,
    pub(super) options: RowsOptions,
    pub(super) usage: Arc<Usage>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) merger: Arc<Merger>,
    pub(super) puller: Arc<Puller>,
    pub(super) remaker: Arc<Remaker>,
    pub(super) retries: Turns,
    copies: Arc<dyn SegmentCopies>,
    starter: Arc<Starter>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Rows {
    /// Starts without a shard: [`add`](Self::add) brings them. `copies`: the other replicas of those to come; `way`: how
    /// what is missing comes from them.
    pub(crate) fn start(
        directory: Arc<dyn Directory>,
        copies: Arc<dyn SegmentCopies>,
        way: Arc<Way>,
        options: RowsOptions,
    ) -> Arc<Self> {
        let (usage, stop) = (Arc::new(Usage::default()), CancellationToken::new());
        let sealer = Arc::new(Sealer::new(options.clone(), usage.clone()));
        let rows = Arc::new(Self {
            directory,
            schemas: Arc::default(),
            replicas: Arc::default(),
            starter: Arc::new(Starter::new(options.clone(), usage.clone(), sealer.clone())),
            sealer,
            merger: Arc::new(Merger::new(options.clone(), usage.clone(), stop.clone())),
            puller: Arc::new(Puller::new(copies.clone(), way)),
            remaker: Arc::new(Remaker::new(options.clone(), stop.clone())),
            retries: Turns::default(),
            copies,
            options,
            usage,
            stop,
            tasks: TaskTracker::new(),
        });
        rows.tasks.spawn(rows.merger.clone().run(rows.replicas.clone(), rows.stop.clone()));
        rows.tasks.spawn(rows.remaker.clone().run(rows.replicas.clone()));
        rows.tasks.spawn(retain(Arc::downgrade(&rows), rows.options.retention_interval, rows.stop.clone()));
        rows
    }

    /// Adds a replica whose log is recovered. Where it leads, its rows are being made when this returns.
    ///
    /// # Errors
    /// [`Code::Io`](stratalog_proto::Code::Io) if its segments cannot be listed, or a thread cannot be started.
    pub(crate) async fn add(&self, log: Arc<dyn RowLog>) -> Result<(), Error> {
        let replica = Replica::open(log, self.copies.clone(), self.stop.child_token()).await?;
        let leading = replica.log.watch_leading();
        let term = *leading.borrow();
        self.starter.change(&replica, term)?;
        replica.tasks.spawn(self.starter.clone().follow(replica.clone(), leading));
        replica.tasks.spawn(garbage::tidy(replica.clone()));
        replica.tasks.spawn(self.puller.clone().run(replica.clone()));
        self.replicas.insert(replica);
        Ok(())
    }

    /// Forgets a replica. When this returns, nobody writes to its directory any more.
    pub(crate) async fn remove(&self, shard: ShardId) {
        let Some(replica) = self.replicas.remove(shard) else { return };
        replica.stop().await;
        self.starter.join(Some(shard)).await;
        // What was being built goes on to its end, which finds that it does not lead.
        drop((replica.sealing.lock().await, replica.merging.lock().await));
    }

    /// Waits until everything that is applied now in the shards that are led here is visible. Topics that are held back are
    /// not waited for.
    ///
    /// # Errors
    /// [`Code::Timeout`](stratalog_proto::Code::Timeout) at the deadline: it goes on in the background.
    pub(crate) async fn caught_up(&self, deadline: Instant) -> Result<(), Error> {
        for shard in self.replicas.led() {
            shard.caught_up(deadline).await?;
        }
        Ok(())
    }

    /// Whether every shard that is led here shows what was applied when this node began to lead it.
    ///
    /// # Errors
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable), naming a shard that does not.
    pub(crate) fn check_rebuilt(&self) -> Result<(), Error> {
        self.replicas.led().iter().try_for_each(|shard| shard.rebuild.check(&*shard.log, &shard.tail))
    }

    /// Returns when a batch of the topic may be produced to the shard: its rows keep up with its log.
    ///
    /// # Errors
    /// [`Code::Overloaded`](stratalog_proto::Code::Overloaded) after [`RowsOptions::throttle_wait`]; nothing was produced.
    pub(crate) async fn admit(&self, shard: ShardId, topic: TopicId) -> Result<(), Error> {
        match self.replicas.get(shard).and_then(|replica| replica.led()) {
            Some(rows) => admission::admit(&rows, topic, &self.usage, &self.options).await,
            None => Ok(()),
        }
    }

    /// The column segments of a shard's manifest whose files are not on this node; nothing of a shard that is not here.
    pub(crate) fn missing(&self, shard: ShardId) -> Vec<Arc<SegmentMeta>> {
        self.replicas.get(shard).map(|replica| replica.missing()).unwrap_or_default()
    }

    /// Seals the rows of all records of a topic in a shard that are applied now.
    ///
    /// # Errors
    /// Why some are still in the tail; [`Code::NotLeader`](stratalog_proto::Code::NotLeader) if the shard is not led here.
    pub(crate) async fn seal_in(&self, shard: ShardId, topic: &TopicInfo) -> Result<(), Error> {
        let shard = self.replicas.led_in(shard)?;
        shard.caught_up(Instant::now() + CATCH_UP).await?;
        loop {
            // A topic that was held back when its rows were taken, and is not any more, has further ones.
            let was_held = shard.check_not_held(topic.id).is_err();
            self.sealer.seal(&shard, topic.id).await?;
            shard.check_not_held(topic.id)?;
            if !was_held {
                return Ok(());
            }
        }
    }

    /// Merges the segments of a topic in a shard until each bucket has as few as possible, and no row lies below log start.
    ///
    /// # Errors
    /// Why it did not come to the end; what was merged stays merged. [`Code::NotLeader`](stratalog_proto::Code::NotLeader) if the shard is not led here.
    pub(crate) async fn merge_in(&self, shard: ShardId, topic: &TopicInfo) -> Result<Merged, Error> {
        self.merger.merge_all(&self.replicas.led_in(shard)?, topic.id).await
    }

    /// Where the offsets of a topic are, for each shard that hosts it (S1).
    #[cfg(test)]
    pub(crate) fn coverage(&self, topic: &TopicInfo) -> Vec<(ShardId, Coverage)> {
        self.shards_of(topic).filter_map(|shard| Some((shard.log.id(), shard.coverage(topic.id)?))).collect()
    }

    /// Says so where an offset is neither a row nor counted as rowless.
    pub(super) fn audit(&self) {
        for topic in self.directory.topics() {
            let disagreement = |shard: Arc<ShardRows>| Some((shard.log.id(), shard.disagreement(topic.id)?));
            for (shard, coverage) in self.shards_of(&topic).filter_map(disagreement) {
                tracing::error!(%shard, topic = topic.name, ?coverage, "S1: rows and offsets do not agree");
            }
        }
    }

    /// The rows of the shards that host a partition of the topic and are led here, ascending.
    pub(super) fn shards_of(&self, topic: &TopicInfo) -> impl Iterator<Item = Arc<ShardRows>> {
        self.replicas.of(topic).into_iter().filter_map(|replica| replica.led())
    }

    /// Stops threads and tasks. The tail is not sealed: the log has it.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        futures::future::join_all(self.replicas.all().iter().map(|replica| replica.stop())).await;
        self.starter.join(None).await;
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
