//! The facade: what every listener calls.

mod catalog;
mod changes;
mod produce;
mod recovery;
mod retention;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stratalog_proto::config::Format;
use stratalog_proto::{Code, Error, JobId, Offset, PartitionId, ProducerId, ShardId, Term};
use stratalog_query::{Engine, PartitionInfo, TopicInfo};
use stratalog_storage::{Lane, SegmentMeta};

use crate::erase::{ErasureInfo, Erasures};
use crate::fetch::{Deadlines, FetchRequest, FetchedBatches, FetchedPartition, fetch};
use crate::identity::DirLock;
use crate::meta::{Meta, Topics};
use crate::metrics::{Figures, Metrics, ShardFigures};
use crate::offsets::{OffsetAt, end_of_epoch, offset_at};
use crate::options::BrokerOptions;
use crate::raft::GroupLog;
use crate::replay::Roller;
use crate::rows::{Merged, Retried, Rows, TopicRows};
use crate::shard::{Admission, Shard};
use crate::verify::{VerifiedPartition, verify};

pub use produce::Produced;
pub use retention::Dropped;

/// The metadata group; the others are the shards.
const META: ShardId = ShardId(0);

/// One node's broker.
///
/// ```no_run
/// # async fn example() -> Result<(), stratalog_proto::Error> {
/// use stratalog_broker::{Broker, BrokerOptions};
///
/// let broker = Broker::start(BrokerOptions::new("/var/lib/stratalog")).await?;
/// broker.create_topic("events", 0, Default::default()).await?;
/// broker.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct Broker {
    options: BrokerOptions,
    stopping: AtomicBool,
    metrics: Metrics,
    topics: Arc<Topics>,
    /// One change of topics at a time.
    changing_topics: tokio::sync::Mutex<()>,
    admission: Arc<Admission>,
    /// Of the fetches that wait.
    deadlines: Deadlines,
    engine: Arc<Engine>,
    roller: Arc<Roller>,
    erasures: Erasures,
    rows: Arc<Rows>,
    shards: BTreeMap<ShardId, Arc<Shard>>,
    meta: Meta,
    lane: Arc<Lane>,
    /// Last, so that no other process begins while this one may still write.
    _lock: Arc<DirLock>,
}

impl Broker {
    /// Stops: refuses new work, answers what is in flight, stops the groups and flushes the log.
    pub async fn stop(&self) {
        if self.stopping.swap(true, Ordering::SeqCst) {
            return;
        }
        // It ends sooner where what it asks for has ended.
        futures::join!(self.erasures.stop(), self.rows.stop(), self.roller.stop());
        futures::future::join_all(self.shards.values().map(|shard| shard.stop())).await;
        self.meta.stop().await;
        let lane = Arc::clone(&self.lane);
        if let Err(error) = tokio::task::spawn_blocking(move || lane.close()).await {
            tracing::warn!(%error, "the log was not closed cleanly; the next start checks its end");
        }
    }

