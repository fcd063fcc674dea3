//! Rows over logs of tests, and the work on a topic in all of its shards.

use std::collections::BTreeSet;
use std::sync::Arc;

use stratalog_proto::{Error, ShardId};
use stratalog_query::TopicInfo;

use super::{AloneCopies, FixedTopics, MemLog};
use crate::pull::Way;
use crate::rows::copies::SegmentCopies;
use crate::rows::dead_letters::Retried;
use crate::rows::merge::Merged;
use crate::rows::options::RowsOptions;
use crate::rows::retention::{Clocks, Gone};
use crate::rows::runtime::Rows;

/// The rows of these logs, as of a cluster of one.
pub(in crate::rows) async fn rows_over(
    logs: impl IntoIterator<Item = Arc<MemLog>>,
    directory: Arc<FixedTopics>,
    options: RowsOptions,
) -> Arc<Rows> {
    rows_with(logs, Arc::new(AloneCopies), directory, options).await
}

/// The rows of these logs, with other replicas.
pub(in crate::rows) async fn rows_with(
    logs: impl IntoIterator<Item = Arc<MemLog>>,
    copies: Arc<dyn SegmentCopies>,
    directory: Arc<FixedTopics>,
    options: RowsOptions,
) -> Arc<Rows> {
    let rows = Rows::start(directory, copies, Arc::new(Way::new(0)), options);
    for log in logs {
        rows.add(log).await.unwrap();
    }
    rows
}

impl Rows {
    pub(in crate::rows) async fn seal_now(&self, topic: &TopicInfo) -> Result<(), Error> {
        let sealing = shards(topic).into_iter().map(|shard| self.seal_in(shard, topic));
        futures::future::join_all(sealing).await.into_iter().collect()
    }

    pub(in crate::rows) async fn merge_now(&self, topic: &TopicInfo) -> Result<Merged, Error> {
        let mut merged = Merged::default();
        for shard in shards(topic) {
            merged.add(self.merge_in(shard, topic).await?);
        }
        Ok(merged)
    }

    pub(in crate::rows) async fn retry_dead_letters(&self, topic: &TopicInfo) -> Result<Retried, Error> {
        let mut retried = Retried::default();
        for shard in shards(topic) {
            retried += self.retry_dead_letters_in(shard, topic).await?;
        }
        Ok(retried)
    }

    pub(in crate::rows) async fn drop_before(
        &self,
        topic: &TopicInfo,
        before_ns: i64,
        dry_run: bool,
    ) -> Result<Gone, Error> {
        let mut gone = Gone::default();
        for shard in shards(topic) {
            gone.add(self.drop_before_in(shard, topic, before_ns, dry_run).await?);
        }
        Ok(gone)
    }

    /// Drops what is due at a time.
    pub(in crate::rows) async fn drop_due_at(&self, topic: &TopicInfo, now_ns: i64) -> Gone {
        self.drop_due(topic, &Clocks::all(shards(topic), now_ns)).await
    }

    pub(in crate::rows) async fn apply_retention(&self, topic: &TopicInfo, dry_run: bool) -> Result<Gone, Error> {
        let mut gone = Gone::default();
        for shard in shards(topic) {
            gone.add(self.apply_retention_in(shard, topic, dry_run).await?);
        }
        Ok(gone)
    }
}

fn shards(topic: &TopicInfo) -> BTreeSet<ShardId> {
    topic.shards.iter().copied().collect()
}
