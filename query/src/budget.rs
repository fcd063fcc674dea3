//! Memory of queries: one pool for all, and a limit for each.
//!
//! Operators that can write to disk instead get a share each, so that one of them spills before another that cannot
//! fails: of what a query may use, a part is always left to those that cannot; of what the node has, every query that
//! has a place among those that run may fill an equal part with what could be on disk.
//!
//! Two kinds of operators take all that they can get although they need little: buffers between operators, and merges of
//! what a sort has spilled. They have bounds of their own. They are known by the names that DataFusion gives them, and
//! the tests of spilling fail when these change.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

/// What operators that can spill may have together of the memory of a query.
const fn spillable_part(limit: usize) -> usize {
    limit / 4 * 3
}

/// How an operator deals with having no more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It fails.
    Fixed,
    /// It writes what it has to disk, and goes on.
    Spiller,
    /// So does it, and first merges what it has, with another operator's memory.
    Sorter,
    /// It writes to disk what the next operator has not fetched yet.
    Buffer,
    /// It merges fewer spilled files at a time; but what a sorter has in memory it merges at once, or fails.
    Merge,
}

impl Kind {
    /// Whether those of its kind share what can be written to disk.
    fn spills(self) -> bool {
        matches!(self, Self::Spiller | Self::Sorter)
    }

    fn of(consumer: &MemoryConsumer) -> Self {
        match (consumer.can_spill(), consumer.name()) {
            (true, name) if name.starts_with("RepartitionExec") => Self::Buffer,
            (true, name) if name.starts_with("ExternalSorter") => Self::Sorter,
            (true, _) => Self::Spiller,
            (false, name) if name.starts_with("ExternalSorterMerge") => Self::Merge,
            (false, _) => Self::Fixed,
        }
    }
}

/// The memory of all queries.
#[derive(Debug)]
pub(crate) struct NodePool {
    limit: usize,
    used: AtomicUsize,
    /// Queries that run: those that wait need nothing.
    running: AtomicUsize,
}

/// A query that counts among those that share the memory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Sharing(Arc<NodePool>);

impl Drop for Sharing {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl NodePool {
    /// At most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0), running: AtomicUsize::new(0) })
    }

