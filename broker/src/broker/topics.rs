//! Changes of topics: first the metadata group, then the shards; what is cut short between the two is made good later, on
//! whichever node leads the shard then.
//!
//! A change may end with [`Code::Timeout`] and be applied later. So each change first waits until those before it have
//! their outcome, and builds on what the metadata says then; what is shown here may be older.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, ShardId, TenantId, TopicId, internal};
use stratalog_query::{TopicChange, TopicInfo};

use super::{Broker, META};
use crate::meta::{MAX_PARTITIONS, partitions_by_shard, place_shards, put_topic, remove_topic, shards_of};
use crate::multiline::Multiline;
use crate::rows::check_pattern;

/// How often a change of settings is made anew because others were changed at the same time.
const MAX_CONFLICTS: usize = 10;

/// The changes of topics that this node makes.
#[derive(Default)]
pub(super) struct Changing {
    /// One at a time.
    one: tokio::sync::Mutex<()>,
    /// Whether one was proposed whose outcome is not known.
    unsettled: AtomicBool,
}

impl Broker {
    /// Creates a topic; it can be used on every node when this returns. `partitions` 0 means the default.
    ///
    /// # Errors
    /// [`Code::InvalidTopicName`], [`Code::InvalidConfig`], [`Code::TopicExists`], [`Code::InvalidRequest`] for a number of
    /// partitions out of bounds; [`Code::NotLeader`] if the metadata has no leader: it was not created; [`Code::Timeout`]
    /// if the outcome is unknown.
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
        let _one = self.changing_topics.one.lock().await;
        self.settle().await?;
        let shards = self.shards_for(&config).await?;
        let id = TopicId::new();
        let create = internal::CreateTopic {
            topic: id.to_bytes(),
            tenant: TenantId::default().0,
            name: name.to_owned(),
            config: Some(config.to_internal()),
            shards: self.meta.place(partitions, &shards).iter().map(|shard| shard.0).collect(),
        };
        if let Err(error) = self.change_topics(Command::CreateTopic(create)).await {
            // An earlier creation may have been cut short before the shards had the topic.
            if let Some(there) = self.meta.named(name).filter(|_| error.code == Code::TopicExists) {
                self.host(&there).await?;
            }
            return Err(error);
        }
        let topic = self.meta.topic(id)?;
        self.host(&topic).await.map_err(after_the_change)?;
        Ok(topic)
    }

    /// Changes settings of a topic, all or none. They count for rows that are made from then on.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidConfig`], naming key and value: it is not valid, or may not change.
    pub async fn alter_topic(&self, name: &str, settings: &[(String, String)]) -> Result<Arc<TopicInfo>, Error> {
        self.change_topic(name, &TopicChange { settings: settings.to_vec(), ..TopicChange::default() }).await
    }

    /// Changes settings of a topic, declares columns of it and adds partitions to it, all or none. Records without a partition
    /// of their own go to other ones than before, once there are more.
    ///
    /// # Errors
    /// As [`Broker::alter_topic`]; [`Code::InvalidRequest`] for fewer partitions than there are, or too many.
    pub async fn change_topic(&self, name: &str, change: &TopicChange) -> Result<Arc<TopicInfo>, Error> {
        let _one = self.changing_topics.one.lock().await;
        self.settle().await?;
        for _ in 1..MAX_CONFLICTS {
            match self.try_to_change(name, change).await {
                // Another node changed others: this change is made of what they are now.
                Err(error) if error.code == Code::Conflict => {}
                changed => return changed,
            }
        }
        self.try_to_change(name, change).await
    }

    async fn try_to_change(&self, name: &str, change: &TopicChange) -> Result<Arc<TopicInfo>, Error> {
        let topic = self.current_topic(name).await?;
        let config = changed(&topic, change)?;
        let mut shards = topic.shards.clone();
        if let Some(more) = change.partitions.map(|count| count - topic.partitions).filter(|more| *more > 0) {
            shards.extend(self.meta.place(more, &self.shards_for(&config).await?));
        }
        let is_grown = shards.len() > topic.shards.len();
        let alter = internal::AlterTopic {
            topic: topic.id.to_bytes(),
            config: Some(config.to_internal()),
            expect: Some(topic.config.to_internal()),
            shards: if is_grown { shards.iter().map(|shard| shard.0).collect() } else { Vec::new() },
        };
        self.change_topics(Command::AlterTopic(alter)).await?;
        let partitions = shards.len() as u32;
        self.host_altered(TopicInfo { config, partitions, shards, ..(*topic).clone() }).await
    }

    /// Whether a topic could be changed so. Nothing is.
    ///
    /// # Errors
    /// As [`Broker::change_topic`].
    pub async fn check_change(&self, name: &str, change: &TopicChange) -> Result<(), Error> {
        let topic = self.current_topic(name).await?;
        changed(&topic, change).map(drop)
    }

    /// Has the shards host a topic of which the metadata has this change. Whoever deletes it from then on deletes one that had the
    /// change: that it is gone says nothing of the change.
    async fn host_altered(&self, altered: TopicInfo) -> Result<Arc<TopicInfo>, Error> {
        let Ok(topic) = self.meta.topic(altered.id) else { return Ok(Arc::new(altered)) };
        match self.host(&topic).await {
            Err(_) if self.meta.topic(altered.id).is_err() => Ok(Arc::new(altered)),
            hosted => hosted.map(|()| topic).map_err(after_the_change),
        }
    }

    /// Deletes a topic: its records, rows and segments. It cannot be used here from the moment this begins; if the outcome
    /// is unknown it stays so, since what is written to a deleted topic is lost.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::NotLeader`] if the metadata has no leader: it was not deleted; [`Code::Timeout`] if
    /// the outcome is unknown.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let _one = self.changing_topics.one.lock().await;
        self.settle().await?;
        // By what is: an earlier topic of this name, which this node may still know, was deleted by somebody else.
        let topic = match self.current_topic(name).await {
            Err(unknown) if unknown.code == Code::UnknownTopic => {
                self.forget_deleted().await?;
                return Err(unknown);
            }
            topic => topic?,
        };
        self.topics.retract(&topic);
        let delete = internal::DeleteTopic { topic: topic.id.to_bytes() };
        match deletion(self.change_topics(Command::DeleteTopic(delete)).await) {
            Deletion::Gone => {
                let forgetting = partitions_by_shard(&topic).into_keys().map(|shard| self.forget(shard, topic.id));
                futures::future::try_join_all(forgetting).await.map_err(after_the_change)?;
                self.forget_deleted().await.map_err(after_the_change)
            }
            Deletion::Unknown(error) => Err(error),
            Deletion::Failed(error) => {
                self.meta.restore_topic(topic.id);
                Err(error)
            }
        }
    }

    /// The shards for a topic of these settings, made if there are none of its replication yet.
    async fn shards_for(&self, config: &TopicConfig) -> Result<Vec<ShardId>, Error> {
        let view = self.meta.view();
        let replication = config.replication.unwrap_or(view.replication);
        let shards = shards_of(&view, replication);
        if !shards.is_empty() {
            return Ok(shards);
        }
        let nodes = place_shards(&view, self.options.shards, replication, &self.silent_nodes(&view).await);
        if nodes.is_empty() {
            let message = format!("no node of the cluster takes shards of replication {replication} now");
            return Err(Error::new(Code::Unavailable, message));
        }
        let list =
            |nodes: Vec<stratalog_proto::NodeId>| internal::NodeList { nodes: nodes.iter().map(|id| id.0).collect() };
        let nodes = nodes.into_iter().map(list).collect();
        let create = internal::CreateShards { replication, nodes, if_none: true };
        let created = self.propose(META, Command::CreateShards(create)).await;
        if created.as_ref().is_err_and(|error| error.code == Code::Conflict) {
            self.catch_up_with_meta().await?;
        }
        match (shards_of(&self.meta.view(), replication), created) {
            // Somebody else may have made them at the same time.
            (shards, _) if !shards.is_empty() => Ok(shards),
            (shards, created) => created.map(|_| shards),
        }
    }

    /// Proposes a change of topics. It counts as unsettled from before it is proposed, since who waits may go away.
    async fn change_topics(&self, command: Command) -> Result<(), Error> {
        let unsettled = &self.changing_topics.unsettled;
        unsettled.store(true, Ordering::SeqCst);
        let answer = self.propose(META, command).await.map(|_| ());
        let was_applied = |error: &Error| !matches!(error.code, Code::Timeout | Code::Unavailable | Code::NotLeader);
        if answer.as_ref().err().is_none_or(was_applied) {
            unsettled.store(false, Ordering::SeqCst);
        }
        answer
    }

    /// Returns when every change of topics that this node proposed before has its outcome, and the metadata here shows it.
    /// Entries are applied in order: the answer of any later command is the sign.
    async fn settle(&self) -> Result<(), Error> {
        if self.changing_topics.unsettled.load(Ordering::SeqCst) {
            self.change_topics(Command::AllocateProducerIds(internal::AllocateProducerIds { count: 1 })).await?;
        }
        Ok(())
    }

    /// Makes every shard of a topic host its partitions with its settings.
    async fn host(&self, topic: &Arc<TopicInfo>) -> Result<(), Error> {
        let hosting = partitions_by_shard(topic);
        let hosting = hosting.into_iter().map(|(shard, partitions)| self.host_on(shard, topic, partitions));
        futures::future::try_join_all(hosting).await.map(drop)
    }

    /// Proposes PutTopic, unless this node leads the shard and sees that it hosts all of it already.
    async fn host_on(&self, id: ShardId, topic: &TopicInfo, partitions: Vec<u32>) -> Result<(), Error> {
        let led = if self.router.leads(id) { self.led_shard(id).await.ok() } else { None };
        if led.is_some_and(|shard| shard.read(|state| state.hosts(topic.id, &topic.config, &partitions))) {
            return Ok(());
        }
        self.propose(id, put_topic(topic, partitions)).await.map(drop)
    }

    async fn forget(&self, shard: ShardId, topic: TopicId) -> Result<(), Error> {
        self.propose(shard, remove_topic(topic)).await.map(drop)
    }

    /// Ends what a crash interrupted: topics are hosted by all their shards, and shards forget topics that are gone.
    pub(super) async fn heal_topics(&self) -> Result<(), Error> {
        for topic in self.meta.topics() {
            self.host(&topic).await?;
        }
        self.forget_deleted().await
    }

    /// Has the shards that this node leads forget what the metadata does not have. A topic is there before any shard hosts
    /// it.
    async fn forget_deleted(&self) -> Result<(), Error> {
        let led = self.shards.all().into_iter().filter(|shard| self.router.leads(shard.id()));
        let hosted = led.map(|shard| (shard.id(), shard.read(|state| state.topics().map(|(id, _)| id).collect())));
        let hosted: Vec<(ShardId, Vec<TopicId>)> = hosted.collect();
        // Afterwards: what was hosted before is known now, unless it was deleted. L1: a topic that comes meanwhile is kept.
        self.catch_up_with_meta().await?;
        let known: HashSet<TopicId> = self.meta.topics().iter().map(|topic| topic.id).collect();
        for (shard, topics) in hosted {
            for id in topics.into_iter().filter(|id| !known.contains(id)) {
                self.forget(shard, id).await?;
            }
        }
        Ok(())
    }
}

