//! Changes of topics: first the metadata group, then the shards, and a crash between the two heals at the next start.
//!
//! A change may end with [`Code::Timeout`] and be applied later. So each change first waits until those before it have
//! their outcome, and builds on what the metadata says then; what is published may be older.

use std::collections::HashSet;
use std::sync::Arc;

use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, PartitionId, ShardId, TopicId, internal};
use stratalog_query::{TopicChange, TopicInfo};

use super::Broker;
use crate::meta::{MAX_PARTITIONS, partitions_by_shard};
use crate::multiline::Multiline;
use crate::rows::check_pattern;
use crate::shard::Shard;

impl Broker {
    /// Creates a topic; it can be used when this returns. `partitions` 0 means the default.
    ///
    /// # Errors
    /// [`Code::InvalidTopicName`], [`Code::InvalidConfig`], [`Code::TopicExists`], [`Code::InvalidRequest`] for a number of
    /// partitions out of bounds; [`Code::Timeout`] if the outcome is unknown.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: TopicConfig,
    ) -> Result<Arc<TopicInfo>, Error> {
        check_topic_name(name)?;
        config.check()?;
        check_expressions(&config)?;
        let partitions = if partitions == 0 { self.options.default_partitions } else { partitions };
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            let message = format!("topic `{name}` cannot have {partitions} partitions: it has 1 to {MAX_PARTITIONS}");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let _one = self.changing_topics.lock().await;
        self.meta.settle().await?;
        if let Some(unfinished) = self.unfinished(name) {
            self.host(&unfinished).await?;
        }
        let shards: Vec<ShardId> = self.shards.keys().copied().collect();
        let topic = self.meta.create_topic(name, partitions, &config, &shards).await?;
        self.host(&topic).await?;
        Ok(topic)
    }

    /// Changes settings of a topic, all or none. They count for rows that are made from then on.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidConfig`], naming key and value: it is not valid, or may not change.
    pub async fn alter_topic(&self, name: &str, settings: &[(String, String)]) -> Result<Arc<TopicInfo>, Error> {
        self.change_topic(name, &TopicChange { settings: settings.to_vec(), ..TopicChange::default() }).await
    }

    /// Changes settings of a topic, and declares columns of it, all or none.
    ///
    /// # Errors
    /// As [`Broker::alter_topic`].
    pub async fn change_topic(&self, name: &str, change: &TopicChange) -> Result<Arc<TopicInfo>, Error> {
        let _one = self.changing_topics.lock().await;
        self.meta.settle().await?;
        let topic = self.meta.topic(self.topics.get(name)?.id)?;
        let mut config = topic.config.clone();
        change.apply(&mut config)?;
        topic.config.check_change(&config).map_err(|error| {
            Error::new(error.code, format!("cannot change the settings of topic `{name}`: {}", error.message))
        })?;
        check_expressions(&config)?;
        let topic = self.meta.alter_topic(topic.id, &config).await?;
        self.host(&topic).await?;
        Ok(topic)
    }

    /// Deletes a topic: its records, rows and segments. It cannot be used from the moment this begins; if the outcome is
    /// unknown it stays so, since what is written to a deleted topic is lost.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::Timeout`] if the outcome is unknown.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let _one = self.changing_topics.lock().await;
        self.meta.settle().await?;
        let published = self.topics.get(name);
        // A deletion of unknown outcome left it in the metadata, or only in the shards.
        let Some(topic) = published.clone().ok().or_else(|| self.meta.named(name)) else {
            self.forget_deleted().await?;
            return published.map(|_| ());
        };
        self.topics.retract(&topic);
        match deletion(self.meta.delete_topic(topic.id).await) {
            Deletion::Gone => {
                for shard in partitions_by_shard(&topic).into_keys().filter_map(|id| self.shard(id)) {
                    forget(shard, topic.id).await?;
                }
                self.forget_deleted().await
            }
            Deletion::Unknown(error) => Err(error),
            Deletion::Failed(error) => {
                if let (Ok(_), Ok(current)) = (published, self.meta.topic(topic.id)) {
                    self.topics.publish(current);
                }
                Err(error)
            }
        }
    }

    /// A topic that the metadata has and that cannot be used yet: an earlier creation did not come to its end.
    fn unfinished(&self, name: &str) -> Option<Arc<TopicInfo>> {
        let topic = self.meta.named(name)?;
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
        for topic in self.meta.topics() {
            self.host(&topic).await?;
        }
        self.forget_deleted().await
    }

    /// Has the shards forget what the metadata does not have. A topic is there before any shard hosts it.
    async fn forget_deleted(&self) -> Result<(), Error> {
        let known: HashSet<TopicId> = self.meta.topics().iter().map(|topic| topic.id).collect();
        for shard in self.shards.values() {
            let hosted: Vec<TopicId> = shard.read(|state| state.topics().map(|(id, _)| id).collect());
            for id in hosted.into_iter().filter(|id| !known.contains(id)) {
                forget(shard, id).await?;
            }
        }
        Ok(())
    }
}

