//! What SQL sees of the node: topics and rows from the materializers, the rest from the broker.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use async_trait::async_trait;
use futures::future::try_join_all;
use stratalog_proto::{Error, ShardId, Token};
use stratalog_query::{
    Catalog, ConnectionInfo, EventInfo, GroupInfo, JobInfo, PartitionInfo, SettingInfo, ShardInfo, TopicInfo,
    TopicSnapshot,
};
use stratalog_storage::SegmentMeta;
use tokio::runtime::Handle;

use super::{Broker, figures_of};
use crate::events::Events;
use crate::rows::{Rows, TailFigures};

/// The catalogue of the engine. The broker is there only after it.
pub(super) struct NodeCatalog {
    rows: Arc<Rows>,
    events: Arc<Events>,
    settings: Vec<SettingInfo>,
    broker: OnceLock<Weak<Broker>>,
    /// The node's own threads.
    runtime: Handle,
}

impl NodeCatalog {
    /// Over the rows of a node. `settings`: by key, as `system.settings` shows them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) fn new(rows: Arc<Rows>, events: Arc<Events>, settings: Vec<(String, String)>) -> Self {
        let settings = settings.into_iter().map(|(name, value)| SettingInfo { name, value }).collect();
        Self { rows, events, settings, broker: OnceLock::new(), runtime: Handle::current() }
    }

    /// From now on there is a broker to ask.
    pub(super) fn show(&self, broker: &Arc<Broker>) {
        // A second call would name the same broker.
        let _ = self.broker.set(Arc::downgrade(broker));
    }

    fn broker(&self) -> Option<Arc<Broker>> {
        self.broker.get()?.upgrade()
    }
}

#[async_trait]
impl Catalog for NodeCatalog {
    fn version(&self) -> u64 {
        self.rows.version()
    }

    fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.rows.topics()
    }

    fn partitions(&self, topic: &TopicInfo) -> Vec<PartitionInfo> {
        self.rows.partitions(topic)
    }

    fn segments(&self, topic: &TopicInfo) -> Vec<(ShardId, Arc<SegmentMeta>)> {
        self.rows.segments(topic)
    }

    async fn snapshot_of(
        &self,
        topic: &TopicInfo,
        shards: &[ShardId],
        tokens: &[Token],
        deadline: Instant,
    ) -> Result<TopicSnapshot, Error> {
        if let Some(broker) = self.broker() {
            broker.confirm_leading(shards).await?;
        }
        self.rows.snapshot_of(topic, shards, tokens, deadline).await
    }

    async fn catch_up(&self) -> bool {
        let Some(broker) = self.broker() else { return false };
        if broker.router.is_alone() {
            return false;
        }
        // Queries have threads of their own, where nothing may touch the network.
        let caught_up = self.runtime.spawn(async move { broker.catch_up_with_meta().await });
        caught_up.await.is_ok_and(|caught_up| {
            caught_up.inspect_err(|error| tracing::warn!(%error, "topics are looked up as they are known here")).is_ok()
        })
    }

    fn shards(&self) -> Vec<ShardInfo> {
        let Some(broker) = self.broker() else { return Vec::new() };
        let info = |tail: TailFigures| {
            let shard = broker.shard(tail.shard)?;
            let figures = figures_of(&shard);
            Some(ShardInfo {
                shard: tail.shard,
                leader: figures.leader,
                applied: shard.applied(),
                visible: tail.visible,
                replay_frontier: stratalog_proto::RaftIndex(figures.replay_frontier),
                log_bytes: figures.log_bytes,
                replay_segments: figures.recs as u64,
                segments: figures.segments as u64,
                tail_rows: tail.rows,
                tail_bytes: tail.bytes,
                producers: figures.producers as u64,
            })
        };
        self.rows.tails().into_iter().filter_map(info).collect()
    }

    fn settings(&self) -> Vec<SettingInfo> {
        self.settings.clone()
    }

    fn events(&self) -> Vec<EventInfo> {
        self.events.list()
    }

    fn groups(&self) -> Vec<GroupInfo> {
        self.broker().map(|broker| broker.group_infos()).unwrap_or_default()
    }

    fn jobs(&self) -> Vec<JobInfo> {
        self.broker().map(|broker| broker.jobs()).unwrap_or_default()
    }

    fn connections(&self) -> Vec<ConnectionInfo> {
        self.broker().map(|broker| broker.connections().list()).unwrap_or_default()
    }
}

impl Broker {
    /// Returns when this node has applied what was acknowledged in these shards before the call, and a majority of each has
    /// confirmed that this node leads it: one that was cut off, or slept, may not know yet that another one does.
    async fn confirm_leading(&self, shards: &[ShardId]) -> Result<(), Error> {
        let alone = |shard: &ShardId| self.shard(*shard).is_some_and(|shard| shard.group().is_alone());
        let shared = shards.iter().filter(|shard| !alone(shard)).map(|shard| self.led_shard(*shard));
        try_join_all(shared).await.map(drop)
    }

    /// The jobs that rewrite what is stored: erasures that are under way in any shard, and the last that ended.
    fn jobs(&self) -> Vec<JobInfo> {
        self.erasures.list().iter().map(JobInfo::from).collect()
    }
}
