//! A segment's file that is not whole yet.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use stratalog_proto::{Code, Error};
use stratalog_storage::{File, Io, OpenMode};
use tokio_util::sync::CancellationToken;

/// What is read at once of what came before.
const READ_BYTES: u64 = 1 << 20;
/// Bytes of one file that wait for the device. The log's syncs, on the same one, wait behind them.
const AHEAD_BYTES: u64 = 2 << 20;

/// A file that is to come.
pub(crate) struct Wanted {
    /// What it is, for messages.
    pub(crate) what: String,
    pub(crate) io: Arc<dyn Io>,
    pub(crate) dir: PathBuf,
    /// Its name once it is whole.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) blake3: [u8; 32],
}

/// Whoever waits for a file, and keeps others from making or fetching it as long as this is held.
pub(crate) trait Arriving: Send {
    /// Cancelled when nobody needs the file any more.
    fn given_up(&self) -> &CancellationToken;

    /// The file has its name, and is durable. Blocks on the disk.
    ///
    /// # Errors
    /// It cannot be used after all.
    fn arrived(&self) -> Result<(), Error>;
}

/// What has come of a file. Dropped before it is whole, it stays on disk for the next try, unless nobody needs it any more.
/// All of it blocks.
pub(super) struct Partial {
    wanted: Wanted,
    file: Arc<dyn File>,
    len: u64,
    /// Bytes that the device has taken.
    taken: u64,
    hash: blake3::Hasher,
    arriving: Box<dyn Arriving>,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.arriving.given_up().is_cancelled() {
            self.remove();
        }
    }
}

impl Partial {
    /// What an earlier try has left of a file, or nothing.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn open(wanted: Wanted, arriving: Box<dyn Arriving>) -> Result<Self, Error> {
        let path = wanted.dir.join(partial_name(&wanted.name));
        let opened = (|| {
            let is_there = wanted.io.exists(&path)?;
            let file = wanted.io.open(&path, if is_there { OpenMode::Write } else { OpenMode::CreateNew })?;
            if file.len()? > wanted.bytes {
                file.truncate(0)?;
            }
            let len = file.len()?;
            let mut hash = blake3::Hasher::new();
            for range in steps(len) {
                hash.update(&file.view(range)?);
            }
            Ok((file, len, hash))
        })();
        let (file, len, hash) = opened.map_err(|error| failed(&wanted, &error))?;
        Ok(Self { wanted, file, len, taken: len, hash, arriving })
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
        if bytes.len() as u64 > self.wanted.bytes - self.len {
            return Err(self.refuse("more bytes than it has"));
        }
        if let Err(error) = self.file.write_at(self.len, bytes) {
            if error.kind() == io::ErrorKind::StorageFull {
                self.remove();
            }
            return Err(failed(&self.wanted, &error));
        }
        self.hash.update(bytes);
        let begun = self.len..self.len + bytes.len() as u64;
        self.len = begun.end;
        // After a failed write nothing of it may be trusted: the next try begins anew.
        self.hand_on(begun).map_err(|error| failed(&self.wanted, &error)).inspect_err(|_| self.remove())
    }

    /// Has the device take what was written, and waits while that is too much: else the sync at the end would hold up the
    /// log's on the same device, for as long as the whole file takes.
    fn hand_on(&mut self, written: Range<u64>) -> io::Result<()> {
        self.file.start_writing(written);
        let until = self.len.saturating_sub(AHEAD_BYTES);
        if until > self.taken {
            self.file.finish_writing(self.taken..until)?;
            self.taken = until;
        }
        Ok(())
    }

    /// Gives the file its name, durably.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if bytes are missing: they may be added another time. [`Code::CorruptData`] if it is another file
    /// than was meant: it is removed. Those of the disk.
    pub(super) fn finish(self) -> Result<(), Error> {
        let Wanted { what, io, dir, name, bytes, blake3 } = &self.wanted;
        if self.len < *bytes {
            let message = format!("{what} broke off: {} of {bytes} bytes have come so far", self.len);
            return Err(Error::new(Code::Unavailable, message));
        }
        if self.hash.finalize() != *blake3 {
            return Err(self.refuse("other bytes than its hash says"));
        }
        let named = self
            .file
            .sync_all()
            .and_then(|()| io.rename(&dir.join(partial_name(name)), &dir.join(name)))
            .and_then(|()| io.sync_dir(dir));
        // After a failed sync nothing that was written may be trusted: the next try begins anew.
        named.map_err(|error| failed(&self.wanted, &error)).inspect_err(|_| self.remove())?;
        self.arriving.arrived()
    }

    fn refuse(&self, why: &str) -> Error {
        self.remove();
        Error::new(Code::CorruptData, format!("{} came damaged from another replica: {why}", self.wanted.what))
    }

    fn remove(&self) {
        // A rest that stays behind is emptied by the next try, or garbage.
        let _ = self.wanted.io.remove(&self.wanted.dir.join(partial_name(&self.wanted.name)));
    }
}

/// The name of a file while it is not whole.
pub(crate) fn partial_name(name: &str) -> String {
    format!("{name}.part")
}

fn steps(len: u64) -> impl Iterator<Item = Range<u64>> {
    (0..len.div_ceil(READ_BYTES)).map(move |step| step * READ_BYTES..len.min((step + 1) * READ_BYTES))
}

fn failed(wanted: &Wanted, error: &io::Error) -> Error {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Io };
    Error::new(code, format!("cannot keep {} that is fetched: {error}", wanted.what))
}
