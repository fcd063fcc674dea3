//! A disk with another one behind it, for tests: what they count, change or forbid is up to [`Hooks`], all else goes through.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{File, Io, OpenMode, RealDisk, Space};

/// What happens around the calls of the disk behind; nothing by default. An error takes the place of the call.
pub trait Hooks: Debug + Send + Sync + 'static {
    /// Before a file is opened.
    fn opens(&self, path: &Path, mode: OpenMode) -> io::Result<()> {
        let _ = (path, mode);
        Ok(())
    }

    /// What a view gave: this is given in its place.
    fn viewed(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    /// Before space is taken for a file.
    fn allocates(&self) -> io::Result<()> {
        Ok(())
    }

    /// Before a file is synced.
    fn syncs(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The disk. Clones share its hooks, and it stands for them.
#[derive(Debug)]
pub struct HookedDisk<H> {
    disk: Arc<dyn Io>,
    hooks: Arc<H>,
}

#[derive(Debug)]
struct HookedFile<H> {
    file: Arc<dyn File>,
    hooks: Arc<H>,
}

impl<H: Hooks> HookedDisk<H> {
    /// With this disk behind it.
    pub fn over(disk: Arc<dyn Io>, hooks: H) -> Self {
        Self { disk, hooks: Arc::new(hooks) }
    }
}

/// Over the real disk.
impl<H: Hooks + Default> Default for HookedDisk<H> {
    fn default() -> Self {
        Self::over(Arc::new(RealDisk), H::default())
    }
}

impl<H> Clone for HookedDisk<H> {
    fn clone(&self) -> Self {
        Self { disk: Arc::clone(&self.disk), hooks: Arc::clone(&self.hooks) }
    }
}

impl<H> Deref for HookedDisk<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.hooks
    }
}

impl<H: Hooks> Io for HookedDisk<H> {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.hooks.opens(path, mode)?;
        Ok(Arc::new(HookedFile { file: self.disk.open(path, mode)?, hooks: Arc::clone(&self.hooks) }))
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

    fn space(&self, dir: &Path) -> io::Result<Space> {
        self.disk.space(dir)
    }
}

impl<H: Hooks> File for HookedFile<H> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.file.write_vectored_at(offset, parts)
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        Ok(self.hooks.viewed(self.file.view(range)?))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.hooks.allocates()?;
        self.file.allocate(len)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.file.zero_range(range)
    }

    fn start_writing(&self, range: Range<u64>) {
        self.file.start_writing(range);
    }

    fn will_need(&self, range: Range<u64>) {
        self.file.will_need(range);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hooks.syncs()?;
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.hooks.syncs()?;
        self.file.sync_all()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}
