//! The only door to the disk: two traits, and the real disk behind them.

mod durable;
mod error;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod hooked;
mod pool;
mod real;
mod removal;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod sim;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use durable::write_durably;
pub(crate) use durable::{remove_quietly, temporary_name, write_synced};
pub(crate) use error::{is_full, is_of_the_medium, lacks_descriptor, named};
pub use pool::PooledDisk;
pub use real::RealDisk;

/// How [`Io::open`] treats a file that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reading only; the file has to exist, and to keep its name while it is read: it may be opened again by it.
    Read,
    /// Reading and writing; the file has to exist.
    Write,
    /// Reading and writing; the file must not exist.
    CreateNew,
    /// Reading and writing; a file that exists is emptied.
    CreateOrTruncate,
}

/// A file system, as far as this crate needs one. All calls block.
///
/// Errors keep their [`io::ErrorKind`] and name what was tried on which path.
pub trait Io: Send + Sync + Debug + 'static {
    /// Creates a directory and its missing parents, durably.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names of the entries of a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Opens a file. One that this creates has a durable name only after [`Io::sync_dir`] of its directory.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Renames a file within one file system, replacing `to`; durable after [`Io::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; who has it open keeps reading, unless with [`OpenMode::Read`]. Durable after
    /// [`Io::sync_dir`]. The space of a large file may be free a little later.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// The space of the device that a directory is on. A disk that does not know says that there is no end to it.
    fn space(&self, dir: &Path) -> io::Result<Space> {
        let _ = dir;
        Ok(Space::UNBOUNDED)
    }
}

/// How much a device holds, and how much of that can still be taken, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The size of the device.
    pub total: u64,
    /// What nobody has taken yet and this process may take.
    pub free: u64,
}

impl Space {
    /// A device without an end.
    pub const UNBOUNDED: Space = Space { total: u64::MAX, free: u64::MAX };
}

/// An open file. Writers and readers of different ranges may run at the same time.
pub trait File: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`; a file that ends before is extended with zeroes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Writes all of `parts`, one after the other, from `offset`. `parts` is used up.
    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// The bytes of a range. A range that reaches beyond the end is [`io::ErrorKind::UnexpectedEof`]; a medium error is
    /// an error, never a signal.
    fn view(&self, range: Range<u64>) -> io::Result<Bytes>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes the file at least `len` bytes long and takes the space for them now; new bytes read as zeroes.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes a range within the file read as zeroes without writing them; the space stays taken. Durable after
    /// [`File::sync_all`]. [`io::ErrorKind::Unsupported`] where the file system cannot.
    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Has the device begin with written bytes, so that a later sync has less to wait for. A hint: it promises nothing.
    fn start_writing(&self, range: Range<u64>) {
        let _ = range;
    }
    /// Returns once the device has taken bytes that it was to [begin with](File::start_writing): whoever writes much waits
    /// here, and others find a short queue. They are not durable by it.
    ///
    /// # Errors
    /// Those of writing: a later sync need not say them again, and nothing written since the last sync may be trusted.
    fn finish_writing(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }
    /// Has the device begin to read bytes that will be wanted soon. A hint: it promises nothing.
    fn will_need(&self, range: Range<u64>) {
        let _ = range;
    }
    /// Makes written bytes durable, with what is needed to read them back. After an error nothing written since the last
    /// success may be trusted, and a second try proves nothing.
    fn sync_data(&self) -> io::Result<()>;
    /// Like [`File::sync_data`], with all of the file's metadata.
    fn sync_all(&self) -> io::Result<()>;
    /// Cuts or extends the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
}
