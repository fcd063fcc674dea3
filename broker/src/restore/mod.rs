//! A data directory made of a backup: a new cluster of one node, with the shards of the old one. No node runs meanwhile.
//!
//! The order makes every crash harmless: the directory is marked first, and the mark goes last; in between come segments,
//! the log, votes, state files, and at the end the identity. Nothing starts from a directory with the mark.
//!
//! Who reads the backup has checked the hashes of what it hands over. That state, log and segments belong together is
//! checked here (X1, L5).

mod segment;
mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId};
use stratalog_storage::{Io, Lane, LaneOptions, LogPoint, RealDisk, Votes};
use uuid::Uuid;

use crate::identity::{self, DirLock, Identity};
use crate::meta::MetaState;
use crate::raft::{Logs, LogsOptions};

pub use segment::{SegmentSink, WantedSegment};
pub use shard::RestoringShard;

/// The only node of a cluster that begins with a restore, and its replica of each group.
const NODE: NodeId = NodeId(1);
const REPLICA: ReplicaId = ReplicaId(1);
const META: ShardId = ShardId(0);

/// Where a backup is restored to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The directory; made if it is not there.
    pub data_dir: PathBuf,
    /// The write-ahead log.
    pub lane: LaneOptions,
    /// The disk.
    pub disk: Arc<dyn Io>,
}

/// A directory that is being made. Dropped before [`Restoring::finish`], it stays one in which no node starts.
///
/// ```no_run
/// # async fn example(
/// #     meta_at: stratalog_storage::LogPoint, meta: bytes::Bytes, log: bytes::Bytes,
/// #     at: stratalog_storage::LogPoint, frontier: stratalog_storage::LogPoint, state: bytes::Bytes, file: bytes::Bytes,
/// # ) -> Result<(), stratalog_proto::Error> {
/// use stratalog_broker::{RestoreOptions, Restoring};
///
/// let mut restoring = Restoring::begin(RestoreOptions::new("/var/lib/restored"), meta_at, meta).await?;
/// for id in restoring.shards() {
///     let mut shard = restoring.begin_shard(id, at, frontier, state.clone()).await?;
///     for wanted in shard.segments().to_vec() {
///         let mut sink = shard.segment(&wanted).await?;
///         sink.push(file.clone()).await?;
///         shard.take(sink).await?;
///     }
///     shard.entries(log.clone()).await?;
///     restoring.end_shard(shard).await?;
/// }
/// let restored = restoring.finish().await?;
/// println!("cluster {} begins", restored.cluster);
/// # Ok(())
/// # }
/// ```
pub struct Restoring {
    options: RestoreOptions,
    identity: Identity,
    meta: MetaState,
    meta_at: LogPoint,
    logs: Arc<Logs>,
    lane: Arc<Lane>,
    done: BTreeSet<ShardId>,
    _lock: Arc<DirLock>,
}

/// A directory in which a node can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster.
    pub cluster: Uuid,
    /// Its topics.
    pub topics: usize,
    /// Its shards, without the metadata group.
    pub shards: u32,
}

impl RestoreOptions {
    /// The defaults, on the real disk.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), lane: LaneOptions::default(), disk: Arc::new(RealDisk) }
    }
}

impl Restoring {
    /// Marks an empty directory as one that is being made. `at` and `state`: the metadata of the backup.
    ///
    /// # Errors
    /// [`Code::CorruptData`], [`Code::NewerVersion`] for metadata that cannot be read, before anything is written;
    /// [`Code::InvalidRequest`] if the directory is not empty; [`Code::Unavailable`] if another process uses it; those of the
    /// disk.
    pub async fn begin(options: RestoreOptions, at: LogPoint, state: Bytes) -> Result<Self, Error> {
        let (cluster, incarnation) = (Uuid::now_v7(), Uuid::now_v7());
        let meta = MetaState::decode(state)?.anew(cluster, NODE, incarnation)?;
        let shards = check_metadata(&meta)?;
        let replication = meta.view().replication;
        let identity = Identity { cluster, node: NODE, incarnation, shards, replication, joined: false };
        let made = options.clone();
        let Prepared { lane, logs, lock } = blocking(move || prepare(&made)).await?;
        Ok(Self { options, identity, meta, meta_at: at, logs, lane, done: BTreeSet::new(), _lock: lock })
    }

