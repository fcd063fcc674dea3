//! The facade: what every listener calls.

mod catalog;
mod changes;
mod fetch;
mod groups;
mod layout;
mod maintain;
mod open;
mod own;
mod produce;
mod producers;
mod propose;
mod read;
mod recovery;
mod replicas;
mod retention;
mod stop;
mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stratalog_proto::{Code, Error, JobId, ShardId, TopicId};
use stratalog_query::{Engine, TopicInfo};
use stratalog_storage::Lane;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::route::{Outboxes, Router};
use crate::cluster::{Nodes, Peering, Readiness, check_heard};
use crate::connections::Connections;
use crate::erase::{ErasureInfo, Erasures};
use crate::fetch::Deadlines;
use crate::groups::{Coordinators, Groups, lags};
use crate::identity::DirLock;
use crate::joint::Joint;
use crate::meta::{Meta, Topics};
use crate::metrics::{Figures, Metrics, ScrubMetrics, ShardFigures};
use crate::options::BrokerOptions;
use crate::pull::Way;
use crate::raft::{Group, GroupLog};
use crate::replay::Roller;
use crate::rows::Rows;
use crate::shard::{Admission, Shard};
use crate::shards::Shards;

use producers::ProducerIds;
use replicas::Replicas;
use topics::Changing;

pub use fetch::Nearer;
pub use layout::{KafkaNode, Layout};
pub use produce::Produced;
pub use retention::Dropped;

/// The metadata group; the others are the shards.
pub(crate) const META: ShardId = ShardId(0);

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
    changing_topics: Changing,
    connections: Arc<Connections>,
    admission: Arc<Admission>,
    /// Of the fetches that wait.
    deadlines: Deadlines,
    engine: Arc<Engine>,
    roller: Arc<Roller>,
    erasures: Erasures,
    rows: Arc<Rows>,
    readiness: Readiness,
    nodes: Arc<Nodes>,
    /// `None`: other nodes are not listened to.
    peering: Option<Arc<Peering>>,
    replicas: Replicas,
    loops: TaskTracker,
    stop_loops: CancellationToken,
    router: Arc<Router>,
    outboxes: Outboxes,
    /// Looks at how far the metadata is.
    freshness: Joint<Result<(), Error>>,
    producer_ids: ProducerIds,
    coordinators: Arc<Coordinators>,
    /// What replicas that have no vote yet get from others.
    way: Arc<Way>,
    /// Copies for backups that may be open.
    copies: Arc<Semaphore>,
    /// Ends requests that look for a leader.
    stop_routing: CancellationToken,
    shards: Arc<Shards>,
    meta: Meta,
    lane: Arc<Lane>,
    /// Last, so that no other process begins while this one may still write.
    _lock: Arc<DirLock>,
}

impl Broker {
    /// Whether the broker serves: it hears its cluster, has caught up with it since it started, and has the rows of what it
    /// leads.
    ///
    /// # Errors
    /// [`Code::Unavailable`] while it starts, catches up or stops; [`Code::NotFormed`], [`Code::NotLeader`] if it does not
    /// hear its cluster.
    pub fn ready(&self) -> Result<(), Error> {
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Unavailable, "the node is stopping"));
        }
        check_heard(self)?;
        self.readiness.check()
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
        let topic = self.find_topic(name).await?;
        let (job, commands) = self.erasures.plan(&topic, predicate).await?;
        for (shard, command) in commands {
            self.propose(shard, command).await?;
        }
        self.erasures.look();
        Ok(job)
    }

    /// The erasures that are under way, and of each shard the thousand that ended last; by time of asking and shard.
    pub fn erasures(&self) -> Vec<ErasureInfo> {
        self.erasures.list()
    }

    /// Consumer groups.
    pub fn groups(&self) -> Groups<'_> {
        Groups::new(self)
    }

    /// SQL and search.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Metrics as OpenMetrics text.
    pub fn metrics(&self) -> String {
        let mut figures: Vec<_> = self.shards.all().iter().map(|shard| figures_of(shard)).collect();
        let of_log = log_figures(META, self.meta.group().log());
        figures.push(ShardFigures { applied: self.meta.applied().0, leader: self.meta.is_leader(), ..of_log });
        self.metrics.text(&Figures {
            shards: figures,
            lane: self.lane.stats(),
            lane_usage: self.lane.usage(),
            rows: self.rows.stats(),
            topics: self.topics.list().len(),
            lags: lags(self),
            buffered_bytes: self.admission.used_bytes(),
        })
    }

    /// Of the consumer groups that live in shards that this node leads.
    pub(crate) fn coordinators(&self) -> &Arc<Coordinators> {
        &self.coordinators
    }

    /// A topic that can be used here.
    pub(crate) fn known_topic(&self, id: TopicId) -> Option<Arc<TopicInfo>> {
        self.topics.by_id(id)
    }

    /// What this broker was started with.
    pub(crate) fn options(&self) -> &BrokerOptions {
        &self.options
    }

    /// What scrubs count.
    pub(crate) fn scrub_metrics(&self) -> &ScrubMetrics {
        self.metrics.scrub()
    }

    /// Whether this node has caught up with its cluster.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// The nodes of the cluster.
    pub(crate) fn nodes(&self) -> &Arc<Nodes> {
        &self.nodes
    }

    /// How replicas here get what they miss.
    pub(crate) fn way(&self) -> Arc<Way> {
        Arc::clone(&self.way)
    }

    /// Grows with every change of a topic that is shown here.
    pub(crate) fn topics_version(&self) -> u64 {
        self.topics.version()
    }

    /// Requests for shards, wherever they are led.
    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The shards that have a replica here.
    pub(crate) fn shards(&self) -> &Arc<Shards> {
        &self.shards
    }

    /// The rows of the shards that are led here, and column segments.
    pub(crate) fn rows(&self) -> &Arc<Rows> {
        &self.rows
    }

    /// Who keeps the log short.
    pub(crate) fn roller(&self) -> &Arc<Roller> {
        &self.roller
    }

    /// Copies for backups that may be open.
    pub(crate) fn copies(&self) -> &Arc<Semaphore> {
        &self.copies
    }

    /// The metadata group.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The Raft group of a shard, or of the metadata, that runs here.
    ///
    /// # Errors
    /// [`Code::Unavailable`].
    pub(crate) fn group(&self, shard: ShardId) -> Result<Arc<Group>, Error> {
        if shard == META {
            return Ok(Arc::clone(self.meta.group()));
        }
        let not_here = || Error::new(Code::Unavailable, format!("this node runs no replica of shard {shard}"));
        self.shards.get(shard).map(|shard| Arc::clone(shard.group())).ok_or_else(not_here)
    }

    fn shard(&self, id: ShardId) -> Option<Arc<Shard>> {
        self.shards.get(id)
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
    ShardFigures { shard, snapshot_frontier, log_bytes, lost: log.is_lost(), ..ShardFigures::default() }
}
