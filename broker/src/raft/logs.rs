//! The logs of all groups of a node: they share a lane, its room and the directory of votes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::{Mutex, RwLock};
use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_storage::{Lane, LaneDoubt, Votes};
use tokio::sync::watch;

use super::doubts::Doubts;
use super::index::LogIndex;
use super::log::{GroupLog, Inner, Kept};
use super::log_cache::LogCache;
use super::promise::Promises;
use super::runtime::Beat;
use super::stalled::Stalls;
use super::types::Vote;
use super::uncommitted::Uncommitted;
use crate::fatal::halt;

/// What the logs of a node are opened over.
pub(crate) struct LogsOptions {
    pub(crate) lane: Arc<Lane>,
    pub(crate) votes: Arc<Votes>,
    /// Bytes of entries that all logs together keep in memory although they are durable already.
    pub(crate) cache_bytes: usize,
    /// Dropped once nobody can write to the logs any more.
    pub(crate) keep: Arc<dyn Send + Sync>,
}

/// The logs of a node. A log that is open here keeps the lane's files that it needs, whether its group runs or not.
pub(crate) struct Logs {
    options: LogsOptions,
    promises: Promises,
    stalls: Stalls,
    beat: Beat,
    cache: Arc<LogCache>,
    open: Mutex<BTreeMap<ShardId, GroupLog>>,
    /// The end of the lane was discarded: what was in it may have been acknowledged.
    doubts: Arc<Doubts>,
}

/// What a log begins with.
#[derive(Default)]
pub(super) struct Begun {
    pub(super) index: LogIndex,
    pub(super) vote: Option<Vote>,
    pub(super) kept: Kept,
    /// A part of it is lost.
    pub(super) lost: bool,
}

impl Logs {
    /// From now on a failure of the lane stops the process, whether a log waits for the disk or not.
    pub(super) fn new(options: LogsOptions, doubt: Option<LaneDoubt>) -> Self {
        options
            .lane
            .on_failure(Box::new(|error| halt(&format!("the log of this node cannot be made durable: {error}"))));
        let (promises, stalls, doubts) = (Promises::default(), Stalls::default(), Arc::new(Doubts::new(doubt)));
        let cache = LogCache::new(options.cache_bytes);
        Self { options, promises, stalls, beat: Beat::new(), cache, open: Mutex::default(), doubts }
    }

    /// The log of a shard's replica on this node.
    pub(crate) fn get(&self, shard: ShardId) -> Option<GroupLog> {
        self.open.lock().get(&shard).cloned()
    }

    /// An empty log for a replica that is new on this node; the same one again for the same replica, whose group has not
    /// started or has stopped. Blocks on the disk.
    ///
    /// # Errors
    /// [`Code::Internal`] if another replica of the shard has a log here; those of the disk.
    pub(crate) fn create(&self, shard: ShardId, replica: ReplicaId) -> Result<GroupLog, Error> {
        if let Some(log) = self.get(shard) {
            if log.replica() == replica {
                return Ok(log);
            }
            let message = format!("replica {} of shard {shard} is still here, {replica} cannot begin", log.replica());
            return Err(Error::new(Code::Internal, message));
        }
        self.forget_vote(shard)?;
        let log = self.open(shard, replica, Begun::default());
        // It is empty because it is new: nothing of it was in what was discarded.
        log.set_doubted(false);
        Ok(log)
    }

    /// Forgets the log of a replica that has left this node for ever and does not run any more: its vote, and that it needs
    /// files of the lane. The caller has made durable before that the replica is gone, so that a restart passes over what
    /// is still in the lane. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk; it can be done again.
    pub(crate) fn forget(&self, shard: ShardId) -> Result<(), Error> {
        self.open.lock().remove(&shard);
        self.doubts.set(shard, false);
        self.forget_vote(shard)
    }

    /// The oldest lane file that each log needs.
    pub(crate) fn oldest_files(&self) -> Vec<Option<u64>> {
        // Held, so that no log is opened meanwhile and appends to a file that looks free.
        let open = self.open.lock();
        open.values().map(|log| log.retained().oldest_file).collect()
    }

    pub(super) fn open(&self, shard: ShardId, replica: ReplicaId, begun: Begun) -> GroupLog {
        let log = GroupLog(Arc::new(Inner {
            shard,
            replica,
            lane: Arc::clone(&self.options.lane),
            votes: Arc::clone(&self.options.votes),
            index: RwLock::new(begun.index),
            vote: Mutex::new(begun.vote),
            appends: Mutex::new(0),
            flushed: watch::Sender::new(0),
            kept: Mutex::new(begun.kept),
            promises: self.promises.clone(),
            stalls: self.stalls.clone(),
            beat: self.beat,
            stopping: Arc::default(),
            starting: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            lost: AtomicBool::new(begun.lost),
            doubts: Arc::clone(&self.doubts),
            cache: self.cache.share(),
            uncommitted: Uncommitted::default(),
            _keep: Arc::clone(&self.options.keep),
        }));
        if begun.lost || self.doubts.begins() {
            log.set_doubted(true);
        }
        self.open.lock().insert(shard, log.clone());
        log
    }

    fn forget_vote(&self, shard: ShardId) -> Result<(), Error> {
        let failed = |error| Error::new(Code::Io, format!("the vote of shard {shard} cannot be removed: {error}"));
        self.options.votes.remove(shard).map_err(failed)
    }
}