/// Compiles the expressions among a topic's settings, so that no shard and no gateway gets one that is none.
fn check_expressions(config: &TopicConfig) -> Result<(), Error> {
    config.pattern.as_deref().map_or(Ok(()), check_pattern)?;
    config.multiline.as_deref().map_or(Ok(()), |multiline| Multiline::new(multiline).map(|_| ()))
}

/// What the answer to a DeleteTopic means.
#[derive(Debug, PartialEq)]
enum Deletion {
    Gone,
    /// It was not deleted, and will not be.
    Failed(Error),
    /// It may be deleted, now or later.
    Unknown(Error),
}

fn deletion(answer: Result<(), Error>) -> Deletion {
    match answer {
        Ok(()) => Deletion::Gone,
        // An earlier try came through after all.
        Err(error) if error.code == Code::UnknownTopic => Deletion::Gone,
        Err(error) if error.code == Code::Timeout => Deletion::Unknown(error),
        Err(error) => Deletion::Failed(error),
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
    use std::time::Duration;

    use futures::FutureExt;
    use stratalog_proto::JobId;

    use super::*;
    use crate::{BrokerOptions, ErasureInfo, ErasureState};

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

    #[test]
    fn only_a_known_failure_of_a_deletion_leaves_the_topic_in_use() {
        let answer = |code| deletion(Err(Error::new(code, "")));
        assert_eq!(deletion(Ok(())), Deletion::Gone);
        assert_eq!(answer(Code::UnknownTopic), Deletion::Gone);
        assert!(matches!(answer(Code::Timeout), Deletion::Unknown(_)));
        for code in [Code::Unavailable, Code::NotLeader] {
            assert!(matches!(answer(code), Deletion::Failed(_)), "{code:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deletion_that_nobody_waited_for_is_settled_before_the_next_change() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let old = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        assert!(broker.delete_topic("t").now_or_never().is_none(), "it is proposed, and its caller goes away");
        assert_eq!(broker.topic("t").unwrap_err().code, Code::UnknownTopic);
        let new = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        assert_ne!(new.id, old.id);
        broker.delete_topic("t").await.unwrap();
        assert_eq!(broker.shards[&ShardId(1)].read(|state| state.topics().count()), 0, "both are forgotten");
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deletion_whose_answer_was_lost_is_ended_by_the_next_try() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let hosted = || broker.shards[&ShardId(1)].read(|state| state.topics().count());
        let gone = |name: &'static str| {
            let topic = broker.topic(name).unwrap();
            let broker = &broker;
            async move { broker.meta.delete_topic(topic.id).await.unwrap() }
        };
        broker.create_topic("published", 1, TopicConfig::default()).await.unwrap();
        gone("published").await;
        broker.delete_topic("published").await.unwrap();
        assert_eq!((broker.topics().len(), hosted()), (0, 0));

        broker.create_topic("retracted", 1, TopicConfig::default()).await.unwrap();
        gone("retracted").await;
        broker.topics.retract(&broker.topic("retracted").unwrap());
        assert_eq!(broker.delete_topic("retracted").await.unwrap_err().code, Code::UnknownTopic);
        assert_eq!(hosted(), 0);

        let kept = broker.create_topic("kept", 1, TopicConfig::default()).await.unwrap();
        broker.topics.retract(&kept);
        broker.delete_topic("kept").await.unwrap();
        assert_eq!((broker.meta.topics().len(), hosted()), (0, 0));
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_erasure_outlives_a_deletion_that_fails() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let topic = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        broker.topics.retract(&topic);
        let erase = internal::Erase {
            job: JobId::new().to_bytes(),
            topic: topic.id.to_bytes(),
            predicate: "_offset = 0".to_owned(),
            columns: Vec::new(),
        };
        broker.shards[&ShardId(1)].propose(Command::Erase(erase)).await.unwrap();
        let until = async |is_so: fn(&ErasureInfo) -> bool| {
            while !is_so(&broker.erasures()[0]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        until(|info| info.error.is_some()).await;
        assert_eq!(broker.erasures()[0].state, ErasureState::Waiting, "it waits for what becomes of the topic");
        broker.topics.publish(topic);
        until(|info| matches!(info.state, ErasureState::Done { .. })).await;
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_alteration_keeps_one_whose_answer_was_lost() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let topic = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        let unheard = TopicConfig { max_message_bytes: 4321, ..topic.config.clone() };
        broker.meta.alter_topic(topic.id, &unheard).await.unwrap();
        assert_eq!(broker.topic("t").unwrap().config, topic.config);
        let altered = broker.alter_topic("t", &[("retention".to_owned(), "1h".to_owned())]).await.unwrap();
        assert_eq!(altered.config.max_message_bytes, 4321);
        assert_eq!(altered.config.retention_ns, Some(3_600_000_000_000));
        assert_eq!(broker.topic("t").unwrap(), altered);
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
