//! The shards that have a replica on this node. They come and go while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use stratalog_proto::ShardId;

use crate::shard::Shard;

/// The running replicas, by shard. The metadata group is none of them.
pub(crate) struct Shards {
    running: RwLock<BTreeMap<ShardId, Arc<Shard>>>,
}

impl Shards {
    /// With what runs from the start on.
    pub(crate) fn new(running: impl IntoIterator<Item = Arc<Shard>>) -> Self {
        let running = running.into_iter().map(|shard| (shard.id(), shard)).collect();
        Self { running: RwLock::new(running) }
    }

    /// The replica of a shard; `None` if none runs here.
    pub(crate) fn get(&self, id: ShardId) -> Option<Arc<Shard>> {
        self.running.read().get(&id).cloned()
    }

    /// All of them, ascending by shard.
    pub(crate) fn all(&self) -> Vec<Arc<Shard>> {
        self.running.read().values().cloned().collect()
    }

    /// Adds a replica that has just been started.
    ///
    /// # Panics
    /// If one of the same shard runs already: two would write to one directory.
    pub(crate) fn insert(&self, shard: Arc<Shard>) {
        let id = shard.id();
        let before = self.running.write().insert(id, shard);
        assert!(before.is_none(), "L2: a second replica of shard {id} was started on this node");
    }

    /// Takes a replica out, so that nobody finds it any more; who holds it may still use it.
    pub(crate) fn remove(&self, id: ShardId) -> Option<Arc<Shard>> {
        self.running.write().remove(&id)
    }
}
