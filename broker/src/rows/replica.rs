//! A replica of a shard on this node, as this room sees it: what it has whether it leads or not, and its rows while it
//! leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use stratalog_proto::{Code, Error, ShardId, TopicId};
use stratalog_query::TopicInfo;
use stratalog_storage::SegmentMeta;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::copies::SegmentCopies;
use super::files::SegmentFiles;
use super::garbage::Garbage;
use super::log::RowLog;
use super::shard_rows::ShardRows;

/// One replica.
pub(super) struct Replica {
    pub(super) log: Arc<dyn RowLog>,
    pub(super) files: Arc<SegmentFiles>,
    pub(super) garbage: Arc<Garbage>,
    pub(super) copies: Arc<dyn SegmentCopies>,
    /// Held while a topic of the shard is sealed: one at a time, also where leadership was lost and won meanwhile.
    pub(super) sealing: Arc<tokio::sync::Mutex<()>>,
    /// Held while segments of the shard are merged: one merge at a time.
    pub(super) merging: Arc<tokio::sync::Mutex<()>>,
    /// Wakes the puller.
    pub(super) wanted: Arc<Notify>,
    led: Mutex<Option<Arc<ShardRows>>>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Replica {
    /// Over a replica whose log is recovered; looks at the directory of its column segments.
    ///
    /// # Errors
    /// [`Code::Io`] if that cannot be listed.
    pub(super) async fn open(
        log: Arc<dyn RowLog>,
        copies: Arc<dyn SegmentCopies>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        let files = Arc::new(SegmentFiles::new(log.io().clone(), log.segments_dir(), log.id()));
        let replica = Arc::new(Self {
            files: files.clone(),
            garbage: Arc::new(Garbage::new()),
            copies,
            sealing: Arc::default(),
            merging: Arc::default(),
            wanted: Arc::default(),
            led: Mutex::new(None),
            stop,
            tasks: TaskTracker::new(),
            log,
        });
        // Before the look, so that no removal is missed.
        replica.unlink_when_removed();
        let looked = tokio::task::spawn_blocking(move || files.look()).await;
        looked
            .unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a look at segments failed: {panic}"))))?;
        Ok(replica)
    }

    /// Unlinking happens on a blocking thread, not in apply.
    fn unlink_when_removed(&self) {
        let (files, runtime) = (self.files.clone(), Handle::current());
        self.log.on_segments_removed(Box::new(move |removed| {
            let (files, removed) = (files.clone(), removed.to_vec());
            runtime.spawn_blocking(move || files.condemn(&removed));
        }));
    }

    /// The rows of the shard, while this replica leads it.
    pub(super) fn led(&self) -> Option<Arc<ShardRows>> {
        self.led.lock().clone()
    }

    /// From now on these are the rows of the shard, or none; those before end.
    pub(super) fn set_led(&self, rows: Option<Arc<ShardRows>>) {
        let before = std::mem::replace(&mut *self.led.lock(), rows);
        if let Some(before) = before {
            before.stop.cancel();
        }
    }

    /// The live segments of a topic.
    pub(super) fn segments(&self, topic: TopicId) -> Vec<Arc<SegmentMeta>> {
        let manifest = self.log.manifest();
        manifest.topic(topic).map(|live| live.segments.values().cloned().collect()).unwrap_or_default()
    }

    /// The live segments whose files are not here.
    pub(super) fn missing(&self) -> Vec<Arc<SegmentMeta>> {
        let manifest = self.log.manifest();
        self.files.missing(manifest.topics().flat_map(|(_, live)| live.segments.values()))
    }

    /// Ends the work on the replica, and waits for it.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.set_led(None);
    }
}

/// The replicas of a node.
#[derive(Default)]
pub(super) struct Replicas(RwLock<BTreeMap<ShardId, Arc<Replica>>>);

impl Replicas {
    pub(super) fn insert(&self, replica: Arc<Replica>) {
        self.0.write().insert(replica.log.id(), replica);
    }

    pub(super) fn remove(&self, shard: ShardId) -> Option<Arc<Replica>> {
        self.0.write().remove(&shard)
    }

    pub(super) fn get(&self, shard: ShardId) -> Option<Arc<Replica>> {
        self.0.read().get(&shard).cloned()
    }

    /// All of them, ascending by shard.
    pub(super) fn all(&self) -> Vec<Arc<Replica>> {
        self.0.read().values().cloned().collect()
    }

    /// Those of the shards that host a partition of the topic, ascending.
    pub(super) fn of(&self, topic: &TopicInfo) -> Vec<Arc<Replica>> {
        let mut ids = topic.shards.clone();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| self.get(id)).collect()
    }

    /// The rows of every shard that is led here, ascending.
    pub(super) fn led(&self) -> Vec<Arc<ShardRows>> {
        self.all().iter().filter_map(|replica| replica.led()).collect()
    }

    /// The rows of a shard.
    ///
    /// # Errors
    /// [`Code::NotLeader`] if it is not led here.
    pub(super) fn led_in(&self, shard: ShardId) -> Result<Arc<ShardRows>, Error> {
        self.get(shard).and_then(|replica| replica.led()).ok_or_else(|| not_led(shard))
    }
}

fn not_led(shard: ShardId) -> Error {
    let message = format!("this node does not have the rows of shard {shard}: only its leader does; ask that one");
    Error::new(Code::NotLeader, message)
}
