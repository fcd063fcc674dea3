//! Starting: from a directory on disk to a broker that serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_query::{Catalog, Changes, Engine, EngineOptions};
use stratalog_storage::{Lane, LaneOptions, PooledDisk, StateFiles, Votes};

use super::catalog::NodeCatalog;
use super::changes::TopicChanges;
use super::{Broker, META};
use crate::erase::{Erasures, Tools};
use crate::fetch::Deadlines;
use crate::identity::{self, DirLock};
use crate::meta::{Meta, Topics};
use crate::metrics::{Metrics, Stages};
use crate::options::BrokerOptions;
use crate::raft::{GroupLog, NoPeers};
use crate::replay::{Member, NoSegments, RecStore, Roller, RollerOptions};
use crate::rows::{RowLog, Rows};
use crate::shard::{Admission, Shard, ShardOptions};

/// This node's replica in each of its groups. Each has one voter, in a directory that never gave it another id.
const REPLICA: ReplicaId = ReplicaId(1);

/// What is known once the disk has been read.
struct Recovered {
    lane: Arc<Lane>,
    groups: BTreeMap<ShardId, Recovery>,
    lock: Arc<DirLock>,
}

/// One group, before it is started.
struct Recovery {
    log: GroupLog,
    states: Arc<StateFiles>,
}

impl Broker {
    /// Locks the data directory, recovers what it holds, and returns when everything is applied, all shards are led and
    /// the tail is rebuilt.
    ///
    /// # Errors
    /// [`Code::Unavailable`], naming the directory, if another process uses it; [`Code::CorruptData`], naming file and
    /// offset, for damage that no crash explains: nothing is changed then; [`Code::Timeout`].
    pub async fn start(options: BrokerOptions) -> Result<Arc<Self>, Error> {
        let metrics = Metrics::new();
        let lane = LaneOptions { observer: Some(Arc::new(metrics.stages().clone())), ..options.lane };
        let options = BrokerOptions { disk: Arc::new(PooledDisk::new(options.disk)), lane, ..options };
        let opened = options.clone();
        let Recovered { lane, mut groups, lock } = blocking(move || recover(&opened)).await?;
        let admission = Admission::new(options.produce_buffer_bytes, options.produce_wait, options.produce_timeout);
        let admission = Arc::new(admission);
        let meta = groups.remove(&META).ok_or_else(|| Error::new(Code::Internal, "the metadata group has no log"))?;
        let (stages, timeout) = (metrics.stages(), options.recovery_timeout);
        let meta = Meta::start(meta.log, meta.states, Arc::clone(&admission), timeout);
        let shards = start_shards(&options, &admission, stages, &lock, groups);
        let (meta, shards) = futures::future::try_join(meta, shards).await?;
        let roller = Arc::new(start_roller(&options, &lane, &metrics, &meta, &shards));
        let topics = Arc::new(Topics::default());
        let row_logs = shards.values().map(|shard| Arc::clone(shard) as Arc<dyn RowLog>).collect();
        let rows = Rows::start(row_logs, Arc::clone(&topics) as _, options.rows.clone()).await?;
        let (changes, catalog) = (Arc::new(TopicChanges::default()), Arc::new(catalog_of(&options, &rows)));
        let engine = start_engine(&options, Arc::clone(&catalog) as _, Arc::clone(&changes) as _).await?;
        let engine = Arc::new(engine);
        let erasures = Erasures::new(Tools {
            shards: shards.clone(),
            topics: Arc::clone(&topics),
            rows: Arc::clone(&rows),
            engine: Arc::clone(&engine),
            roller: Arc::clone(&roller),
        });
        let broker = Arc::new(Self {
            stopping: AtomicBool::new(false),
            metrics,
            topics,
            changing_topics: tokio::sync::Mutex::new(()),
            admission,
            deadlines: Deadlines::start(),
            engine,
            roller,
            erasures,
            rows,
            shards,
            meta,
            lane,
            _lock: lock,
            options,
        });
        changes.make_through(&broker);
        catalog.show(&broker);
        broker.heal_topics().await?;
        broker.rows.caught_up(Instant::now() + broker.options.recovery_timeout).await?;
        broker.erasures.start().await;
        Ok(broker)
    }
}

