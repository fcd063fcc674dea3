//! The work of one execution of a scan, shared by its partitions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use stratalog_storage::SegmentHandle;
use tokio::sync::Notify;

use super::segment::OpenSegment;
use crate::catalog::TailChunk;

/// Something to read. `shard` is an index into the snapshot's shards.
pub(super) enum Unit {
    /// Rows that are in memory.
    Tail { shard: usize, chunk: Arc<TailChunk> },
    /// A segment to open: it becomes [`Unit::Granules`].
    Segment { shard: usize, segment: Arc<SegmentHandle> },
    /// Granules of an open segment, newest first, that survived pruning when `generation` was the filters'.
    Granules { segment: Arc<OpenSegment>, granules: Vec<usize>, generation: u64 },
}

/// A queue that partitions take from until nothing is left and nobody can add to it.
pub(super) struct Work {
    queue: Mutex<Queue>,
    changed: Notify,
    /// Rows that may still be returned.
    wanted: AtomicUsize,
}

struct Queue {
    units: VecDeque<Unit>,
    /// Partitions that are opening a segment, whose granules others can share.
    opening: usize,
}

impl Work {
    /// `limit`: the most rows that all partitions together return.
    pub(super) fn new(units: impl IntoIterator<Item = Unit>, limit: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue { units: units.into_iter().collect(), opening: 0 }),
            changed: Notify::new(),
            wanted: AtomicUsize::new(limit.unwrap_or(usize::MAX)),
        })
    }

    /// The next unit; who takes a segment has to hand in an [`Opening`]. `None` when all is done.
    pub(super) async fn next(&self) -> Option<(Unit, Option<Opening<'_>>)> {
        loop {
            let changed = self.changed.notified();
            if self.wanted.load(Ordering::Relaxed) == 0 {
                return None;
            }
            {
                let mut queue = self.queue.lock();
                match queue.units.pop_front() {
                    Some(unit @ Unit::Segment { .. }) => {
                        queue.opening += 1;
                        return Some((unit, Some(Opening { work: self, units: Vec::new() })));
                    }
                    Some(unit) => return Some((unit, None)),
                    None if queue.opening == 0 => return None,
                    None => {}
                }
            }
            changed.await;
        }
    }

    /// Whether the limit leaves anything to return.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) == 0
    }

    /// Takes at most `rows` from the limit; what is granted has to be returned to the caller of the scan.
    pub(super) fn grant(&self, rows: usize) -> usize {
        let mut granted = 0;
        let take = |wanted: usize| {
            granted = rows.min(wanted);
            Some(wanted - granted)
        };
        // The closure always gives a value, so this cannot fail.
        let _ = self.wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        granted
    }
}

/// Held while a segment is being opened. Dropping it, after whatever end, lets the others go on.
pub(super) struct Opening<'a> {
    work: &'a Work,
    units: Vec<Unit>,
}

impl Opening<'_> {
    /// The granules that came out of it; they are next.
    pub(super) fn found(mut self, units: Vec<Unit>) {
        self.units = units;
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut queue = self.work.queue.lock();
        queue.opening -= 1;
        self.units.drain(..).rev().for_each(|unit| queue.units.push_front(unit));
        drop(queue);
        self.work.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_granted_once() {
        let work = Work::new([], Some(10));
        assert_eq!((work.grant(7), work.grant(7), work.grant(7)), (7, 3, 0));
        assert!(work.is_done());
        let unlimited = Work::new([], None);
        assert_eq!(unlimited.grant(usize::MAX - 1), usize::MAX - 1);
    }
}
