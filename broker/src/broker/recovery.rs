//! Starting: from a directory on disk to a broker that serves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_query::{Catalog, Engine};
use stratalog_storage::{Lane, PooledDisk, Votes};

use super::{Broker, META};
use crate::identity::{self, DirLock};
use crate::meta::{Meta, Topics};
use crate::metrics::Metrics;
use crate::options::BrokerOptions;
use crate::raft::GroupLog;
use crate::rows::{RowLog, Rows};
use crate::shard::{Admission, Shard, ShardOptions};

/// This node's replica in each of its groups. Each has one voter, in a directory that never gave it another id.
const REPLICA: ReplicaId = ReplicaId(1);

/// What is known once the disk has been read.
struct Recovered {
    lane: Arc<Lane>,
    logs: BTreeMap<ShardId, GroupLog>,
    lock: Arc<DirLock>,
}

impl Broker {
    /// Locks the data directory, recovers what it holds, and returns when everything is applied, all shards are led and
    /// the tail is rebuilt.
    ///
    /// # Errors
    /// [`Code::Unavailable`], naming the directory, if another process uses it; [`Code::CorruptData`], naming file and
    /// offset, for damage that no crash explains: nothing is changed then; [`Code::Timeout`].
    pub async fn start(options: BrokerOptions) -> Result<Arc<Self>, Error> {
        let options = BrokerOptions { disk: Arc::new(PooledDisk::new(options.disk)), ..options };
        let opened = options.clone();
        let recovered = tokio::task::spawn_blocking(move || recover(&opened)).await;
        let Recovered { lane, mut logs, lock } =
            recovered.map_err(|error| Error::new(Code::Internal, format!("recovery ended early: {error}")))??;
        let admission = Admission::new(options.produce_buffer_bytes, options.produce_wait, options.produce_timeout);
        let admission = Arc::new(admission);
        let meta_log = logs.remove(&META).ok_or_else(|| Error::new(Code::Internal, "the metadata group has no log"))?;
        let meta = Meta::start(meta_log, Arc::clone(&admission), options.recovery_timeout);
        let (meta, shards) = futures::future::try_join(meta, start_shards(&options, &admission, logs)).await?;
        let topics = Arc::new(Topics::default());
        let row_logs = shards.values().map(|shard| Arc::clone(shard) as Arc<dyn RowLog>).collect();
        let rows = Rows::start(row_logs, Arc::clone(&topics) as _, options.rows.clone()).await?;
        let engine = Arc::new(Engine::new(Arc::clone(&rows) as Arc<dyn Catalog>, options.engine.clone()));
        let broker = Arc::new(Self {
            stopping: AtomicBool::new(false),
            metrics: Metrics::new(),
            topics,
            changing_topics: tokio::sync::Mutex::new(()),
            admission,
            engine,
            rows,
            shards,
            meta,
            lane,
            _lock: lock,
            options,
        });
        broker.heal_topics().await?;
        broker.rows.caught_up(Instant::now() + broker.options.recovery_timeout).await?;
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
    let groups: Vec<ShardId> = std::iter::once(META).chain(shards).collect();
    let keep = Arc::clone(&lock) as Arc<dyn Send + Sync>;
    let logs = GroupLog::recover(&groups, REPLICA, &lane, &votes, &recovery.frames, options.log_cache_bytes, &keep)?;
    Ok(Recovered { lane, logs, lock })
}

fn create_dir(options: &BrokerOptions, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::new(Code::Io, format!("cannot create the directory {}: {error}", path.display()));
    options.disk.create_dir_all(path).map_err(failed)
}

async fn start_shards(
    options: &BrokerOptions,
    admission: &Arc<Admission>,
    logs: BTreeMap<ShardId, GroupLog>,
) -> Result<BTreeMap<ShardId, Arc<Shard>>, Error> {
    let starting = logs.into_iter().map(|(id, log)| {
        let shard = ShardOptions {
            id,
            io: Arc::clone(&options.disk),
            segments_dir: identity::segments_dir(&options.data_dir, id.0),
            admission: Arc::clone(admission),
            recovery_timeout: options.recovery_timeout,
        };
        Shard::start(shard, log)
    });
    let started = futures::future::try_join_all(starting).await?;
    Ok(started.into_iter().map(|shard| (shard.id(), shard)).collect())
}