    /// Bytes that queries have.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts a query among those that run.
    pub(crate) fn share_with_one_more(self: &Arc<Self>) -> Sharing {
        self.running.fetch_add(1, Ordering::Relaxed);
        Sharing(self.clone())
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed).max(1)
    }

    /// What one of the queries that run may have of it.
    fn share(&self) -> usize {
        self.limit / self.running()
    }

    fn try_take(&self, bytes: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// The memory of one query: at most `limit` bytes, taken from the pool that all queries share.
#[derive(Debug)]
pub(crate) struct QueryPool {
    node: Arc<NodePool>,
    limit: usize,
    /// How many streams each operator has.
    streams: usize,
    used: Mutex<Used>,
}

/// What the operators of a query have, in bytes.
#[derive(Debug, Default)]
struct Used {
    /// How many there are that [spill](Kind::spills).
    spillers: usize,
    spillable: usize,
    fixed: usize,
    peak: usize,
}

impl QueryPool {
    /// A query's part of `node`; each of its operators has so many `streams`.
    pub(crate) fn new(node: Arc<NodePool>, limit: usize, streams: usize) -> Self {
        Self { node, limit, streams: streams.max(1), used: Mutex::default() }
    }

    /// The most that it had at once, in bytes.
    pub(crate) fn peak(&self) -> usize {
        self.used.lock().peak
    }

    /// The most that an operator of a kind may have.
    fn share(&self, kind: Kind, used: &Used) -> usize {
        let limit = self.limit.min(self.node.share());
        // A merge join sorts both of its sides.
        let merge = spillable_part(self.limit) / (2 * self.streams);
        let spiller = spillable_part(limit).min(limit.saturating_sub(used.fixed)) / used.spillers.max(1);
        match kind {
            Kind::Fixed => usize::MAX,
            Kind::Merge => merge,
            Kind::Buffer => limit / (16 * self.streams),
            Kind::Spiller => spiller,
            // Half of what it has are rows, of which the merge holds all at once.
            Kind::Sorter => spiller.min(merge / 8 * 15),
        }
    }

    fn exceeded(&self, consumer: &str, additional: usize) -> DataFusionError {
        let limit = self.limit;
        DataFusionError::ResourcesExhausted(format!(
            "{consumer} needs {additional} bytes more than the {limit} bytes that one query may use"
        ))
    }

    /// An operator that can spill has all that is its own, and that does not suffice.
    fn beyond_share(&self, consumer: &str, additional: usize, share: usize) -> DataFusionError {
        let of = if self.node.share() < self.limit {
            let (limit, running) = (self.node.limit, self.node.running());
            format!("the {limit} bytes that all queries together may use, of which {running} run")
        } else {
            format!("the {} bytes that one query may use", self.limit)
        };
        DataFusionError::ResourcesExhausted(format!(
            "{consumer} needs {additional} bytes more than {share} bytes, its part of {of}"
        ))
    }

    fn crowded(&self, consumer: &str, additional: usize) -> DataFusionError {
        let limit = self.node.limit;
        DataFusionError::ResourcesExhausted(format!(
            "{consumer} needs {additional} bytes more than the {limit} bytes that all queries together may use"
        ))
    }
}

impl Used {
    fn add(&mut self, kind: Kind, bytes: usize) {
        *self.of(kind) += bytes;
        self.peak = self.peak.max(self.spillable + self.fixed);
    }

    fn of(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Spiller | Kind::Sorter | Kind::Buffer => &mut self.spillable,
            Kind::Fixed | Kind::Merge => &mut self.fixed,
        }
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.used.lock().spillers += usize::from(Kind::of(consumer).spills());
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.used.lock().spillers -= usize::from(Kind::of(consumer).spills());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.node.used.fetch_add(additional, Ordering::Relaxed);
        self.used.lock().add(Kind::of(reservation.consumer()), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.node.used.fetch_sub(shrink, Ordering::Relaxed);
        *self.used.lock().of(Kind::of(reservation.consumer())) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (consumer, kind) = (reservation.consumer().name(), Kind::of(reservation.consumer()));
        let mut used = self.used.lock();
        if (used.spillable + used.fixed).saturating_add(additional) > self.limit {
            return Err(self.exceeded(consumer, additional));
        }
        let share = self.share(kind, &used);
        if reservation.size().saturating_add(additional) > share {
            return Err(self.beyond_share(consumer, additional, share));
        }
        if !self.node.try_take(additional) {
            return Err(self.crowded(consumer, additional));
        }
        used.add(kind, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        let used = self.used.lock();
        used.spillable + used.fixed
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.limit)
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query(used: {}, limit: {})", self.reserved(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reservation(pool: &Arc<dyn MemoryPool>, can_spill: bool) -> MemoryReservation {
        MemoryConsumer::new("test").with_can_spill(can_spill).register(pool)
    }

    #[test]
    fn what_a_sorter_has_can_be_merged_however_few_sort() {
        let query: Arc<dyn MemoryPool> = Arc::new(QueryPool::new(NodePool::new(64_000), 64_000, 2));
        let named = |name: &str, spills| MemoryConsumer::new(name).with_can_spill(spills).register(&query);
        let (sorter, merge) = (named("ExternalSorter[0]", true), named("ExternalSorterMerge[0]", false));
        while sorter.try_grow(1_000).is_ok() {}
        assert!(sorter.size() >= 20_000, "{}", sorter.size());
        let others: Vec<_> = (1..4).map(|_| named("ExternalSorter[1]", true)).collect();
        merge.try_grow(sorter.size() / 2).unwrap();
        drop(others);
    }

    fn pool(node: &Arc<NodePool>, limit: usize) -> Arc<dyn MemoryPool> {
        Arc::new(QueryPool::new(node.clone(), limit, 1))
    }

    #[test]
    fn operators_that_can_spill_leave_room_to_those_that_cannot() {
        let node = NodePool::new(1_000);
        let query = pool(&node, 400);
        let (one, two, fixed) = (reservation(&query, true), reservation(&query, true), reservation(&query, false));
        assert!(one.try_grow(151).is_err());
        one.try_grow(150).unwrap();
        two.try_grow(150).unwrap();
        fixed.try_grow(100).unwrap();
        assert!(fixed.try_grow(1).is_err());
        drop(one);
        fixed.try_grow(150).unwrap();
        assert!(two.try_grow(1).is_err(), "it has more than what is left by now");
        drop((two, fixed));
        assert_eq!((query.reserved(), node.used()), (0, 0));
    }

    #[test]
    fn queries_that_run_together_share_what_could_be_on_disk() {
        let node = NodePool::new(800);
        let (one, _runs) = (pool(&node, 800), node.share_with_one_more());
        let first = reservation(&one, true);
        first.try_grow(300).unwrap();
        let two = pool(&node, 800);
        first.try_grow(1).unwrap();
        first.shrink(1);
        let _runs_too = node.share_with_one_more();
        let error = first.try_grow(1).unwrap_err().to_string();
        assert!(
            error.contains("its part of the 800 bytes that all queries together may use, of which 2 run"),
            "{error}"
        );
        let second = reservation(&two, true);
        second.try_grow(300).unwrap();
        let fixed = reservation(&two, false);
        assert!(fixed.try_grow(201).is_err());
        fixed.try_grow(200).unwrap();
    }
}
