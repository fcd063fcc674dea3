//! Many files, few descriptors: files that are only read share a bounded number of them.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::error::lacks_descriptor;
use super::{File, Io, OpenMode, Space};

/// Descriptors that are kept for reading: about half of what a process may have where nobody raised the limit.
const CAPACITY: usize = 512;

/// Another disk, of whose files only a bounded number is held open for reading.
///
/// A file that is opened with [`OpenMode::Read`] has no descriptor of its own. Those read last have one; any other is
/// opened again, by its name, when it is read. So a node may have more segments and log files than descriptors. When the
/// process runs out of them for something else on this disk, these are given up first, the coldest first.
///
/// One such disk is meant to serve a whole node: its bound is for all that is opened through it.
#[derive(Debug)]
pub struct PooledDisk(Arc<Pool>);

impl PooledDisk {
    /// Bounds the descriptors of `disk`.
    pub fn new(disk: Arc<dyn Io>) -> Self {
        Self::with_capacity(disk, CAPACITY)
    }

    pub(crate) fn with_capacity(disk: Arc<dyn Io>, capacity: usize) -> Self {
        Self(Arc::new(Pool { disk, capacity, ids: AtomicU64::new(0), open: Mutex::default() }))
    }
}

impl Io for PooledDisk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.with_room(|disk| disk.list(dir))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode != OpenMode::Read {
            return self.0.with_room(|disk| disk.open(path, mode));
        }
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let file = PooledFile { pool: self.0.clone(), id, path: path.to_owned() };
        file.opened()?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.with_room(|disk| disk.sync_dir(dir))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.disk.exists(path)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.0.disk.space(dir)
    }
}

#[derive(Debug)]
struct Pool {
    disk: Arc<dyn Io>,
    capacity: usize,
    /// The id of the next file. A name does not identify a file: two may have had it, one after the other.
    ids: AtomicU64,
    open: Mutex<OpenFiles>,
}

impl Pool {
    /// Tries what needs a descriptor. While there is none, gives up one of the pool and tries again.
    fn with_room<R>(&self, attempt: impl Fn(&dyn Io) -> io::Result<R>) -> io::Result<R> {
        loop {
            let result = attempt(&*self.disk);
            let lacking = result.as_ref().is_err_and(lacks_descriptor);
            let given_up = if lacking { self.open.lock().take_coldest() } else { None };
            if given_up.is_none() {
                return result;
            }
        }
    }

    /// The open file of this id; opened, and kept from now on, if it is not among those that are open.
    fn get(&self, id: u64, path: &Path) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.open.lock().touch(id) {
            return Ok(file);
        }
        let file = self.with_room(|disk| disk.open(path, OpenMode::Read))?;
        let mut open = self.open.lock();
        let replaced = open.insert(id, file.clone());
        let coldest = if open.files.len() > self.capacity { open.take_coldest() } else { None };
        drop(open);
        // Closing a file may take its time: not under the lock.
        drop((replaced, coldest));
        Ok(file)
    }
}

/// The files that have a descriptor, and the order of their last use.
#[derive(Debug, Default)]
struct OpenFiles {
    uses: u64,
    /// By id: the file, and the number of its last use.
    files: HashMap<u64, (u64, Arc<dyn File>)>,
    /// By last use: the id. The first is the coldest.
    order: BTreeMap<u64, u64>,
}

impl OpenFiles {
    fn touch(&mut self, id: u64) -> Option<Arc<dyn File>> {
        let file = self.remove(id)?;
        self.insert(id, file.clone());
        Some(file)
    }

    /// Returns the file that had the id: two readers may have opened it at the same time.
    fn insert(&mut self, id: u64, file: Arc<dyn File>) -> Option<Arc<dyn File>> {
        let before = self.remove(id);
        self.uses += 1;
        self.files.insert(id, (self.uses, file));
        self.order.insert(self.uses, id);
        before
    }

    fn remove(&mut self, id: u64) -> Option<Arc<dyn File>> {
        let (used, file) = self.files.remove(&id)?;
        self.order.remove(&used);
        Some(file)
    }

    fn take_coldest(&mut self) -> Option<Arc<dyn File>> {
        let (_, id) = self.order.pop_first()?;
        self.files.remove(&id).map(|(_, file)| file)
    }
}

/// A file for reading that is open only now and then.
#[derive(Debug)]
struct PooledFile {
    pool: Arc<Pool>,
    id: u64,
    path: PathBuf,
}

impl PooledFile {
    /// The file, open for as long as this is held.
    fn opened(&self) -> io::Result<Arc<dyn File>> {
        self.pool.get(self.id, &self.path)
    }
}

impl Drop for PooledFile {
    fn drop(&mut self) {
        let file = self.pool.open.lock().remove(self.id);
        drop(file);
    }
}

impl File for PooledFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.opened()?.write_at(offset, bytes)
    }

    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.opened()?.write_vectored_at(offset, parts)
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.opened()?.view(range)
    }

    fn len(&self) -> io::Result<u64> {
        self.opened()?.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.opened()?.allocate(len)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.opened()?.zero_range(range)
    }

    fn will_need(&self, range: Range<u64>) {
        if let Ok(file) = self.opened() {
            file.will_need(range);
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.opened()?.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.opened()?.sync_all()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.opened()?.truncate(len)
    }
}

#[cfg(test)]
mod tests;
