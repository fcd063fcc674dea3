//! A fetch that waits for records.

use std::sync::Arc;
use std::time::Instant;

use stratalog_proto::{PartitionId, TopicId, TopicPartition};

use super::deadlines::{Deadlines, Due};
use crate::shard::{Shard, Waiter};

/// A place in the lists of its shards and in that of the deadlines, given back when it is dropped.
pub(super) struct Wait<'a> {
    waiter: Arc<Waiter>,
    listed: Vec<(Arc<Shard>, Vec<TopicPartition>)>,
    deadlines: &'a Deadlines,
    due: Due,
}

impl<'a> Wait<'a> {
    /// Lists a waiter for partitions of a topic, by shard.
    pub(super) fn begin(
        topic: TopicId,
        partitions: Vec<(Arc<Shard>, Vec<PartitionId>)>,
        deadlines: &'a Deadlines,
        deadline: Instant,
    ) -> Self {
        let waiter = Waiter::new();
        let listed = partitions.into_iter().map(|(shard, partitions)| {
            let named: Vec<_> = partitions.into_iter().map(|partition| TopicPartition { topic, partition }).collect();
            shard.waiters().add(&named, &waiter);
            (shard, named)
        });
        let listed = listed.collect();
        let due = deadlines.add(deadline.saturating_duration_since(Instant::now()), &waiter);
        Self { waiter, listed, deadlines, due }
    }

    /// Whether something was appended, or a topic removed, before the deadline.
    pub(super) async fn appended(&self) -> bool {
        self.waiter.wait().await
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.deadlines.remove(self.due);
        for (shard, partitions) in &self.listed {
            shard.waiters().remove(partitions, &self.waiter);
        }
    }
}
