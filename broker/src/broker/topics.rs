//! Changes of topics: first the metadata group, then the shards, and a crash between the two heals at the next start.

use std::sync::Arc;

use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, PartitionId, ShardId, TopicId, internal};
use stratalog_query::TopicInfo;

use super::Broker;
use crate::meta::{MAX_PARTITIONS, partitions_by_shard};
use crate::shard::Shard;

impl Broker {
    /// Creates a topic; it can be used when this returns. `partitions` 0 means the default.
    ///
    /// # Errors
    /// [`Code::InvalidTopicName`], [`Code::TopicExists`], [`Code::InvalidRequest`] for a number of partitions out of
    /// bounds; [`Code::Timeout`] if the outcome is unknown.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Arc<TopicInfo>, Error> {
        check_topic_name(name)?;
        let partitions = if partitions == 0 { self.options.default_partitions } else { partitions };
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let message = format!("topic `{name}` cannot have {partitions} partitions: it has 1 to {MAX_PARTITIONS}");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let _one = self.changing_topics.lock().await;
        if let Some(unfinished) = self.unfinished(name) {
            self.host(&unfinished).await?;
        }
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        let topic = self.meta.create_topic(name, partitions, &config, &shards).await?;
        self.host(&topic).await?;
        Ok(topic)
    }

    /// Changes settings of a topic, all or none.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidConfig`], naming key and value.
    pub async fn alter_topic(&self, name: &str, settings: &[(String, String)]) -> Result<Arc<TopicInfo>, Error> {
        let _one = self.changing_topics.lock().await;
        let topic = self.topics.get(name)?;
        let mut config = topic.config.clone();
        for (key, value) in settings {
            config.set(key, value)?;
        }
        if (config.format, config.bucket_ns) != (topic.config.format, topic.config.bucket_ns) {
            let message = format!("`format` and `bucket` of topic `{name}` are fixed: rows were made with them");
            return Err(Error::new(Code::InvalidConfig, message));
        }
        let topic = self.meta.alter_topic(topic.id, &config).await?;
        self.host(&topic).await?;
        Ok(topic)
    }

    /// Deletes a topic: its records, rows and segments.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::Timeout`] if the outcome is unknown.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let _one = self.changing_topics.lock().await;
        let topic = self.topics.get(name)?;
        self.topics.retract(&topic);
        if let Err(error) = self.meta.delete_topic(topic.id).await {
            self.topics.publish(topic);
            return Err(error);
        }
        for shard in partitions_by_shard(&topic).into_keys().filter_map(|id| self.shard(id)) {
            forget(shard, topic.id).await?;
        }
        Ok(())
    }

    /// A topic that the metadata has and that cannot be used yet: an earlier creation did not come to its end.
    fn unfinished(&self, name: &str) -> Option<Arc<TopicInfo>> {
        let topic = self.meta.topics().into_iter().find(|topic| topic.name == name)?;
        self.topics.by_id(topic.id).is_none().then_some(topic)
    }

    /// Makes every shard of a topic host its partitions with its settings, then makes the topic visible.
    pub(super) async fn host(&self, topic: &Arc<TopicInfo>) -> Result<(), Error> {
        let hosting = partitions_by_shard(topic).into_iter().map(|(id, partitions)| async move {
            let missing =
                || Error::new(Code::Internal, format!("topic `{}` lives on shard {id}, which is not here", topic.name));
            let shard = self.shard(id).ok_or_else(missing)?;
            host_on(shard, topic, partitions).await
        });
        futures::future::try_join_all(hosting).await?;
        self.topics.publish(Arc::clone(topic));
        Ok(())
    }

    /// Ends what a crash interrupted: topics are hosted by all their shards, and shards forget topics that are gone.
    pub(super) async fn heal_topics(&self) -> Result<(), Error> {
        let topics = self.meta.topics();
        for topic in &topics {
            self.host(topic).await?;
        }
        for shard in self.shards.values() {
            let hosted: Vec<TopicId> = shard.read(|state| state.topics().map(|(id, _)| id).collect());
            for id in hosted.into_iter().filter(|id| topics.iter().all(|topic| topic.id != *id)) {
                forget(shard, id).await?;
            }
        }
        Ok(())
    }
}

/// Proposes PutTopic, unless the shard hosts all of it already.
async fn host_on(shard: &Shard, topic: &TopicInfo, partitions: Vec<u32>) -> Result<(), Error> {
    let hosted = shard.read(|state| {
        let all = || partitions.iter().all(|p| state.partition(topic.id, PartitionId(*p)).is_some());
        state.topic(topic.id).is_some_and(|hosted| hosted.config == topic.config) && all()
    });
    if hosted {
        return Ok(());
    }
    let put = internal::PutTopic { topic: topic.id.to_bytes(), partitions, config: Some(topic.config.to_internal()) };
    shard.propose(Command::PutTopic(put)).await.map(|_| ())
}

async fn forget(shard: &Shard, topic: TopicId) -> Result<(), Error> {
    let remove = internal::RemoveTopic { topic: topic.to_bytes() };
    shard.propose(Command::RemoveTopic(remove)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BrokerOptions;

    async fn restart(broker: Arc<Broker>, options: &BrokerOptions) -> Arc<Broker> {
        broker.stop().await;
        drop(broker);
        Broker::start(options.clone()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_creation_cut_short_before_the_shards_heals_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions { shards: 2, ..BrokerOptions::new(dir.path()) };
        let broker = Broker::start(options.clone()).await.unwrap();
        let shards = [ShardId(1), ShardId(2)];
        let half = broker.meta.create_topic("half", 3, &TopicConfig::default(), &shards).await.unwrap();
        assert_eq!(broker.topic("half").unwrap_err().code, Code::UnknownTopic);

        let broker = restart(broker, &options).await;
        assert_eq!(broker.topic("half").unwrap(), half);
        assert_eq!(broker.partitions("half").unwrap().len(), 3);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_creation_tried_again_after_it_was_cut_short_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        broker.meta.create_topic("half", 1, &TopicConfig::default(), &[ShardId(1)]).await.unwrap();
        let again = broker.create_topic("half", 1, TopicConfig::default()).await;
        assert_eq!(again.unwrap_err().code, Code::TopicExists);
        assert_eq!(broker.partitions("half").unwrap().len(), 1);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deletion_cut_short_before_the_shards_heals_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) };
        let broker = Broker::start(options.clone()).await.unwrap();
        let topic = broker.create_topic("gone", 1, TopicConfig::default()).await.unwrap();
        broker.meta.delete_topic(topic.id).await.unwrap();

        let broker = restart(broker, &options).await;
        assert_eq!(broker.topics(), []);
        assert_eq!(broker.shards[&ShardId(1)].read(|state| state.topics().count()), 0);
        broker.stop().await;
    }
}
