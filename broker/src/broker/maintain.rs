//! Work on topics, done by whoever leads their shards.

use std::time::Duration;

use stratalog_proto::{Error, ShardId};
use stratalog_query::TopicInfo;
use stratalog_transport::Method;

use super::Broker;
use super::read::shards_of;
use crate::cluster::route::{Done, Leader, Missed, READ_WAIT, Task};
use crate::rows::{Merged, Retried};

/// How long another node may take for the work in one shard.
const WORK_WAIT: Duration = Duration::from_secs(24 * 3_600);

impl Broker {
    /// Seals the rows of all records of a topic that are applied now: they move from memory to column segments.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`](stratalog_proto::Code::UnknownTopic); why rows of a shard are still in the tail, others may
    /// be sealed.
    pub async fn seal_topic(&self, name: &str) -> Result<(), Error> {
        let topic = self.find_topic(name).await?;
        let sealing = shards_of(&topic).into_iter().map(|shard| self.have_done(&topic, shard, Task::Seal));
        futures::future::join_all(sealing).await.into_iter().try_for_each(|sealed| sealed.map(drop))
    }

    /// Merges the column segments of a topic until each time bucket has as few as possible, and none holds rows below log
    /// start. It ends early if the caller goes away.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`](stratalog_proto::Code::UnknownTopic); why it did not come to the end: what was merged until
    /// then stays merged.
    pub async fn merge_topic(&self, name: &str) -> Result<Merged, Error> {
        let topic = self.find_topic(name).await?;
        let mut sum = Merged::default();
        for shard in shards_of(&topic) {
            if let Done::Merged(merged) = self.have_done(&topic, shard, Task::Merge).await? {
                sum.add(merged);
            }
        }
        Ok(sum)
    }

    /// Makes rows of a topic's dead letters once more, by its settings of now. It ends early if the caller goes away.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`](stratalog_proto::Code::UnknownTopic);
    /// [`Code::InvalidRequest`](stratalog_proto::Code::InvalidRequest) for a topic without rows; those of sealing the
    /// topic, of reading its records and of rewriting its segments. What was mended until then is mended.
    pub async fn retry_dead_letters(&self, name: &str) -> Result<Retried, Error> {
        let topic = self.find_topic(name).await?;
        let mut sum = Retried::default();
        for shard in shards_of(&topic) {
            if let Done::Retried(retried) = self.have_done(&topic, shard, Task::RetryDead).await? {
                sum.tried += retried.tried;
                sum.mended += retried.mended;
            }
        }
        Ok(sum)
    }

    /// Has the leader of a shard do its part of the work on a topic.
    pub(super) async fn have_done(&self, topic: &TopicInfo, shard: ShardId, task: Task) -> Result<Done, Error> {
        let mut tries = self.router.tries(shard, READ_WAIT, true);
        loop {
            let leader = tries.leader().await?;
            let done = match leader {
                Leader::Here => self.do_here(topic, shard, task).await.map_err(Missed::from),
                Leader::At(node) => {
                    let asked = self.router.ask(node, Method::Maintain, task.frame(shard, topic.id), WORK_WAIT).await;
                    asked.and_then(|asked| Done::read(&task, shard, asked.body))
                }
            };
            if let Some(done) = tries.settle(leader, done).await {
                return done;
            }
        }
    }

    /// Does the work in a shard that this node leads.
    ///
    /// # Errors
    /// [`Code::NotLeader`](stratalog_proto::Code::NotLeader); those of the work.
    pub(crate) async fn do_here(&self, topic: &TopicInfo, shard: ShardId, task: Task) -> Result<Done, Error> {
        self.led_shard(shard).await?;
        match task {
            Task::Seal => self.rows.seal_in(shard, topic).await.map(|()| Done::Sealed),
            Task::Merge => self.rows.merge_in(shard, topic).await.map(Done::Merged),
            Task::RetryDead => self.rows.retry_dead_letters_in(shard, topic).await.map(Done::Retried),
            Task::DropBefore { before_ns, dry_run } => {
                self.rows.drop_before_in(shard, topic, before_ns, dry_run).await.map(Done::Gone)
            }
            Task::ApplyRetention { dry_run } => {
                self.rows.apply_retention_in(shard, topic, dry_run).await.map(Done::Gone)
            }
        }
    }
}