    /// Whether the broker serves.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while it stops; [`Code::NotLeader`] for a shard that has no leader here.
    pub fn ready(&self) -> Result<(), Error> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unavailable, "the node is stopping"));
        }
        match self.shards.values().find(|shard| !shard.is_leader()) {
            Some(shard) => Err(Error::new(Code::NotLeader, format!("this node does not lead shard {}", shard.id()))),
            None => Ok(()),
        }
    }

    /// All topics, in the order of names.
    pub fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.topics.list()
    }

    /// One topic.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], with the nearest name there is.
    pub fn topic(&self, name: &str) -> Result<Arc<TopicInfo>, Error> {
        self.topics.get(name)
    }

    /// The partitions of a topic, ascending.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`].
    pub fn partitions(&self, name: &str) -> Result<Vec<PartitionInfo>, Error> {
        let topic = self.topics.get(name)?;
        let info = |(number, shard): (u32, &ShardId)| {
            let partition = PartitionId(number);
            self.shard(*shard)?.read(|state| {
                let state = state.partition(topic.id, partition)?;
                Some(PartitionInfo {
                    partition,
                    shard: *shard,
                    log_start: state.log_start(),
                    high_watermark: state.high_watermark(),
                    bytes: state.bytes(),
                })
            })
        };
        Ok((0..).zip(&topic.shards).filter_map(info).collect())
    }

    /// A new idempotent producer: its id, and its first epoch.
    ///
    /// # Errors
    /// [`Code::Timeout`], [`Code::Unavailable`].
    pub async fn init_producer(&self) -> Result<(ProducerId, i16), Error> {
        Ok((self.meta.producer_id().await?, 0))
    }

    /// Reads record batches; waits up to `max_wait` until there is one.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidRequest`] if a partition is named twice. Whatever concerns one partition is in
    /// its result.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Vec<FetchedPartition>, Error> {
        let topic = self.topics.get(&request.topic)?;
        if request.partitions.len() > topic.partitions as usize {
            let message = format!("a fetch names each partition once; `{}` has {}", topic.name, topic.partitions);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let fetched = fetch(&topic, &self.shards, &self.deadlines, &request).await?;
        let batches = fetched.iter().filter_map(|partition| partition.result.as_ref().ok()).flatten();
        self.metrics.fetched(batches.map(FetchedBatches::bytes).sum());
        Ok(fetched)
    }

    /// An offset of each partition, ascending.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; those of reading the log.
    pub async fn list_offsets(&self, name: &str, at: OffsetAt) -> Result<Vec<(PartitionId, Offset)>, Error> {
        let topic = self.topics.get(name)?;
        let mut offsets = Vec::with_capacity(topic.shards.len());
        for (number, shard) in (0..).zip(&topic.shards) {
            if let Some(shard) = self.shard(*shard) {
                let partition = PartitionId(number);
                offsets.push((partition, offset_at(&topic, shard, partition, at).await?));
            }
        }
        Ok(offsets)
    }

    /// The newest leader epoch of a partition that is not above `asked`, and the offset at which it ends: the first of the
    /// next one, or the high watermark. `None` if the partition has no records so old. As Kafka's OffsetForLeaderEpoch.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::UnknownPartition`]; those of reading the log.
    pub async fn end_offset_of_epoch(
        &self,
        name: &str,
        partition: PartitionId,
        asked: Term,
    ) -> Result<Option<(Term, Offset)>, Error> {
        let topic = self.topics.get(name)?;
        end_of_epoch(&topic, self.shard_of(&topic, partition)?, partition, asked).await
    }

    /// Reads every batch of a partition, from log start to high watermark, and says what of it cannot be read. Dropping the
    /// future ends it soon.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::UnknownPartition`]; those of reading the log, but for damage, which is an answer.
    pub async fn verify(&self, name: &str, partition: PartitionId) -> Result<VerifiedPartition, Error> {
        let topic = self.topics.get(name)?;
        verify(&topic, self.shard_of(&topic, partition)?, partition).await
    }

    /// The live column segments of a topic, by shard and id.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`].
    pub fn segments(&self, name: &str) -> Result<Vec<(ShardId, Arc<SegmentMeta>)>, Error> {
        let topic = self.topics.get(name)?;
        let mut segments = Vec::new();
        for (id, shard) in &self.shards {
            shard.read(|state| {
                let live = state.manifest().topic(topic.id).into_iter().flat_map(|live| live.segments.values());
                segments.extend(live.map(|meta| (*id, Arc::clone(meta))));
            });
        }
        Ok(segments)
    }

    /// What became of a topic's records; `None` if it is of format `raw` and has no rows.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`].
    pub fn topic_rows(&self, name: &str) -> Result<Option<TopicRows>, Error> {
        let topic = self.topics.get(name)?;
        Ok((topic.config.format != Format::Raw).then(|| self.rows.figures(&topic)))
    }

    /// Seals the rows of all records of a topic that are applied now: they move from memory to column segments.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; why rows of a shard are still in the tail, others may be sealed.
    pub async fn seal_topic(&self, name: &str) -> Result<(), Error> {
        let topic = self.topics.get(name)?;
        self.rows.seal_now(&topic).await
    }

    /// Merges the column segments of a topic until each time bucket has as few as possible, and none holds rows below log
    /// start. It ends early if the caller goes away.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; why it did not come to the end: what was merged until then stays merged.
    pub async fn merge_topic(&self, name: &str) -> Result<Merged, Error> {
        let topic = self.topics.get(name)?;
        self.rows.merge_now(&topic).await
    }

    /// Makes rows of a topic's dead letters once more, by its settings of now. It ends early if the caller goes away.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidRequest`] for a topic without rows; those of sealing the topic, of reading its
    /// records and of rewriting its segments. What was mended until then is mended.
    pub async fn retry_dead_letters(&self, name: &str) -> Result<Retried, Error> {
        let topic = self.topics.get(name)?;
        self.rows.retry_dead_letters(&topic).await
    }

    /// Asks for the records of a topic to be erased whose rows fulfil a condition now, a SQL expression over its columns, and
    /// returns once every shard of the topic remembers that. The work is done in the background, also after restarts:
    /// [`Broker::erasures`] says how far it is. In the end no file holds the records.
    ///
    /// The condition is evaluated by the types that the columns have now, whatever is written later. One that has no value
    /// for a row, such as a division by zero, fails the job.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidRequest`] for a `raw` topic, or a condition that is empty or above 64 KiB;
    /// [`Code::InvalidSql`], [`Code::InvalidSearch`] for one that cannot say what to erase;
    /// [`Code::Overloaded`] while too many erasures are under way; [`Code::Timeout`], [`Code::Unavailable`]: some shards may
    /// have begun, and asking again does no harm.
    pub async fn erase(&self, name: &str, predicate: &str) -> Result<JobId, Error> {
        let topic = self.topics.get(name)?;
        self.erasures.erase(&topic, predicate).await
    }

    /// The erasures that are under way, and of each shard the thousand that ended last; by time of asking and shard.
    pub fn erasures(&self) -> Vec<ErasureInfo> {
        self.erasures.list()
    }

    /// SQL and search.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Metrics as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let mut figures: Vec<_> = self.shards.values().map(|shard| figures_of(shard)).collect();
        let of_log = log_figures(META, self.meta.group().log());
        figures.push(ShardFigures { applied: self.meta.applied().0, leader: self.meta.is_leader(), ..of_log });
        self.metrics.text(&Figures {
            shards: figures,
            lane: self.lane.stats(),
            lane_usage: self.lane.usage(),
            rows: self.rows.stats(),
            topics: self.topics.list().len(),
            buffered_bytes: self.admission.used_bytes(),
        })
    }

    fn shard_of(&self, topic: &TopicInfo, partition: PartitionId) -> Result<&Arc<Shard>, Error> {
        let shard = topic.shards.get(partition.0 as usize).and_then(|id| self.shard(*id));
        let unknown =
            || format!("topic `{}` has {} partitions, and no partition {partition}", topic.name, topic.partitions);
        shard.ok_or_else(|| Error::new(Code::UnknownPartition, unknown()))
    }

    fn shard(&self, id: ShardId) -> Option<&Arc<Shard>> {
        self.shards.get(&id)
    }
}

fn figures_of(shard: &Shard) -> ShardFigures {
    let (producers, manifest) = shard.read(|state| (state.producers(), state.manifest().clone()));
    ShardFigures {
        applied: shard.applied().0,
        leader: shard.is_leader(),
        producers,
        segments: manifest.segment_ids().count(),
        replay_frontier: manifest.replay_frontier().0,
        recs: manifest.recs().len(),
        missing_recs: shard.recs().missing(manifest.recs()).len(),
        ..log_figures(shard.id(), shard.group().log())
    }
}

/// What the log of any group shows.
fn log_figures(shard: ShardId, log: &GroupLog) -> ShardFigures {
    let (snapshot_frontier, log_bytes) = (log.snapshot_frontier().0, log.retained().bytes);
    ShardFigures { shard, snapshot_frontier, log_bytes, ..ShardFigures::default() }
}
