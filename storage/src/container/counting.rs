//! A disk that counts how often a reader goes to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::io::Io;
use crate::io::hooked::{HookedDisk, Hooks};

/// A disk with a count of views and of the bytes they gave.
type Counting = HookedDisk<Counts>;

#[derive(Debug, Default)]
pub(crate) struct Counts {
    views: AtomicU64,
    bytes: AtomicU64,
}

/// Counts what is read of this disk.
pub(crate) fn counted(disk: Arc<dyn Io>) -> Counting {
    HookedDisk::over(disk, Counts::default())
}

impl Counts {
    /// Views and bytes since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.views.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl Hooks for Counts {
    fn viewed(&self, bytes: Bytes) -> Bytes {
        self.views.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        bytes
    }
}
