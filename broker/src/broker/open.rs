//! Starting: from a locked directory of a cluster's node to a broker that serves.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use futures::future::{try_join, try_join_all};
use parking_lot::Mutex;
use stratalog_proto::entry::Command;
use stratalog_proto::internal::InitCluster;
use stratalog_proto::{Code, Error, FEATURE_LEVEL, ReplicaId};
use stratalog_query::{Catalog, Changes, Engine, EngineOptions, Workers};
use stratalog_storage::{Lane, LaneOptions, PooledDisk};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Broker;
use super::catalog::NodeCatalog;
use super::changes::TopicChanges;
use super::producers::ProducerIds;
use super::recovery::{Recovered, blocking, recover};
use super::replicas::Replicas;
use super::topics::Changing;
use crate::backup::MAX_COPIES;
use crate::cluster::route::{NodeLinks, OutboxOptions, Outboxes, Router};
use crate::cluster::{
    Book, Forming, Ground, Intake, NodeCopies, NodePeers, NodeSegments, NodeWorkers, Nodes, Peering, Readiness, Server,
    node_message, read_book, run_loops, who,
};
use crate::erase::{Erasures, Tools};
use crate::fetch::Deadlines;
use crate::groups::Coordinators;
use crate::identity::Identity;
use crate::joint::Joint;
use crate::meta::{Meta, MetaOptions, Topics};
use crate::metrics::Metrics;
use crate::options::BrokerOptions;
use crate::pull::Way;
use crate::raft::GroupLog;
use crate::replay::{Member, Roller, RollerOptions, SegmentSources};
use crate::rows::Rows;
use crate::shard::Admission;
use crate::shards::Shards;

/// The first replica of each group, in the directory in which its cluster began.
const FIRST: ReplicaId = ReplicaId(1);

impl Broker {
    /// Locks the data directory and starts the node. One that belongs to no cluster begins its own, or, if it is to join
    /// others, waits until one of them has let it in; see [`Forming`] for doing that step by step.
    ///
    /// When this returns, what is on the disk is recovered. A node that is alone in its cluster then leads all shards and
    /// serves; in a larger one [`ready`](Self::ready) says when.
    ///
    /// # Errors
    /// [`Code::Unavailable`](stratalog_proto::Code::Unavailable), naming the directory, if another process uses it;
    /// [`Code::CorruptData`](stratalog_proto::Code::CorruptData), naming file and offset, for damage that no crash explains:
    /// nothing is changed then; [`Code::Timeout`](stratalog_proto::Code::Timeout).
    pub async fn start(options: BrokerOptions) -> Result<Arc<Self>, Error> {
        Forming::start(options).await?.formed().await
    }

    /// Recovers what the directory holds, and runs its replicas.
    pub(crate) async fn open(ground: Ground) -> Result<Arc<Self>, Error> {
        let running = run_groups(ground).await?;
        let me = running.me.clone();
        let broker = Self::over(running).await?;
        broker.begin_to_serve(me).await?;
        Ok(broker)
    }

    /// Everything that works over the groups.
    async fn over(running: Running) -> Result<Arc<Self>, Error> {
        let Running { replicas, metrics, lane, nodes, peering, topics, meta, shards, .. } = running;
        let options = replicas.options.clone();
        let way = Arc::new(Way::new(options.cluster.fetch_rate_bytes));
        let sources = SegmentSources { peers: Arc::new(NodeSegments::new(Arc::clone(&nodes))), way: Arc::clone(&way) };
        let roller = Arc::new(start_roller(&replicas, &lane, &metrics, &meta, &shards, sources));
        let copies = Arc::new(NodeCopies::new(Arc::clone(&nodes), Arc::clone(&shards)));
        let rows = Rows::start(Arc::clone(&topics) as _, copies, Arc::clone(&way), options.rows.clone());
        try_join_all(shards.all().into_iter().map(|shard| rows.add(shard))).await?;
        let catalog = NodeCatalog::new(Arc::clone(&rows), Arc::clone(&options.events), options.settings.clone());
        let (catalog, changes) = (Arc::new(catalog), Arc::new(TopicChanges::default()));
        let stop_routing = CancellationToken::new();
        let router = Arc::new(router_of(&nodes, &shards, &meta, &stop_routing));
        let outboxes = outboxes_of(&options, &router);
        let workers = Arc::new(NodeWorkers::new(Arc::clone(&nodes), Arc::clone(&router)));
        let engine = start_engine(&options, Arc::clone(&catalog) as _, Arc::clone(&changes) as _, workers).await?;
        let engine = Arc::new(engine);
        let erasures = Erasures::new(Tools {
            shards: Arc::clone(&shards),
            topics: Arc::clone(&topics),
            rows: Arc::clone(&rows),
            engine: Arc::clone(&engine),
            roller: Arc::clone(&roller),
        });
        let broker = Arc::new(Self {
            stopping: AtomicBool::new(false),
            metrics,
            topics,
            changing_topics: Changing::default(),
            connections: Arc::default(),
            admission: Arc::clone(&replicas.admission),
            deadlines: Deadlines::start(),
            engine,
            roller,
            erasures,
            rows,
            readiness: Readiness::default(),
            nodes,
            router,
            outboxes,
            freshness: Joint::new(),
            producer_ids: ProducerIds::default(),
            coordinators: Coordinators::new(Arc::clone(&shards), options.groups.clone()),
            way,
            copies: Arc::new(Semaphore::new(MAX_COPIES)),
            stop_routing,
            peering,
            loops: TaskTracker::new(),
            stop_loops: CancellationToken::new(),
            shards,
            meta,
            lane,
            _lock: Arc::clone(&replicas.lock),
            replicas,
            options,
        });
        broker.outboxes.append_through(Arc::new(Intake::new(&broker)));
        changes.make_through(&broker);
        catalog.show(&broker);
        Ok(broker)
    }

