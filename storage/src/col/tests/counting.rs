//! How often a reader goes to the disk.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::*;
use crate::io::{File, OpenMode};

/// The real disk, with a count of views and of the bytes they gave.
#[derive(Clone, Debug, Default)]
struct Counting {
    views: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile {
    file: Arc<dyn File>,
    counts: Counting,
}

impl Counting {
    /// Views and bytes since the last call.
    fn take(&self) -> (u64, u64) {
        (self.views.swap(0, Ordering::Relaxed), self.bytes.swap(0, Ordering::Relaxed))
    }
}

impl Io for Counting {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(CountingFile { file: RealDisk.open(path, mode)?, counts: self.clone() }))
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

#[test]
fn opening_is_one_view_and_each_granule_is_one_more() {
    let dir = tempfile::tempdir().unwrap();
    let rows = sample(20_000);
    let meta = write(dir.path(), &rows, None);
    let counting = Counting::default();
    let reader = ColReader::open(Arc::new(counting.clone()), &dir.path().join(segment_file_name(meta.id))).unwrap();
    assert_eq!(counting.take(), (1, BLOCK_BYTES));

    let message = reader.schema().index_of("message").unwrap();
    let chunk = reader.stored_bytes(message, 1);
    reader.read(message, 1).unwrap();
    let (views, bytes) = counting.take();
    assert_eq!(views, 1);
    assert!(bytes.is_multiple_of(BLOCK_BYTES) && bytes >= chunk, "the first touch reads whole blocks, to verify them");
    reader.read(message, 1).unwrap();
    assert_eq!(counting.take(), (1, chunk), "verified blocks are not read beyond what is needed");

    let level = reader.schema().index_of("level").unwrap();
    reader.read(level, 0).unwrap();
    assert_eq!(counting.take().0, 2, "the first read of a column also reads its dictionary");
    reader.read(level, 1).unwrap();
    assert_eq!(counting.take().0, 1);
}
