//! What queries see: topics from the metadata, rows from the shards.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, SegmentId, ShardId, Token, TopicId};
use stratalog_query::{Catalog, PartitionInfo, ShardSnapshot, TopicInfo, TopicSnapshot, merge_schemas};
use stratalog_storage::SegmentMeta;

use super::parse::{declared_schema, empty_schema};
use super::runtime::Rows;
use super::shard_rows::ShardRows;

/// How long a query without a token waits for what was applied when it arrived.
const FRESH_WAIT: Duration = Duration::from_secs(1);

/// The topics of the cluster, as metadata knows them.
pub(crate) trait Directory: Send + Sync + 'static {
    /// Grows with every change of a topic.
    fn version(&self) -> u64;

    /// Every topic, in the order of names.
    fn topics(&self) -> Vec<Arc<TopicInfo>>;
}

/// Merged schemas of the segments of each topic.
#[derive(Default)]
pub(super) struct Schemas {
    of_segments: Mutex<HashMap<TopicId, (HashSet<SegmentId>, SchemaRef)>>,
    /// Grows when one of them changes.
    epoch: AtomicU64,
}

impl Schemas {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The schema of everything in the snapshots, and of the columns that the topic declares. Reads the footers of
    /// segments that were not open yet: blocks.
    fn merged(&self, topic: &TopicInfo, shards: &[ShardSnapshot]) -> Result<SchemaRef, Error> {
        let of_segments = match self.cached(topic.id, shards) {
            Some(schema) => schema,
            None => self.merge_segments(topic.id, shards)?,
        };
        let chunks = shards.iter().flat_map(|shard| &shard.tail).map(|chunk| chunk.rows.schema());
        let declared = Some(&topic.config.columns).filter(|columns| !columns.is_empty());
        let distinct: HashSet<SchemaRef> = chunks.chain(declared.map(|columns| declared_schema(columns))).collect();
        if distinct.iter().all(|schema| *schema == of_segments) {
            return Ok(of_segments);
        }
        Ok(merge_schemas(distinct.iter().chain([&of_segments]).map(|schema| &**schema)))
    }

    /// The schema that was merged from just these segments.
    fn cached(&self, topic: TopicId, shards: &[ShardSnapshot]) -> Option<SchemaRef> {
        let cache = self.of_segments.lock();
        let (known, schema) = cache.get(&topic)?;
        let count: usize = shards.iter().map(|shard| shard.segments.len()).sum();
        let mut segments = shards.iter().flat_map(|shard| &shard.segments);
        (known.len() == count && segments.all(|segment| known.contains(&segment.meta.id))).then(|| schema.clone())
    }

    fn merge_segments(&self, topic: TopicId, shards: &[ShardSnapshot]) -> Result<SchemaRef, Error> {
        let mut distinct = HashSet::from([empty_schema()]);
        let mut ids = HashSet::new();
        for segment in shards.iter().flat_map(|shard| &shard.segments) {
            distinct.insert(segment.reader()?.schema().clone());
            ids.insert(segment.meta.id);
        }
        let schema = merge_schemas(distinct.iter().map(|schema| &**schema));
        let before = self.of_segments.lock().insert(topic, (ids, schema.clone()));
        if before.is_none_or(|(_, before)| before != schema) {
            self.epoch.fetch_add(1, Ordering::Relaxed);
        }
        Ok(schema)
    }

    /// Forgets topics that are no more.
    pub(super) fn retain(&self, topics: &HashSet<TopicId>) {
        self.of_segments.lock().retain(|topic, _| topics.contains(topic));
    }
}

#[async_trait]
impl Catalog for Rows {
    fn version(&self) -> u64 {
        self.directory.version() + self.schemas.epoch()
    }

    fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.directory.topics()
    }

    fn partitions(&self, topic: &TopicInfo) -> Vec<PartitionInfo> {
        let here = self.replicas.of(topic);
        let mut partitions: Vec<_> = here.iter().flat_map(|replica| replica.log.partitions(topic.id)).collect();
        partitions.sort_unstable_by_key(|info| info.partition);
        partitions
    }

    fn segments(&self, topic: &TopicInfo) -> Vec<(ShardId, Arc<SegmentMeta>)> {
        let segments = self.replicas.of(topic).into_iter().flat_map(|replica| {
            let id = replica.log.id();
            replica.segments(topic.id).into_iter().map(move |meta| (id, meta))
        });
        segments.collect()
    }

    /// [`Code::NotLeader`] comes before anything is waited for, and [`Code::Unavailable`] while rows are rebuilt or files are
    /// fetched.
    async fn snapshot_of(
        &self,
        topic: &TopicInfo,
        shards: &[ShardId],
        tokens: &[Token],
        deadline: Instant,
    ) -> Result<TopicSnapshot, Error> {
        let led: Vec<_> = shards.iter().map(|id| self.replicas.led_in(*id)).collect::<Result<_, _>>()?;
        tokio::select! {
            shown = self.wait_until_shown(&led, topic, tokens, deadline) => shown?,
            // Nothing more becomes visible here.
            ended = no_longer(&led) => return Err(ended),
        }
        let shards: Vec<_> = led.iter().map(|shard| shard.snapshot(topic.id)).collect::<Result<_, _>>()?;
        let (schemas, info) = (self.schemas.clone(), Arc::new(topic.clone()));
        let of = info.clone();
        let merged = tokio::task::spawn_blocking(move || schemas.merged(&of, &shards).map(|schema| (schema, shards)));
        let merged = merged.await.unwrap_or_else(|panic| {
            Err(Error::new(Code::Internal, format!("cannot read the schema of topic `{}`: {panic}", topic.name)))
        });
        let (schema, shards) = merged?;
        led.iter().try_for_each(|shard| shard.check_leads())?;
        Ok(TopicSnapshot { topic: info, schema, version: self.version(), shards })
    }
}

