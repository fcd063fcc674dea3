//! The file of a live segment, while somebody needs it.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::ShardId;

use super::error::RecError;
use super::meta::RecMeta;
use super::reader::RecReader;
use super::writer::rec_file_name;
use crate::io::Io;
use crate::segment::Lease;

/// A live replay segment's file. Its reader is opened at the first need and shared by all. Once condemned, the file is
/// unlinked when the last of its users lets go: the handle, the readers it gave and their cursors. What was read from it
/// needs the file no longer.
#[derive(Debug)]
pub struct RecHandle {
    /// The shard that it belongs to.
    pub shard: ShardId,
    /// What the manifest says of it.
    pub meta: Arc<RecMeta>,
    lease: Arc<Lease>,
    reader: Mutex<Option<Arc<RecReader>>>,
}

impl RecHandle {
    /// A handle on `<dir>/<id>.rec`; touches no file.
    pub fn new(io: Arc<dyn Io>, dir: &Path, shard: ShardId, meta: Arc<RecMeta>) -> Self {
        let lease = Arc::new(Lease::new(io, dir.join(rec_file_name(meta.id))));
        Self { shard, meta, lease, reader: Mutex::new(None) }
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.lease.path
    }

    /// The reader, opened by the first who asks: this blocks on the disk.
    ///
    /// # Errors
    /// As [`RecReader::open`], and [`RecError::Corrupt`] if the file is not the one that the manifest means. An error is
    /// not kept: the next call tries again.
    pub fn reader(&self) -> Result<Arc<RecReader>, RecError> {
        let mut slot = self.reader.lock();
        if let Some(reader) = &*slot {
            return Ok(reader.clone());
        }
        let reader = RecReader::open_leased(self.lease.clone())?;
        self.noted(reader.check_is(self.shard, &self.meta))?;
        Ok(slot.insert(Arc::new(reader)).clone())
    }

    /// Forgets the reader and the footer that it holds in memory; who uses it goes on with it.
    pub fn close(&self) {
        *self.reader.lock() = None;
    }

    /// As [`RecReader::verify`], and compares the hash of the whole file with the manifest's.
    ///
    /// # Errors
    /// As [`RecHandle::reader`], and [`RecError::Corrupt`] for a file that is not what was rolled.
    pub fn verify(&self) -> Result<(), RecError> {
        let reader = self.reader()?;
        if reader.verify()?.blake3 != self.meta.blake3 {
            let what = "the file's BLAKE3 is not the one in the manifest: it is another file";
            return self.noted(Err(RecError::corrupt(self.path(), 0..self.meta.bytes, what)));
        }
        Ok(())
    }

    /// What was found wrong with the file since this was made: bytes that are not what was written, or cannot be read (L5).
    pub fn damage(&self) -> Option<&str> {
        self.lease.damage()
    }

    /// Remembers that the file is whole, and another one.
    fn noted(&self, checked: Result<(), RecError>) -> Result<(), RecError> {
        checked.inspect_err(|error| {
            if let RecError::Corrupt { what, .. } = error {
                self.lease.note(what.clone());
            }
        })
    }

    /// Marks the file for unlinking when the last user lets go. Called once the manifest no longer names it.
    pub fn condemn(&self) {
        self.lease.condemn();
    }
}