/// The settings of a topic after a change.
fn changed(topic: &TopicInfo, change: &TopicChange) -> Result<TopicConfig, Error> {
    let (name, there) = (&topic.name, topic.partitions);
    let mut config = topic.config.clone();
    change.apply(&mut config)?;
    topic.config.check_change(&config).map_err(|error| {
        Error::new(error.code, format!("cannot change the settings of topic `{name}`: {}", error.message))
    })?;
    check_expressions(&config)?;
    if let Some(asked) = change.partitions.filter(|asked| !(there..=MAX_PARTITIONS).contains(asked)) {
        let message = format!(
            "topic `{name}` cannot have {asked} partitions: it has {there}, which may only become more, up to {MAX_PARTITIONS}"
        );
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(config)
}

/// Compiles the expressions among a topic's settings, so that no shard and no gateway gets one that is none.
fn check_expressions(config: &TopicConfig) -> Result<(), Error> {
    config.pattern.as_deref().map_or(Ok(()), check_pattern)?;
    config.multiline.as_deref().map_or(Ok(()), |multiline| Multiline::new(multiline).map(|_| ()))
}

/// What happens after the metadata has a change: that it failed does not mean that nothing was changed.
fn after_the_change(error: Error) -> Error {
    match error.code {
        Code::NotLeader | Code::Unavailable | Code::NotFormed => {
            let message = format!("the metadata has the change, and the shards follow later: {}", error.message);
            Error::new(Code::Timeout, message)
        }
        _ => error,
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use stratalog_proto::batch::{BatchBuilder, Compression};
    use stratalog_proto::{JobId, PartitionId, ProducerId};

    use super::*;
    use crate::{BrokerOptions, ErasureInfo, ErasureState, Pipeline};

    async fn restart(broker: Arc<Broker>, options: &BrokerOptions) -> Arc<Broker> {
        broker.stop().await;
        drop(broker);
        loop {
            match Broker::start(options.clone()).await {
                // A process that another test begins may have the lock for a moment.
                Err(error) if error.code == Code::Unavailable => tokio::time::sleep(Duration::from_millis(20)).await,
                started => return started.unwrap(),
            }
        }
    }

    /// Creates a topic as a node does that goes down before it tells the shards.
    async fn create_in_meta(broker: &Broker, name: &str, shards: &[u32]) -> Arc<TopicInfo> {
        let create = internal::CreateTopic {
            topic: TopicId::new().to_bytes(),
            tenant: 0,
            name: name.to_owned(),
            config: Some(TopicConfig::default().to_internal()),
            shards: shards.to_vec(),
        };
        broker.propose(META, Command::CreateTopic(create)).await.unwrap();
        broker.topic(name).unwrap()
    }

    async fn delete_in_meta(broker: &Broker, topic: TopicId) {
        let delete = internal::DeleteTopic { topic: topic.to_bytes() };
        broker.propose(META, Command::DeleteTopic(delete)).await.unwrap();
    }

    fn hosted(broker: &Broker) -> usize {
        broker.shards.get(ShardId(1)).unwrap().read(|state| state.topics().count())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_creation_cut_short_before_the_shards_heals_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions { shards: 2, ..BrokerOptions::new(dir.path()) };
        let broker = Broker::start(options.clone()).await.unwrap();
        let half = create_in_meta(&broker, "half", &[1, 2, 1]).await;
        assert_eq!(broker.topic("half").unwrap(), half);

        let broker = restart(broker, &options).await;
        assert_eq!(broker.topic("half").unwrap(), half);
        assert_eq!(broker.partitions("half").await.unwrap().len(), 3);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_creation_tried_again_after_it_was_cut_short_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        create_in_meta(&broker, "half", &[1]).await;
        let again = broker.create_topic("half", 1, TopicConfig::default()).await;
        assert_eq!(again.unwrap_err().code, Code::TopicExists);
        assert_eq!(broker.partitions("half").await.unwrap().len(), 1);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_sent_ahead_to_a_topic_that_its_shard_does_not_host_yet_waits_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        create_in_meta(&broker, "half", &[1]).await;
        let (pipeline, partition) = (Pipeline::new(), PartitionId(0));
        let produce = async |producer: Option<i32>| {
            let batch = BatchBuilder::new(Compression::None);
            let mut batch = producer.into_iter().fold(batch, |batch, first| batch.producer(ProducerId(7), 0, first));
            batch.push(1, None, Some(b"x"), &[]);
            broker.produce_in((&pipeline, pipeline.begin()), "half", partition, batch.finish()).await
        };
        let hosts = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            broker.create_topic("half", 1, TopicConfig::default()).await
        };
        // Any sequence of a producer that is not known would be taken for its first.
        let sent = [None, None, Some(0), Some(1)].map(produce);
        let (sent, created) = tokio::join!(join_all(sent), hosts);
        assert_eq!(created.unwrap_err().code, Code::TopicExists);
        let offsets: Vec<u64> = sent.into_iter().map(|produced| produced.unwrap().base_offset.0).collect();
        assert_eq!(offsets, [0, 1, 2, 3]);
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
        let mut deletion = Box::pin(broker.delete_topic("t"));
        while broker.topic("t").is_ok() {
            assert!(futures::poll!(&mut deletion).is_pending(), "it is not shown before it is deleted");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // It is proposed, and its caller goes away.
        drop(deletion);
        let new = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        assert_ne!(new.id, old.id);
        broker.delete_topic("t").await.unwrap();
        assert_eq!(hosted(&broker), 0, "both are forgotten");
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deletion_whose_answer_was_lost_is_ended_by_the_next_try() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let gone = broker.create_topic("gone", 1, TopicConfig::default()).await.unwrap();
        delete_in_meta(&broker, gone.id).await;
        assert_eq!(broker.delete_topic("gone").await.unwrap_err().code, Code::UnknownTopic);
        assert_eq!((broker.topics().len(), hosted(&broker)), (0, 0));

        let retracted = broker.create_topic("retracted", 1, TopicConfig::default()).await.unwrap();
        broker.topics.retract(&retracted);
        delete_in_meta(&broker, retracted.id).await;
        assert_eq!(broker.delete_topic("retracted").await.unwrap_err().code, Code::UnknownTopic);
        assert_eq!(hosted(&broker), 0);

        let kept = broker.create_topic("kept", 1, TopicConfig::default()).await.unwrap();
        broker.topics.retract(&kept);
        broker.delete_topic("kept").await.unwrap();
        assert_eq!((broker.meta.topics().len(), hosted(&broker)), (0, 0));
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deletion_is_of_the_topic_that_has_the_name_now() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let topic = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        // As a node shows it that has not applied the deletion of an earlier one yet.
        broker.topics.publish(Arc::new(TopicInfo { id: TopicId::new(), ..(*topic).clone() }));
        broker.delete_topic("t").await.unwrap();
        assert_eq!(broker.list_topics().await.unwrap(), []);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_topic_is_there_until_its_deletion_took_effect_and_nothing_is_written_to_it_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let topic = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        broker.topics.retract(&topic);
        assert_eq!(broker.find_topic("t").await.unwrap_err().code, Code::UnknownTopic);
        assert_eq!(broker.find_topic_by_id(topic.id).await.unwrap_err().code, Code::UnknownTopic);
        assert_eq!(broker.list_topics().await.unwrap(), [Arc::clone(&topic)]);
        let (described, partitions, _) = broker.describe_topic("t").await.unwrap();
        assert_eq!((described, partitions.len()), (Arc::clone(&topic), 1));
        assert_eq!(broker.current_topic_by_id(topic.id).await.unwrap(), topic, "for another node that asks");
        let again = broker.create_topic("t", 1, TopicConfig::default()).await;
        assert_eq!(again.unwrap_err().code, Code::TopicExists);
        let altered = broker.alter_topic("t", &[("retention".to_owned(), "1h".to_owned())]).await.unwrap();
        assert_eq!(broker.current_topic("t").await.unwrap(), altered);
        broker.delete_topic("t").await.unwrap();
        assert_eq!(broker.current_topic("t").await.unwrap_err().code, Code::UnknownTopic);
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
        broker.shards.get(ShardId(1)).unwrap().propose(Command::Erase(erase)).await.unwrap();
        let until = async |is_so: fn(&ErasureInfo) -> bool| {
            while !is_so(&broker.erasures()[0]) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        until(|info| info.error.is_some()).await;
        assert_eq!(broker.erasures()[0].state, ErasureState::Waiting, "it waits for what becomes of the topic");
        broker.topics.restore(topic);
        until(|info| matches!(info.state, ErasureState::Done { .. })).await;
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_alteration_keeps_one_of_another_node() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let topic = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        let other = TopicConfig { max_message_bytes: 4321, ..topic.config.clone() };
        let alter = internal::AlterTopic {
            topic: topic.id.to_bytes(),
            config: Some(other.to_internal()),
            expect: Some(topic.config.to_internal()),
            shards: Vec::new(),
        };
        broker.propose(META, Command::AlterTopic(alter)).await.unwrap();
        assert_eq!(broker.topic("t").unwrap().config, other, "what is applied is shown");
        let altered = broker.alter_topic("t", &[("retention".to_owned(), "1h".to_owned())]).await.unwrap();
        assert_eq!(altered.config.max_message_bytes, 4321);
        assert_eq!(altered.config.retention_ns, Some(3_600_000_000_000));
        assert_eq!(broker.topic("t").unwrap(), altered);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_topic_grows_over_the_shards_that_have_the_fewest_partitions() {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions { shards: 3, ..BrokerOptions::new(dir.path()) };
        let broker = Broker::start(options.clone()).await.unwrap();
        let topic = broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
        let to = |partitions| TopicChange { partitions: Some(partitions), ..TopicChange::default() };
        for (refused, code) in [(1, Code::InvalidRequest), (MAX_PARTITIONS + 1, Code::InvalidRequest)] {
            assert_eq!(broker.change_topic("t", &to(refused)).await.unwrap_err().code, code);
            assert_eq!(broker.check_change("t", &to(refused)).await.unwrap_err().code, code);
        }
        broker.check_change("t", &to(4)).await.unwrap();
        assert_eq!(broker.change_topic("t", &to(2)).await.unwrap(), topic, "as many as there are");
        let grown = broker.change_topic("t", &to(4)).await.unwrap();
        assert_eq!((grown.partitions, &grown.shards[..2]), (4, &topic.shards[..]));
        assert_eq!(grown.distinct_shards().len(), 3, "the empty shard comes first");
        assert_eq!(broker.topic("t").unwrap(), grown);

        let broker = restart(broker, &options).await;
        assert_eq!(broker.topic("t").unwrap(), grown);
        assert_eq!(broker.partitions("t").await.unwrap().len(), 4);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_alteration_took_effect_though_the_topic_is_deleted_before_its_shards_know() {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) }).await.unwrap();
        let topic = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        delete_in_meta(&broker, topic.id).await;
        let config = TopicConfig { max_message_bytes: 4321, ..topic.config.clone() };
        let altered = broker.host_altered(TopicInfo { config, ..(*topic).clone() }).await.unwrap();
        assert_eq!(altered.config.max_message_bytes, 4321);
        broker.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_deletion_cut_short_before_the_shards_heals_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let options = BrokerOptions { shards: 1, ..BrokerOptions::new(dir.path()) };
        let broker = Broker::start(options.clone()).await.unwrap();
        let topic = broker.create_topic("gone", 1, TopicConfig::default()).await.unwrap();
        delete_in_meta(&broker, topic.id).await;

        let broker = restart(broker, &options).await;
        assert_eq!(broker.topics(), []);
        assert_eq!(hosted(&broker), 0);
        broker.stop().await;
    }
}
