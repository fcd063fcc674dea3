//! The real disk, counting what is read from it and how much of that is still in memory.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use stratalog_storage::{File, Io, OpenMode, RealDisk};

/// A disk; clones share its counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeteredDisk(Arc<Meter>);

#[derive(Debug, Default)]
struct Meter {
    read: AtomicUsize,
    held: AtomicUsize,
}

impl MeteredDisk {
    /// Bytes read from files since the last call.
    pub(crate) fn take_read_bytes(&self) -> usize {
        self.0.read.swap(0, Ordering::SeqCst)
    }

    /// Bytes read from files whose buffers are still referred to.
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.held.load(Ordering::SeqCst)
    }
}

impl Io for MeteredDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = RealDisk.open(path, mode)?;
        Ok(Arc::new(MeteredFile { file, meter: Arc::clone(&self.0) }))
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
struct MeteredFile {
    file: Arc<dyn File>,
    meter: Arc<Meter>,
}

/// Bytes read from a file; they count as held until it is dropped.
struct Held {
    bytes: Bytes,
    meter: Arc<Meter>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.held.fetch_sub(self.bytes.len(), Ordering::SeqCst);
    }
}

impl File for MeteredFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_vectored_at(offset, parts)
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        let bytes = self.file.view(range)?;
        self.meter.read.fetch_add(bytes.len(), Ordering::SeqCst);
        self.meter.held.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(Bytes::from_owner(Held { bytes, meter: Arc::clone(&self.meter) }))
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
