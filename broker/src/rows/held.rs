//! Topics that are held back: a batch of theirs cannot be read, so their rows end before it, while those of the shard's
//! other topics go on (L5).
//!
//! Their row frontier moves no further than the damage, and nobody gets an answer in which rows are silently missing (S1).
//! It is tried again from time to time, since a repair may bring the bytes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stratalog_proto::{Error, RaftIndex, ShardId, TopicId};
use tokio::time::Instant;

/// How far the rows of a topic that is held back reach, and why no further.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Rows of all batches up to here were made.
    pub(super) through: RaftIndex,
    /// What cannot be read, and why.
    pub(super) why: Error,
}

impl Held {
    /// What who asks for rows of the topic hears.
    pub(super) fn refusal(&self, shard: ShardId, topic: TopicId) -> Error {
        let Self { through, why } = self;
        let message = format!(
            "the rows of topic {topic} end at index {through} of shard {shard}, because what follows cannot be read: \
             {why}; no query of the topic is answered until that is repaired, other topics are not concerned"
        );
        Error::new(why.code, message)
    }
}

/// The topics of a shard that are held back.
#[derive(Debug, Default)]
pub(super) struct Holds(BTreeMap<TopicId, Held>);

impl Holds {
    pub(super) fn get(&self, topic: TopicId) -> Option<&Held> {
        self.0.get(&topic)
    }

    pub(super) fn topics(&self) -> BTreeSet<TopicId> {
        self.0.keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Holds a topic back, or says how it is held back now; `None` lets it go.
    pub(super) fn set(&mut self, topic: TopicId, held: Option<Held>) {
        match held {
            Some(held) => _ = self.0.insert(topic, held),
            None => _ = self.0.remove(&topic),
        }
    }

    /// Forgets the topics that are not in `hosted`, which ascend.
    pub(super) fn retain(&mut self, hosted: &[TopicId]) {
        self.0.retain(|topic, _| hosted.binary_search(topic).is_ok());
    }
}

/// When topics that are held back are tried again: ever more seldom.
#[derive(Debug)]
pub(super) struct Retry {
    pause: Duration,
    at: Option<Instant>,
}

impl Retry {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Nothing is tried again.
    pub(super) fn never() -> Self {
        Self { pause: Self::FIRST, at: None }
    }

    /// A topic was held back just now.
    pub(super) fn begin(&mut self) {
        *self = Self { pause: Self::FIRST, at: Some(Instant::now() + Self::FIRST) };
    }

    /// It was tried again, and topics are still held back.
    pub(super) fn failed(&mut self) {
        self.pause = Self::LONGEST.min(2 * self.pause);
        self.at = Some(Instant::now() + self.pause);
    }

    pub(super) fn is_due(&self) -> bool {
        self.at.is_some_and(|at| at <= Instant::now())
    }

    /// Returns when it is due.
    pub(super) async fn due(&self) {
        match self.at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_again_after_a_second_and_then_ever_more_seldom_up_to_a_minute() {
        let mut retry = Retry::never();
        assert!(!retry.is_due());
        retry.begin();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let before = Instant::now();
            retry.due().await;
            assert!(retry.is_due());
            pauses.push(before.elapsed().as_secs());
            retry.failed();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
