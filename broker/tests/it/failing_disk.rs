//! The real disk, until it is told to fail every sync, or to have no space for a further log file or for segments.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use stratalog_storage::OpenMode;
use stratalog_storage::simulation::{HookedDisk, Hooks};

/// A disk; clones fail together.
pub(crate) type FailingDisk = HookedDisk<Failures>;

#[derive(Debug, Default)]
pub(crate) struct Failures {
    failing: AtomicBool,
    full: AtomicBool,
    segments_full: AtomicBool,
}

impl Failures {
    /// Whether there is no space for replay segments and state files.
    pub(crate) fn segments_are_full(&self, full: bool) {
        self.segments_full.store(full, Ordering::SeqCst);
    }

    /// From here on there is no space that can be reserved.
    pub(crate) fn is_full_from_now_on(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    /// Every sync of a file fails from here on.
    pub(crate) fn fail_from_now_on(&self) {
        self.failing.store(true, Ordering::SeqCst);
    }
}

impl Hooks for Failures {
    fn opens(&self, path: &Path, mode: OpenMode) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_replay = name.contains(".rec") || name.contains(".state");
        let is_full = of_replay && mode != OpenMode::Read && self.segments_full.load(Ordering::SeqCst);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn allocates(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn syncs(&self) -> io::Result<()> {
        if self.failing.load(Ordering::SeqCst) { Err(io::Error::other("injected medium error")) } else { Ok(()) }
    }
}
