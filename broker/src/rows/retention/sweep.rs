//! Retention from time to time.

use std::sync::Weak;
use std::time::Duration;

use stratalog_query::TopicInfo;
use tokio_util::sync::CancellationToken;

use super::carry_out::Gone;
use super::now_ns;
use super::plan::due;
use crate::rows::runtime::Rows;

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
        let now_ns = now_ns();
        for topic in topics {
            let gone = rows.drop_due(&topic, now_ns).await;
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
    /// Drops what is due by the settings of a topic, in every shard that this node leads. What fails is tried again.
    pub(in crate::rows) async fn drop_due(&self, topic: &TopicInfo, now_ns: i64) -> Gone {
        let mut gone = Gone::default();
        if topic.config.retention_ns.is_none() && topic.config.retention_bytes.is_none() {
            return gone;
        }
        for shard in self.shards_of(topic) {
            let plan = due(topic, shard.log.id(), &shard.log.extent(topic.id), now_ns);
            if let Err(error) = gone.carry_out(&shard, topic, &plan).await {
                let shard = shard.log.id();
                tracing::warn!(%shard, topic = topic.name, %error, "cannot apply retention; trying again");
            }
        }
        gone
    }
}
