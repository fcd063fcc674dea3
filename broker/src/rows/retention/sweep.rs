//! Retention from time to time.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use futures::future::join_all;
use stratalog_proto::ShardId;
use stratalog_query::TopicInfo;
use tokio_util::sync::CancellationToken;

use super::carry_out::Gone;
use super::plan::due;
use crate::rows::runtime::Rows;

/// The present by which rows of each shard are too old.
pub(in crate::rows) struct Clocks(BTreeMap<ShardId, i64>);

impl Clocks {
    /// One present for all of these shards.
    #[cfg(test)]
    pub(in crate::rows) fn all(shards: impl IntoIterator<Item = ShardId>, now_ns: i64) -> Self {
        Self(shards.into_iter().map(|shard| (shard, now_ns)).collect())
    }

    /// Where it is not known what time it is, nothing is too old.
    fn of(&self, shard: ShardId) -> i64 {
        self.0.get(&shard).copied().unwrap_or(i64::MIN)
    }
}

/// Applies retention, and checks S1, from time to time.
pub(in crate::rows) async fn retain(rows: Weak<Rows>, interval: Duration, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        let Some(rows) = rows.upgrade() else { return };
        rows.audit();
        let topics = rows.directory.topics();
        rows.schemas.retain(&topics.iter().map(|topic| topic.id).collect());
        let clocks = match topics.iter().any(|topic| topic.config.retention_ns.is_some()) {
            true => rows.clocks().await,
            false => Clocks(BTreeMap::new()),
        };
        for topic in topics {
            let gone = rows.drop_due(&topic, &clocks).await;
            let (segments, log_bytes, log_starts) = (gone.segments.len(), gone.log_bytes, gone.log_starts.len());
            if segments > 0 || log_starts > 0 {
                tracing::info!(
                    topic = topic.name,
                    segments,
                    log_bytes,
                    log_starts,
                    "dropped what retention no longer keeps"
                );
            }
        }
    }
}

impl Rows {
    /// What time it is for each shard that this node leads.
    async fn clocks(&self) -> Clocks {
        let asked = self.replicas.led().into_iter().map(|shard| async move {
            let id = shard.log.id();
            Some((id, shard.copies.clock_ns(id).await?))
        });
        Clocks(join_all(asked).await.into_iter().flatten().collect())
    }

    /// Drops what is due by the settings of a topic, in every shard that this node leads. What fails is tried again.
    pub(in crate::rows) async fn drop_due(&self, topic: &TopicInfo, clocks: &Clocks) -> Gone {
        let mut gone = Gone::default();
        if topic.config.retention_ns.is_none() && topic.config.retention_bytes.is_none() {
            return gone;
        }
        for shard in self.shards_of(topic) {
            let plan = due(topic, shard.log.id(), &shard.log.extent(topic.id), clocks.of(shard.log.id()));
            if let Err(error) = gone.carry_out(&shard, topic, &plan).await {
                let shard = shard.log.id();
                tracing::warn!(%shard, topic = topic.name, %error, "cannot apply retention; trying again");
            }
        }
        gone
    }
}
