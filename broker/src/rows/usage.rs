//! What all tails of the node take together, and who waits for them to shrink.

use std::sync::Weak;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::tail::Tail;

/// Bytes and rows of all tails.
#[derive(Default)]
pub(super) struct Usage {
    bytes: AtomicUsize,
    rows: AtomicUsize,
    changes: watch::Sender<()>,
    tails: Mutex<Vec<Weak<Tail>>>,
    pub(super) made: Made,
}

/// What was made of the log since the start, in tails that are gone, too.
#[derive(Default)]
pub(super) struct Made {
    pub(super) rows: AtomicU64,
    pub(super) dead_rows: AtomicU64,
    /// Of the record batches.
    pub(super) bytes: AtomicU64,
}

/// How much of all tails together no seal under way has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    /// Of all topics.
    pub(super) bytes: usize,
    /// Of the topic that has the most in one shard.
    pub(super) largest: usize,
}

impl Usage {
    /// Counts a tail among those of the node.
    pub(super) fn register(&self, tail: Weak<Tail>) {
        let mut tails = self.tails.lock();
        tails.retain(|tail| tail.strong_count() > 0);
        tails.push(tail);
    }

    /// What could be sealed, in all shards.
    pub(super) fn pressure(&self) -> Pressure {
        let tails: Vec<_> = self.tails.lock().iter().filter_map(Weak::upgrade).collect();
        let fills = tails.iter().flat_map(|tail| tail.fill());
        fills.fold(Pressure::default(), |all, fill| Pressure {
            bytes: all.bytes + fill.untaken,
            largest: all.largest.max(fill.untaken),
        })
    }

    pub(super) fn used(&self, bytes: usize, rows: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn freed(&self, bytes: usize, rows: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.rows.fetch_sub(rows, Ordering::Relaxed);
    }

    /// Wakes who waits for a change.
    pub(super) fn changed(&self) {
        self.changes.send_replace(());
    }

    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }
}