    async fn begin_to_serve(self: &Arc<Self>, me: stratalog_transport::Identity) -> Result<(), Error> {
        if let Some(peering) = &self.peering {
            peering.answer_with(Arc::new(Server::new(self)));
        }
        run_loops(self, me, &self.loops, &self.stop_loops);
        if self.is_alone() {
            self.heal_topics().await?;
            self.rows.caught_up(Instant::now() + self.options.recovery_timeout).await?;
            self.readiness.set_caught_up();
        }
        self.erasures.start().await;
        Ok(())
    }

    /// Whether there is no other node, so that this one leads everything already.
    fn is_alone(&self) -> bool {
        let shards = self.shards.all();
        let groups_are = self.meta.group().is_alone() && shards.iter().all(|shard| shard.group().is_alone());
        groups_are && self.nodes.view().nodes.len() == 1
    }
}

/// The groups of a node, which run.
struct Running {
    me: stratalog_transport::Identity,
    replicas: Replicas,
    metrics: Metrics,
    lane: Arc<Lane>,
    nodes: Arc<Nodes>,
    peering: Option<Arc<Peering>>,
    topics: Arc<Topics>,
    meta: Meta,
    shards: Arc<Shards>,
}

/// Reads the disk, starts every group, and has the metadata of a new cluster say what the directory is.
async fn run_groups(ground: Ground) -> Result<Running, Error> {
    let Ground { options, identity, lock, book, peering } = ground;
    let metrics = Metrics::new();
    let lane = LaneOptions { observer: Some(Arc::new(metrics.stages().clone())), ..options.lane };
    let options = BrokerOptions { disk: Arc::new(PooledDisk::new(options.disk)), lane, ..options };
    let (opened, who_is, locked) = (options.clone(), identity.clone(), Arc::clone(&lock));
    let recovered = blocking(move || recover(&opened, &who_is, &locked)).await?;
    let nodes = nodes_of(&options, &identity, &book, peering.as_ref()).await?;
    let Recovered { lane, logs, marks, meta, shards, aside_bytes } = recovered;
    metrics.set_aside(aside_bytes);
    let admission = Admission::new(options.produce_buffer_bytes, options.produce_wait, options.produce_timeout);
    let me = who_of(&options, &identity, peering.as_ref());
    let replicas = Replicas {
        options,
        lock,
        logs,
        peers: Arc::new(NodePeers::new(Arc::clone(&nodes))),
        admission: Arc::new(admission),
        stages: metrics.stages().clone(),
        marks: Mutex::new(marks),
    };
    let topics = Arc::new(Topics::default());
    let began_here = |replica: ReplicaId| !identity.joined && replica == FIRST;
    let logs = shards.iter().chain([&meta]).map(|replica| &replica.log);
    logs.filter(|log| began_here(log.replica())).try_for_each(|log| check_begun(&book, log))?;
    let meta_options = MetaOptions {
        states: meta.states,
        topics: Arc::clone(&topics),
        peers: Arc::clone(&replicas.peers),
        admission: Arc::clone(&replicas.admission),
        form: began_here(meta.log.replica()),
        recovery_timeout: replicas.options.recovery_timeout,
    };
    let starting = shards.into_iter().map(|shard| {
        let forms = began_here(shard.log.replica());
        replicas.start(shard.log, shard.states, forms)
    });
    let (meta, shards) = try_join(Meta::start(meta_options, meta.log), try_join_all(starting)).await?;
    begin_cluster(&meta, &identity, &me).await?;
    book.set_view(meta.view());
    let shards = Arc::new(Shards::new(shards));
    Ok(Running { me, replicas, metrics, lane, nodes, peering, topics, meta, shards })
}