/// Reads the disk. Blocks.
fn recover(options: &BrokerOptions) -> Result<Recovered, Error> {
    let (io, dir) = (&options.disk, &options.data_dir);
    create_dir(options, dir)?;
    let lock = Arc::new(identity::lock(dir)?);
    let identity = identity::load_or_create(&**io, dir, options.shards)?;
    if identity.shards != options.shards {
        tracing::info!(
            kept = identity.shards,
            asked = options.shards,
            "the number of shards is fixed at the first start"
        );
    }
    let shards: Vec<ShardId> = (1..=identity.shards).map(ShardId).collect();
    for shard in &shards {
        create_dir(options, &identity::segments_dir(dir, shard.0))?;
    }
    let open_states = |id: ShardId| StateFiles::open(Arc::clone(io), &identity::state_dir(dir, id.0), id).map(Arc::new);
    let states = std::iter::once(META).chain(shards).map(open_states).collect::<Result<Vec<_>, _>>()?;
    let lane_dir: PathBuf = dir.join("lanes").join("0");
    let votes = Arc::new(Votes::open(Arc::clone(io), &lane_dir.join("votes"))?);
    let (lane, recovery) = Lane::open(Arc::clone(io), &lane_dir, options.lane.clone())?;
    if let Some(torn) = recovery.torn_tail {
        let (file, offset, bytes) = (torn.file, torn.offset, torn.bytes);
        tracing::warn!(
            file,
            offset,
            bytes,
            "discarded the end of the log: a write that a crash cut short, never acknowledged"
        );
    }
    tracing::info!(
        node = %identity.node, cluster = %identity.cluster, incarnation = %identity.incarnation,
        shards = identity.shards, frames = recovery.frames.len(), "recovered the log"
    );
    let keep = Arc::clone(&lock) as Arc<dyn Send + Sync>;
    let mut logs =
        GroupLog::recover(&states, REPLICA, &lane, &votes, &recovery.frames, options.log_cache_bytes, &keep)?;
    let with_log =
        |states: Arc<StateFiles>| Some((states.shard(), Recovery { log: logs.remove(&states.shard())?, states }));
    let groups = states.into_iter().filter_map(with_log).collect();
    Ok(Recovered { lane, groups, lock })
}

fn create_dir(options: &BrokerOptions, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::new(Code::Io, format!("cannot create the directory {}: {error}", path.display()));
    options.disk.create_dir_all(path).map_err(failed)
}

async fn start_shards(
    options: &BrokerOptions,
    admission: &Arc<Admission>,
    stages: &Stages,
    lock: &Arc<DirLock>,
    groups: BTreeMap<ShardId, Recovery>,
) -> Result<BTreeMap<ShardId, Arc<Shard>>, Error> {
    let starting = groups.into_iter().map(|(id, Recovery { log, states })| {
        let io = Arc::clone(&options.disk);
        let segments_dir = identity::segments_dir(&options.data_dir, id.0);
        let recs = Arc::new(RecStore::new(Arc::clone(&io), &segments_dir, id, Arc::clone(lock) as _));
        let shard = ShardOptions {
            id,
            io,
            segments_dir,
            recs,
            states,
            peers: Arc::new(NoPeers),
            admission: Arc::clone(admission),
            stages: stages.clone(),
            recovery_timeout: options.recovery_timeout,
        };
        start_shard(shard, log)
    });
    let started = futures::future::try_join_all(starting).await?;
    Ok(started.into_iter().map(|shard| (shard.id(), shard)).collect())
}

/// Starts a shard, and looks for the files of its replay segments once it is known which there have to be.
async fn start_shard(options: ShardOptions, log: GroupLog) -> Result<Arc<Shard>, Error> {
    let shard = Shard::start(options, log).await?;
    let (recs, manifest) = (Arc::clone(shard.recs()), shard.read(|state| state.manifest().clone()));
    let found = blocking(move || recs.reconcile(manifest.recs())).await?;
    if found.garbage > 0 {
        tracing::info!(shard = %shard.id(), removed = found.garbage, "removed replay segments that no manifest names");
    }
    if found.missing > 0 {
        tracing::warn!(shard = %shard.id(), missing = found.missing, "replay segments are not on this node");
    }
    Ok(shard)
}

fn start_roller(
    options: &BrokerOptions,
    lane: &Arc<Lane>,
    metrics: &Metrics,
    meta: &Meta,
    shards: &BTreeMap<ShardId, Arc<Shard>>,
) -> Roller {
    let meta = Member::Meta(Arc::clone(meta.group()));
    Roller::start(RollerOptions {
        replay: options.replay.clone(),
        lane: Arc::clone(lane),
        file_bytes: options.lane.file_bytes,
        members: shards.values().cloned().map(Member::Shard).chain([meta]).collect(),
        peers: Arc::new(NoSegments),
        metrics: metrics.replay().clone(),
    })
}

fn catalog_of(options: &BrokerOptions, rows: &Arc<Rows>) -> NodeCatalog {
    NodeCatalog::new(Arc::clone(rows), Arc::clone(&options.events), options.settings.clone())
}

/// Starts the engine, which spills to a directory beside the data unless it is told another one.
async fn start_engine(
    options: &BrokerOptions,
    catalog: Arc<dyn Catalog>,
    changes: Arc<dyn Changes>,
) -> Result<Engine, Error> {
    let spill_dir = options.engine.spill_dir.clone().unwrap_or_else(|| options.data_dir.join("spill"));
    let engine = EngineOptions { spill_dir: Some(spill_dir), ..options.engine.clone() };
    blocking(move || Ok(Engine::new(catalog, changes, engine))).await
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("recovery ended early: {panic}"))))
}
