//! A disk that counts how often a reader goes to it.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::io::{File, Io, OpenMode};

/// A disk with a count of views and of the bytes they gave.
#[derive(Clone, Debug)]
pub(crate) struct Counting {
    disk: Arc<dyn Io>,
    views: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn File>,
    counts: Counting,
}

impl Counting {
    pub(crate) fn over(disk: Arc<dyn Io>) -> Self {
        Self { disk, views: Arc::default(), bytes: Arc::default() }
    }

    /// Views and bytes since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.views.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl Io for Counting {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(CountingFile { file: self.disk.open(path, mode)?, counts: self.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
}

impl File for CountingFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }
    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_vectored_at(offset, parts)
    }
    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.counts.views.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.file.view(range)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.allocate(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
