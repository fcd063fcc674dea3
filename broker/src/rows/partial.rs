//! A column segment's file that is not whole yet.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use stratalog_proto::{Code, Error};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::{File, OpenMode, SegmentMeta};

use super::files::{Arrival, SegmentFiles, partial_file_name};

/// What is read at once of what came before.
const READ_BYTES: u64 = 1 << 20;

/// What has come of a file. Dropped before it is whole, it stays on disk for the next try, unless nobody needs it any more. All of it blocks.
pub(super) struct Partial {
    files: Arc<SegmentFiles>,
    meta: Arc<SegmentMeta>,
    file: Arc<dyn File>,
    len: u64,
    hash: blake3::Hasher,
    arrival: Arrival,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.arrival.given_up().is_cancelled() {
            self.remove();
        }
    }
}

impl Partial {
    /// What an earlier try has left of a segment's file, or nothing.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn open(files: Arc<SegmentFiles>, meta: Arc<SegmentMeta>, arrival: Arrival) -> Result<Self, Error> {
        let path = files.dir().join(partial_file_name(meta.id));
        let opened = (|| {
            let is_there = files.io().exists(&path)?;
            let file = files.io().open(&path, if is_there { OpenMode::Write } else { OpenMode::CreateNew })?;
            if file.len()? > meta.bytes {
                file.truncate(0)?;
            }
            let len = file.len()?;
            let mut hash = blake3::Hasher::new();
            for range in steps(len) {
                hash.update(&file.view(range)?);
            }
            Ok((file, len, hash))
        })();
        let (file, len, hash) = opened.map_err(|error| failed(&meta, &error))?;
        Ok(Self { files, meta, file, len, hash, arrival })
    }

    /// Bytes that are here.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for more than the file has; those of the disk. On a full one the file is removed.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() as u64 > self.meta.bytes - self.len {
            return Err(self.refuse("more bytes than it has"));
        }
        if let Err(error) = self.file.write_at(self.len, bytes) {
            if error.kind() == io::ErrorKind::StorageFull {
                self.remove();
            }
            return Err(failed(&self.meta, &error));
        }
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name, durably.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if bytes are missing: they may be added another time. [`Code::CorruptData`] if it is another file
    /// than was meant: it is removed. Those of the disk.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Self { meta, files, .. } = &self;
        if self.len < meta.bytes {
            let message =
                format!("column segment {} broke off: {} of {} bytes have come so far", meta.id, self.len, meta.bytes);
            return Err(Error::new(Code::Unavailable, message));
        }
        if self.hash.finalize() != meta.blake3 {
            return Err(self.refuse("other bytes than its hash says"));
        }
        let (io, dir) = (files.io(), files.dir());
        let named = self
            .file
            .sync_all()
            .and_then(|()| io.rename(&dir.join(partial_file_name(meta.id)), &dir.join(segment_file_name(meta.id))))
            .and_then(|()| io.sync_dir(dir));
        // After a failed sync nothing that was written may be trusted: the next try begins anew.
        named.map_err(|error| failed(meta, &error)).inspect_err(|_| self.remove())?;
        files.arrived(std::iter::once(meta.id));
        Ok(())
    }

    fn refuse(&self, what: &str) -> Error {
        self.remove();
        let message = format!("column segment {} came damaged from another replica: {what}", self.meta.id);
        Error::new(Code::CorruptData, message)
    }

    fn remove(&self) {
        // A rest that stays behind is emptied by the next try, or garbage.
        let _ = self.files.io().remove(&self.files.dir().join(partial_file_name(self.meta.id)));
    }
}

fn steps(len: u64) -> impl Iterator<Item = Range<u64>> {
    (0..len.div_ceil(READ_BYTES)).map(move |step| step * READ_BYTES..len.min((step + 1) * READ_BYTES))
}

fn failed(meta: &SegmentMeta, error: &io::Error) -> Error {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Io };
    Error::new(code, format!("cannot keep column segment {} that is fetched: {error}", meta.id))
}