    /// The shards that the metadata knows, ascending: each has to be restored.
    pub fn shards(&self) -> Vec<ShardId> {
        self.meta.view().data_shards().map(|(shard, _)| shard).collect()
    }

    /// Ends a shard: its log, its vote and its state file are made, durably.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if a segment, or part of the log, has not come; those of the disk.
    pub async fn end_shard(&mut self, shard: RestoringShard) -> Result<(), Error> {
        let id = shard.id();
        let (states, group) = shard.whole()?;
        self.logs.restore(REPLICA, &states, group).await?;
        self.done.insert(id);
        Ok(())
    }

    /// Makes the directory one in which a node can start.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if a shard is missing; those of the disk.
    pub async fn finish(mut self) -> Result<Restored, Error> {
        if let Some(missing) = self.shards().iter().find(|shard| !self.done.contains(shard)) {
            let message = format!("the backup has no shard {missing}, which its metadata names");
            return Err(Error::new(Code::CorruptData, message));
        }
        let state = self.meta.encode().into();
        let meta = RestoringShard::begin(&self.options, META, self.meta_at, self.meta_at, state, &self.lane).await?;
        self.end_shard(meta).await?;
        let Self { options, identity, meta, lane, .. } = self;
        let restored = Restored { cluster: identity.cluster, topics: meta.topics().count(), shards: identity.shards };
        blocking(move || {
            lane.close();
            identity::write(&*options.disk, &options.data_dir, &identity)?;
            identity::end_restore(&*options.disk, &options.data_dir)
        })
        .await?;
        Ok(restored)
    }
}

/// How many shards there are.
fn check_metadata(meta: &MetaState) -> Result<u32, Error> {
    let corrupt =
        |what: String| Error::new(Code::CorruptData, format!("the metadata of the backup is damaged: {what}"));
    let shards: BTreeSet<u32> = meta.view().data_shards().map(|(shard, _)| shard.0).collect();
    let count = shards.len() as u32;
    if count == 0 || !shards.iter().copied().eq(1..=count) {
        return Err(corrupt(format!("its shards are {shards:?}")));
    }
    let lost = meta.topics().find(|topic| topic.shards.iter().any(|shard| !shards.contains(&shard.0)));
    lost.map_or(Ok(count), |topic| {
        Err(corrupt(format!("topic `{}` lives on a shard that it does not have", topic.name)))
    })
}

/// A directory with a mark and an empty log.
struct Prepared {
    lane: Arc<Lane>,
    logs: Arc<Logs>,
    lock: Arc<DirLock>,
}

/// Marks the directory, and makes its log. Blocks.
fn prepare(options: &RestoreOptions) -> Result<Prepared, Error> {
    let (io, dir) = (&options.disk, &options.data_dir);
    let failed = |error| Error::new(Code::Io, format!("cannot create the directory {}: {error}", dir.display()));
    io.create_dir_all(dir).map_err(failed)?;
    // A lock would be a file in a directory that may be somebody else's; it is looked at again under the lock.
    identity::check_empty(&**io, dir)?;
    let lock = Arc::new(identity::lock(dir)?);
    identity::begin_restore(&**io, dir)?;
    let lane_dir = identity::lane_dir(dir);
    let (lane, recovery) = Lane::open(Arc::clone(io), &lane_dir, options.lane.clone())?;
    let votes = Arc::new(Votes::open(Arc::clone(io), &lane_dir.join("votes"))?);
    let log_options = LogsOptions { lane: Arc::clone(&lane), votes, cache_bytes: 0, keep: Arc::clone(&lock) as _ };
    let logs = Logs::recover(log_options, &[], &BTreeMap::new(), &recovery)?;
    Ok(Prepared { lane, logs, lock })
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Error> + Send + 'static) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a restore ended early: {panic}"))))
}