/// Refuses the first replica of a group that has nothing, where others are known to vote: the group began long ago, and
/// beginning it once more would make a second one of the same name (L1).
///
/// # Errors
/// [`Code::CorruptData`], naming shard and voters.
fn check_begun(book: &Book, log: &GroupLog) -> Result<(), Error> {
    let shard = log.shard();
    let voters = match book.view().shards.get(&shard) {
        Some(placement) if log.is_blank() => placement.other_voters(log.replica()),
        _ => Vec::new(),
    };
    if voters.is_empty() {
        return Ok(());
    }
    let message = format!(
        "L1: replica {} of shard {shard} has neither a log nor a vote, and replicas {voters:?} have voted with it: its files \
         are lost. Nothing was changed; restore `lanes` from a copy, or start with an empty data directory",
        log.replica()
    );
    Err(Error::new(Code::CorruptData, message))
}

fn start_roller(
    replicas: &Replicas,
    lane: &Arc<Lane>,
    metrics: &Metrics,
    meta: &Meta,
    shards: &Shards,
    sources: SegmentSources,
) -> Roller {
    let meta = Member::Meta(Arc::clone(meta.group()));
    Roller::start(RollerOptions {
        replay: replicas.options.replay.clone(),
        lane: Arc::clone(lane),
        logs: Arc::clone(&replicas.logs),
        file_bytes: replicas.options.lane.file_bytes,
        members: shards.all().into_iter().map(Member::Shard).chain([meta]).collect(),
        sources,
        metrics: metrics.replay().clone(),
    })
}

/// The other nodes, as they were known when this one stopped.
async fn nodes_of(
    options: &BrokerOptions,
    identity: &Identity,
    book: &Arc<Book>,
    peering: Option<&Arc<Peering>>,
) -> Result<Arc<Nodes>, Error> {
    let read = options.clone();
    if let Some(known) = blocking(move || read_book(&*read.disk, &read.data_dir)).await? {
        book.set_view(known);
    }
    if let Some(peering) = peering {
        peering.identify(identity);
    }
    let transport = peering.map(|peering| Arc::clone(peering.transport()));
    Ok(Nodes::new(identity.node, Arc::clone(book), transport))
}

fn router_of(nodes: &Arc<Nodes>, shards: &Arc<Shards>, meta: &Meta, stop: &CancellationToken) -> Router {
    let links = NodeLinks { nodes: Arc::clone(nodes), shards: Arc::clone(shards), meta: Arc::clone(meta.group()) };
    Router::new(Arc::new(links), stop.clone())
}

fn outboxes_of(options: &BrokerOptions, router: &Arc<Router>) -> Outboxes {
    let bounds = OutboxOptions {
        buffer_bytes: options.produce_buffer_bytes,
        wait: options.produce_wait,
        timeout: options.produce_timeout,
    };
    Outboxes::new(Arc::clone(router), bounds)
}

fn who_of(
    options: &BrokerOptions,
    identity: &Identity,
    peering: Option<&Arc<Peering>>,
) -> stratalog_transport::Identity {
    let address = peering.map(|peering| peering.me().peer_address.clone()).unwrap_or_default();
    let who = who(&options.cluster, address, identity.incarnation);
    stratalog_transport::Identity { cluster: Some(identity.cluster), node: identity.node, ..who }
}

/// Has the metadata of a new cluster, or of a directory of a release without clusters, say what the directory is: a cluster
/// of one node.
async fn begin_cluster(meta: &Meta, identity: &Identity, me: &stratalog_transport::Identity) -> Result<(), Error> {
    // Where others vote, the cluster has begun; this node may still have to hear of it again from its log.
    let has_begun = identity.joined || meta.view().cluster.is_some() || !meta.group().is_alone();
    if has_begun {
        return Ok(());
    }
    let init = InitCluster {
        cluster: bytes::Bytes::copy_from_slice(identity.cluster.as_bytes()),
        node: Some(node_message(identity.node, me, FEATURE_LEVEL)),
        shards: identity.shards,
        replication: identity.replication,
    };
    match meta.propose(Command::InitCluster(init)).await {
        // Its log was cut before what told of the others, which lead by now: they tell it again.
        Err(error) if error.code == Code::NotLeader && meta.group().is_led_elsewhere() => Ok(()),
        proposed => proposed.map(|_| ()),
    }
}

/// Starts the engine, which spills to a directory beside the data unless it is told another one.
async fn start_engine(
    options: &BrokerOptions,
    catalog: Arc<dyn Catalog>,
    changes: Arc<dyn Changes>,
    workers: Arc<dyn Workers>,
) -> Result<Engine, Error> {
    let spill_dir = options.engine.spill_dir.clone().unwrap_or_else(|| options.data_dir.join("spill"));
    let engine = EngineOptions { spill_dir: Some(spill_dir), ..options.engine.clone() };
    blocking(move || Ok(Engine::with_workers(catalog, changes, workers, engine))).await
}
