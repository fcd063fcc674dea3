//! Who waits for records, by partition. An append wakes those who wait for its partitions and nobody else: ten thousand
//! readers of quiet partitions cost a busy one nothing.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use stratalog_proto::{PartitionId, TopicId, TopicPartition};

/// Someone who waits until there is something, or until a deadline. It may be listed in several shards.
pub(crate) struct Waiter {
    id: u64,
    appended: AtomicBool,
    expired: AtomicBool,
    task: AtomicWaker,
}

impl Waiter {
    /// One that is listed nowhere yet.
    pub(crate) fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            id,
            appended: AtomicBool::new(false),
            expired: AtomicBool::new(false),
            task: AtomicWaker::new(),
        })
    }

    /// Its number: no other waiter of this process has it.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Waits: true for an append since the last answer, false once its time is over. For one task at a time.
    pub(crate) async fn wait(&self) -> bool {
        poll_fn(|context| self.poll(context)).await
    }

    /// Its time is over, for good.
    pub(crate) fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.task.wake();
    }

    fn poll(&self, context: &Context<'_>) -> Poll<bool> {
        // Before the flags are read, so that what sets one in between finds the task.
        self.task.register(context.waker());
        if self.appended.swap(false, Ordering::AcqRel) {
            return Poll::Ready(true);
        }
        if self.expired.load(Ordering::Acquire) { Poll::Ready(false) } else { Poll::Pending }
    }

    fn wake(&self) {
        if !self.appended.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}

type Place = (TopicPartition, u64);

/// The waiters of a shard.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Places that are taken: where nobody waits, an append looks no further.
    taken: AtomicUsize,
    places: Mutex<BTreeMap<Place, Arc<Waiter>>>,
}

impl Waiters {
    /// Lists a waiter for these partitions. It hears of every append that a look at the state after this call does not
    /// show.
    pub(crate) fn add(&self, partitions: &[TopicPartition], waiter: &Arc<Waiter>) {
        let mut places = self.places.lock();
        places.extend(partitions.iter().map(|tp| ((*tp, waiter.id), Arc::clone(waiter))));
        self.taken.store(places.len(), Ordering::Release);
    }

    /// Takes it off the list again.
    pub(crate) fn remove(&self, partitions: &[TopicPartition], waiter: &Waiter) {
        let mut places = self.places.lock();
        for tp in partitions {
            places.remove(&(*tp, waiter.id));
        }
        self.taken.store(places.len(), Ordering::Release);
    }

    /// Wakes those who wait for one of these partitions. Call it after the state shows the append.
    pub(crate) fn wake(&self, appended: &[TopicPartition]) {
        self.wake_ranges(appended.iter().map(|tp| (*tp, 0)..=(*tp, u64::MAX)));
    }

    /// Wakes those who wait for a topic that is gone.
    pub(crate) fn wake_topic(&self, topic: TopicId) {
        let place = |partition, id| (TopicPartition { topic, partition: PartitionId(partition) }, id);
        self.wake_ranges([place(0, 0)..=place(u32::MAX, u64::MAX)]);
    }

    fn wake_ranges(&self, ranges: impl IntoIterator<Item = RangeInclusive<Place>>) {
        if self.taken.load(Ordering::Acquire) == 0 {
            return;
        }
        let places = self.places.lock();
        for range in ranges {
            places.range(range).for_each(|(_, waiter)| waiter.wake());
        }
    }

    /// Places that are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
