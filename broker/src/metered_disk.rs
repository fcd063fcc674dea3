//! The real disk, counting what is read from it and how much of that is still in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use stratalog_storage::simulation::{HookedDisk, Hooks};

/// A disk; clones share its counters.
pub(crate) type MeteredDisk = HookedDisk<Meter>;

#[derive(Debug, Default)]
pub(crate) struct Meter {
    read: AtomicUsize,
    held: Arc<AtomicUsize>,
}

impl Meter {
    /// Bytes read from files since the last call.
    pub(crate) fn take_read_bytes(&self) -> usize {
        self.read.swap(0, Ordering::SeqCst)
    }

    /// Bytes read from files whose buffers are still referred to.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

impl Hooks for Meter {
    fn viewed(&self, bytes: Bytes) -> Bytes {
        self.read.fetch_add(bytes.len(), Ordering::SeqCst);
        self.held.fetch_add(bytes.len(), Ordering::SeqCst);
        Bytes::from_owner(Held { bytes, held: Arc::clone(&self.held) })
    }
}

/// Bytes read from a file; they count as held until it is dropped.
struct Held {
    bytes: Bytes,
    held: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}