impl Rows {
    /// Whether this node has the rows of a shard: it leads it.
    pub(crate) fn leads(&self, shard: ShardId) -> bool {
        self.replicas.led_in(shard).is_ok()
    }

    /// Waits until a topic shows what a query has to see.
    ///
    /// # Errors
    /// Those of [`wait_until_whole`](Self::wait_until_whole); [`Code::QueryDeadline`] for a token.
    async fn wait_until_shown(
        &self,
        led: &[Arc<ShardRows>],
        topic: &TopicInfo,
        tokens: &[Token],
        deadline: Instant,
    ) -> Result<(), Error> {
        self.wait_until_whole(led, topic, deadline).await?;
        for shard in led {
            let awaited = tokens.iter().filter(|token| token.shard == shard.log.id()).max_by_key(|token| token.index);
            if let Some(token) = awaited {
                wait_for(shard, *token, topic, deadline).await?;
            }
        }
        wait_for_applied(led, deadline).await;
        Ok(())
    }

    /// Waits until a topic shows what was applied when this node began to lead its shards, and until all of its files are
    /// here, for [`RowsOptions::rebuild_wait`] at the most.
    ///
    /// # Errors
    /// [`Code::Unavailable`]: an answer would be short.
    ///
    /// [`RowsOptions::rebuild_wait`]: super::options::RowsOptions::rebuild_wait
    async fn wait_until_whole(
        &self,
        led: &[Arc<ShardRows>],
        topic: &TopicInfo,
        deadline: Instant,
    ) -> Result<(), Error> {
        let deadline = deadline.min(Instant::now() + self.options.rebuild_wait);
        for shard in led {
            shard.rebuild.wait(&*shard.log, &shard.tail, topic, deadline).await?;
            shard.wait_for_files(topic.id, deadline).await?;
        }
        Ok(())
    }
}

/// Returns when one of the shards is led here no longer.
async fn no_longer(led: &[Arc<ShardRows>]) -> Error {
    let ends = led.iter().map(|shard| async {
        shard.stop.cancelled().await;
        shard.no_longer()
    });
    match ends.collect::<FuturesUnordered<_>>().next().await {
        Some(ended) => ended,
        None => std::future::pending().await,
    }
}

/// Gives the materializers a moment to show what was applied when the query arrived, so that who writes and then asks
/// finds it, also without a token. Only a token makes it certain: past the moment the answer says how far it lags.
async fn wait_for_applied(led: &[Arc<ShardRows>], deadline: Instant) {
    let shown = led.iter().map(|shard| async {
        let applied = shard.log.applied();
        // An error means that the node is stopping, which the query learns soon enough.
        let _ = shard.tail.watch_materialized().wait_for(|index| *index >= applied).await;
    });
    let moment = deadline.min(Instant::now() + FRESH_WAIT);
    let _ = tokio::time::timeout_at(moment.into(), futures::future::join_all(shown)).await;
}

/// Waits until the token's record is visible (Q1).
async fn wait_for(shard: &ShardRows, token: Token, topic: &TopicInfo, deadline: Instant) -> Result<(), Error> {
    let mut materialized = shard.tail.watch_materialized();
    let visible = materialized.wait_for(|index| *index >= token.index);
    match tokio::time::timeout_at(deadline.into(), visible).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Error::new(Code::Unavailable, "the node is stopping")),
        Err(_) => {
            let message = format!(
                "topic `{}` does not show the token {}:{} in time: shard {} has applied {} and shows {}; \
                 ask again later, or without the token",
                topic.name,
                token.shard,
                token.index,
                token.shard,
                shard.log.applied(),
                shard.tail.materialized(),
            );
            Err(Error::new(Code::QueryDeadline, message))
        }
    }
}
