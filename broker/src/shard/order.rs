//! The order of batches before they are queued.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::TopicPartition;
use tokio::sync::OwnedMutexGuard;

/// Batches of one partition are queued in the order in which they arrived, whatever each of them waits for: a producer
/// that has several in flight relies on it. Partitions do not wait for each other.
#[derive(Default)]
pub(crate) struct Order {
    lines: Mutex<HashMap<TopicPartition, Line>>,
}

/// The batches of a partition that wait, or have their turn; forgotten with the last of them.
#[derive(Default)]
struct Line {
    lock: Arc<tokio::sync::Mutex<()>>,
    members: usize,
}

/// The turn of a batch; the next one follows when it is dropped.
pub(crate) struct Turn<'a> {
    // Before the place, so that who comes when this was the last member finds the turn free.
    _guard: OwnedMutexGuard<()>,
    _place: Place<'a>,
}

/// A place in a partition's line, left when it is dropped.
struct Place<'a> {
    order: &'a Order,
    tp: TopicPartition,
}

impl Order {
    /// Waits for the turn of a batch of this partition.
    pub(crate) async fn turn(&self, tp: TopicPartition) -> Turn<'_> {
        let (lock, place) = self.join(tp);
        Turn { _guard: lock.lock_owned().await, _place: place }
    }

    fn join(&self, tp: TopicPartition) -> (Arc<tokio::sync::Mutex<()>>, Place<'_>) {
        let mut lines = self.lines.lock();
        let line = lines.entry(tp).or_default();
        line.members += 1;
        (Arc::clone(&line.lock), Place { order: self, tp })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.order.lines.lock();
        if let Some(line) = lines.get_mut(&self.tp) {
            line.members -= 1;
            if line.members == 0 {
                lines.remove(&self.tp);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use stratalog_proto::{PartitionId, TopicId};

    use super::*;

    #[test]
    fn only_the_same_partition_waits_and_a_line_is_forgotten_with_its_last_member() {
        let order = Order::default();
        let topic = TopicId::new();
        let [first, other] = [0, 1].map(|partition| TopicPartition { topic, partition: PartitionId(partition) });
        let turn = order.turn(first).now_or_never().unwrap();
        assert!(order.turn(first).now_or_never().is_none(), "who gives up leaves the line");
        let beside = order.turn(other).now_or_never().expect("another partition does not wait");
        drop(turn);
        drop(order.turn(first).now_or_never().expect("its turn has come"));
        drop(beside);
        assert!(order.lines.lock().is_empty());
    }
}
