//! What SQL changes, made as every other listener makes it.

use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Code, Error};
use stratalog_query::{Changes, TopicChange};
use tokio::runtime::Handle;

use super::Broker;

/// Makes changes through the broker, which is there only after the engine that asks for them.
#[derive(Default)]
pub(super) struct TopicChanges {
    broker: OnceLock<(Weak<Broker>, Handle)>,
}

impl TopicChanges {
    /// From now on changes are made through `broker`, on the threads that this is called on.
    pub(super) fn make_through(&self, broker: &Arc<Broker>) {
        // A second call would name the same broker.
        let _ = self.broker.set((Arc::downgrade(broker), Handle::current()));
    }

    /// Makes a change on the threads of the broker, to its end, also when nobody waits for it any more.
    async fn make<T, F>(&self, change: impl FnOnce(Arc<Broker>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let unavailable = || Error::new(Code::Unavailable, "the node is starting or stopping; try again");
        let (broker, threads) = self.broker.get().ok_or_else(unavailable)?;
        let broker = broker.upgrade().ok_or_else(unavailable)?;
        let made = threads.spawn(change(broker)).await;
        made.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a change ended early: {panic}"))))
    }
}

#[async_trait]
impl Changes for TopicChanges {
    async fn create_topic(&self, name: &str, partitions: u32, config: TopicConfig) -> Result<(), Error> {
        let name = name.to_owned();
        self.make(|broker| async move { broker.create_topic(&name, partitions, config).await.map(drop) }).await
    }

    async fn alter_topic(&self, name: &str, change: TopicChange) -> Result<(), Error> {
        let name = name.to_owned();
        self.make(|broker| async move { broker.change_topic(&name, &change).await.map(drop) }).await
    }

    async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.make(|broker| async move { broker.delete_topic(&name).await }).await
    }

    async fn delete_rows(&self, topic: &str, predicate: &str) -> Result<String, Error> {
        let (topic, predicate) = (topic.to_owned(), predicate.to_owned());
        self.make(|broker| async move { broker.erase(&topic, &predicate).await.map(|job| job.to_string()) }).await
    }
}
