//! Seals that fail: a full disk holds back the whole shard, anything else the topic alone.

use std::collections::HashMap;

use stratalog_proto::{Code, Error, TopicId};

use crate::rows::shard_rows::ShardRows;
use crate::trouble::Trouble;

/// What is wrong with the seals of a shard.
#[derive(Default)]
pub(super) struct Troubles {
    full: Trouble,
    of_topics: HashMap<TopicId, Trouble>,
}

impl Troubles {
    /// Whether it is too early to seal a topic again.
    pub(super) fn is_waiting(&self, topic: TopicId) -> bool {
        self.full.is_waiting() || self.of_topics.get(&topic).is_some_and(Trouble::is_waiting)
    }

    /// Forgets topics that need no seal any more.
    pub(super) fn retain(&mut self, due: &[TopicId]) {
        self.of_topics.retain(|topic, _| due.contains(topic));
    }

    /// Takes note of how a seal ended, and says what is news.
    pub(super) fn tell(&mut self, shard: &ShardRows, topic: TopicId, sealed: Result<(), Error>) {
        let shard = shard.log.id();
        match sealed {
            Ok(()) => {
                self.of_topics.remove(&topic);
                if self.full.is_over() {
                    tracing::info!(%shard, "there is room on the disk again: rows are sealed");
                }
            }
            Err(error) if error.code == Code::StorageFull => {
                if self.full.failed(&error) {
                    tracing::error!(%shard, %error, "the disk is full: rows stay in the tail, and produce waits once it is full too");
                }
            }
            Err(error) => {
                if self.of_topics.entry(topic).or_default().failed(&error) {
                    tracing::warn!(%shard, %topic, code = %error.code, %error, "a seal failed; its rows stay in the tail");
                }
            }
        }
    }
}
