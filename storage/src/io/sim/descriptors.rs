use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many files are open, and how many may be.
#[derive(Debug)]
pub(super) struct Descriptors {
    open: AtomicUsize,
    limit: AtomicUsize,
}

impl Default for Descriptors {
    fn default() -> Self {
        Self { open: AtomicUsize::new(0), limit: AtomicUsize::new(usize::MAX) }
    }
}

impl Descriptors {
    pub(super) fn limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// One of them; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Descriptor(Arc<Descriptors>);

impl Descriptor {
    pub(super) fn take(of: &Arc<Descriptors>) -> io::Result<Self> {
        let below_limit = |open| (open < of.limit.load(Ordering::SeqCst)).then_some(open + 1);
        let taken = of.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below_limit);
        taken.map(|_| Self(of.clone())).map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}
