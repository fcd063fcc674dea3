//! Merges that fail: a full disk holds back the whole node, anything else one topic in one shard.

use std::collections::HashMap;

use stratalog_proto::{Code, Error, ShardId, TopicId};

use crate::trouble::Trouble;

/// What is wrong with merges in the background.
#[derive(Default)]
pub(super) struct Troubles {
    full: Trouble,
    of_topics: HashMap<(ShardId, TopicId), Trouble>,
}

impl Troubles {
    /// Whether it is too early to merge anything again.
    pub(super) fn is_full(&self) -> bool {
        self.full.is_waiting()
    }

    /// Whether it is too early to merge a topic of a shard again.
    pub(super) fn is_waiting(&self, shard: ShardId, topic: TopicId) -> bool {
        self.is_full() || self.of_topics.get(&(shard, topic)).is_some_and(Trouble::is_waiting)
    }

    /// Forgets topics that a shard no longer has.
    pub(super) fn retain(&mut self, shard: ShardId, is_there: impl Fn(TopicId) -> bool) {
        self.of_topics.retain(|(of, topic), _| *of != shard || is_there(*topic));
    }

    /// Takes note of a merge that came to its end.
    pub(super) fn is_over(&mut self, shard: ShardId, topic: TopicId) {
        self.of_topics.remove(&(shard, topic));
        self.full.is_over();
    }

    /// Takes note of one that failed, and says what is news.
    pub(super) fn failed(&mut self, shard: ShardId, topic: TopicId, error: &Error) {
        let trouble = match error.code {
            Code::StorageFull => &mut self.full,
            _ => self.of_topics.entry((shard, topic)).or_default(),
        };
        if trouble.failed(error) && !matches!(error.code, Code::Conflict | Code::Cancelled) {
            tracing::warn!(%shard, %topic, code = %error.code, %error, "segments were not merged; trying again, ever more seldom");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_holds_back_all_and_anything_else_one_topic_of_one_shard() {
        let (topic, other, mut troubles) = (TopicId::new(), TopicId::new(), Troubles::default());
        let shards = [ShardId(1), ShardId(2)];
        let waiting = |troubles: &Troubles| shards.map(|shard| [topic, other].map(|of| troubles.is_waiting(shard, of)));
        troubles.failed(shards[0], topic, &Error::new(Code::Timeout, "nobody answered"));
        assert_eq!(waiting(&troubles), [[true, false], [false, false]]);
        troubles.failed(shards[1], other, &Error::new(Code::StorageFull, "full"));
        assert_eq!(waiting(&troubles), [[true; 2]; 2]);
        troubles.is_over(shards[1], other);
        assert_eq!(waiting(&troubles), [[true, false], [false, false]]);
        troubles.retain(shards[0], |of| of != topic);
        assert_eq!(waiting(&troubles), [[false; 2]; 2]);
    }
}
