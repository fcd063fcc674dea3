//! Memory for what was written lately, which the logs of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all logs of a node together keep in memory of entries that are durable already. Each may keep as much as any other.
#[derive(Debug)]
pub(super) struct LogCache {
    bytes: usize,
    logs: AtomicUsize,
}

/// What one log may keep; the others have more once it is dropped.
#[derive(Debug)]
pub(super) struct CacheShare(Arc<LogCache>);

impl LogCache {
    pub(super) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, logs: AtomicUsize::new(0) })
    }

    pub(super) fn share(self: &Arc<Self>) -> CacheShare {
        self.logs.fetch_add(1, Ordering::Relaxed);
        CacheShare(Arc::clone(self))
    }
}

impl CacheShare {
    /// In bytes, at the moment. A log that holds more lets go of it with its next entry.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes / self.0.logs.load(Ordering::Relaxed).max(1)
    }
}

impl Drop for CacheShare {
    fn drop(&mut self) {
        self.0.logs.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_have_equal_shares_of_what_the_node_may_keep() {
        let cache = LogCache::new(1000);
        let one = cache.share();
        assert_eq!(one.bytes(), 1000);
        let others = [cache.share(), cache.share(), cache.share()];
        assert_eq!(one.bytes() + others.iter().map(CacheShare::bytes).sum::<usize>(), 1000);
        drop(others);
        assert_eq!(one.bytes(), 1000);
    }
}
