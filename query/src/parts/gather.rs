//! One snapshot of a topic over all nodes: what is here, and a part at each node that leads some of its shards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use futures::future::{try_join, try_join_all};
use stratalog_proto::{Code, Error, NodeId, ShardId, Token, internal, v1};

use super::part::Part;
use crate::catalog::{TopicInfo, TopicSnapshot};
use crate::core::Core;
use crate::query::Query;
use crate::schema::merge_schemas;
use crate::system::may_have_dead_rows;

/// How long leaders are looked for before a query gives up on them: longer than an election takes.
const PATIENCE: Duration = Duration::from_secs(8);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(150);

/// The rows of a topic at one moment, wherever they are.
#[derive(Clone, Debug)]
pub(crate) struct TopicRows {
    /// Those that are here; the schema is that of all.
    pub(crate) snapshot: Arc<TopicSnapshot>,
    /// Those of other nodes.
    pub(crate) parts: Vec<Arc<Part>>,
}

impl From<Arc<TopicSnapshot>> for TopicRows {
    /// Nothing but what is here.
    fn from(snapshot: Arc<TopicSnapshot>) -> Self {
        Self { snapshot, parts: Vec::new() }
    }
}

impl TopicRows {
    /// What answers include, by shard.
    pub(crate) fn fences(&self) -> impl Iterator<Item = v1::ShardFence> {
        let here = self.snapshot.shards.iter();
        let here = here.map(|shard| v1::ShardFence { shard: shard.shard.0, index: shard.fence.0, lag: shard.lag });
        here.chain(self.parts.iter().flat_map(|part| part.fences()))
    }

    /// Whether one of them may be a dead letter.
    pub(crate) fn have_dead_letters(&self) -> bool {
        may_have_dead_rows(&self.snapshot) || self.parts.iter().any(|part| part.opened.dead_letters)
    }
}

/// Whether an error says that rows were not found where they were looked for, and may be found elsewhere or later.
pub(crate) fn is_loss(error: &Error) -> bool {
    matches!(error.code, Code::NotLeader | Code::Unavailable | Code::Timeout)
}

/// A snapshot of a topic with every one of `tokens` visible (Q1). While leaders change it is taken again: nothing was
/// read from it yet.
///
/// # Errors
/// Those of the catalogue and of the workers; [`Code::Unavailable`] if leaders were not found for [`PATIENCE`].
pub(crate) async fn gather(
    core: &Core,
    topic: &TopicInfo,
    tokens: &[Token],
    query: &Arc<Query>,
) -> Result<TopicRows, Error> {
    let until = query.deadline().min(Instant::now() + PATIENCE);
    loop {
        match gather_once(core, topic, tokens, query).await {
            Err(error) if is_loss(&error) && !core.workers.others().is_empty() && Instant::now() + PAUSE < until => {
                tracing::debug!(topic = topic.name, %error, "looking for the leaders of a topic again");
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

async fn gather_once(core: &Core, topic: &TopicInfo, tokens: &[Token], query: &Arc<Query>) -> Result<TopicRows, Error> {
    let shards = topic.distinct_shards();
    let elsewhere = core.workers.elsewhere(&shards, query.deadline()).await?;
    let mut by_node: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
    for (shard, node) in &elsewhere {
        by_node.entry(*node).or_default().push(*shard);
    }
    let here: Vec<ShardId> = shards.into_iter().filter(|shard| !elsewhere.contains_key(shard)).collect();
    let tokens_of = |shards: &[ShardId]| -> Vec<Token> {
        tokens.iter().filter(|token| shards.contains(&token.shard)).copied().collect()
    };
    let (of_here, deadline) = (tokens_of(&here), query.deadline());
    let snapshot = core.catalog.snapshot_of(topic, &here, &of_here, deadline);
    let parts = by_node.into_iter().map(|(node, shards)| {
        let tokens = tokens_of(&shards);
        open(core, topic, node, shards, tokens, query)
    });
    let (snapshot, parts) = try_join(snapshot, try_join_all(parts)).await?;
    Ok(whole(snapshot, parts))
}

/// The rows of all, in the schema that holds them all.
fn whole(snapshot: TopicSnapshot, parts: Vec<Arc<Part>>) -> TopicRows {
    if parts.is_empty() {
        return Arc::new(snapshot).into();
    }
    let schemas = parts.iter().map(|part| &*part.schema).chain([&*snapshot.schema]);
    let schema = merge_schemas(schemas.collect::<Vec<&Schema>>());
    TopicRows { snapshot: Arc::new(TopicSnapshot { schema, ..snapshot }), parts }
}

async fn open(
    core: &Core,
    topic: &TopicInfo,
    node: NodeId,
    shards: Vec<ShardId>,
    tokens: Vec<Token>,
    query: &Arc<Query>,
) -> Result<Arc<Part>, Error> {
    let left = query.deadline().saturating_duration_since(Instant::now());
    let token = |token: &Token| internal::PartToken { shard: token.shard.0, index: token.index.0 };
    let request = internal::OpenPart {
        topic: topic.id.to_bytes(),
        shards: shards.iter().map(|shard| shard.0).collect(),
        tokens: tokens.iter().map(token).collect(),
        timeout_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
        query: query.id.clone(),
        text: query.text.clone(),
    };
    let (workers, of) = (core.workers.clone(), query.clone());
    // A query that ends meanwhile leaves the call to its end, so that what it opened is closed.
    let opening = tokio::spawn(async move {
        let opened = workers.open(node, request).await?;
        Part::new(node, shards, opened, &of, &workers)
    });
    let failed = |error| Error::new(Code::Internal, format!("opening a part at node {node} failed: {error}"));
    let part = opening.await.map_err(failed)??;
    query.has_part_elsewhere();
    Ok(Arc::new(part))
}
