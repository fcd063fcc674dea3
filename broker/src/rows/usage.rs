//! What all tails of the node take together, and who waits for them to shrink.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Bytes and rows of all tails.
#[derive(Debug, Default)]
pub(super) struct Usage {
    bytes: AtomicUsize,
    rows: AtomicUsize,
    changes: watch::Sender<()>,
}

impl Usage {
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
