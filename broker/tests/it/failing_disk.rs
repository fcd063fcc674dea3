//! The real disk, until it is told to fail every sync, or to have no space for a further log file or for segments.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use stratalog_storage::{File, Io, OpenMode, RealDisk};

#[derive(Debug, Default)]
pub(crate) struct FailingDisk {
    failing: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    segments_full: Arc<AtomicBool>,
}

impl FailingDisk {
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

impl Io for FailingDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let of_replay = name.contains(".rec") || name.contains(".state");
        if of_replay && mode != OpenMode::Read && self.segments_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = RealDisk.open(path, mode)?;
        Ok(Arc::new(FailingFile { file, failing: self.failing.clone(), full: self.full.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn File>,
    failing: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
}

impl FailingFile {
    fn check(&self) -> io::Result<()> {
        if self.failing.load(Ordering::SeqCst) { Err(io::Error::other("injected medium error")) } else { Ok(()) }
    }
}

impl File for FailingFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_vectored_at(offset, parts)
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.file.view(range)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { self.file.allocate(len) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_all()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
