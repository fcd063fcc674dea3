//! The file of a segment on its way from a backup to the disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Code, Error};
use stratalog_storage::{File, Io, OpenMode};

use super::blocking;

/// A segment that a state names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedSegment {
    /// Of the file.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of all of it.
    pub blake3: [u8; 32],
}

/// A file that gets its name once it is whole, and is the one that is wanted.
pub struct SegmentSink {
    io: Arc<dyn Io>,
    dir: PathBuf,
    wanted: WantedSegment,
    file: Arc<dyn File>,
    len: u64,
    hash: blake3::Hasher,
}

impl SegmentSink {
    pub(super) async fn create(io: Arc<dyn Io>, dir: PathBuf, wanted: WantedSegment) -> Result<Self, Error> {
        blocking(move || {
            let opened = io.open(&dir.join(partial(&wanted.name)), OpenMode::CreateOrTruncate);
            let file = opened.map_err(|error| failed(&wanted, &error))?;
            Ok(Self { io, dir, wanted, file, len: 0, hash: blake3::Hasher::new() })
        })
        .await
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for more than it has (X1); those of the disk.
    pub async fn push(&mut self, bytes: Bytes) -> Result<(), Error> {
        if bytes.len() as u64 > self.wanted.bytes - self.len {
            return Err(another(&self.wanted));
        }
        self.hash.update(&bytes);
        let (file, at, len) = (Arc::clone(&self.file), self.len, bytes.len() as u64);
        let written = blocking(move || Ok(file.write_at(at, &bytes))).await?;
        written.map_err(|error| failed(&self.wanted, &error))?;
        self.len += len;
        Ok(())
    }

    /// Gives the file its name, durably.
    pub(super) async fn finish(self) -> Result<String, Error> {
        let Self { io, dir, wanted, file, len, hash } = self;
        if len != wanted.bytes || hash.finalize() != wanted.blake3 {
            return Err(another(&wanted));
        }
        blocking(move || {
            let named =
                file.sync_all().and_then(|()| io.rename(&dir.join(partial(&wanted.name)), &dir.join(&wanted.name)));
            named.and_then(|()| io.sync_dir(&dir)).map_err(|error| failed(&wanted, &error))?;
            Ok(wanted.name)
        })
        .await
    }
}

fn partial(name: &str) -> String {
    format!("{name}.part")
}

fn another(wanted: &WantedSegment) -> Error {
    let message = format!("L5: segment {} of the backup is not the one that the state of its shard names", wanted.name);
    Error::new(Code::CorruptData, message)
}

fn failed(wanted: &WantedSegment, error: &io::Error) -> Error {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::StorageFull } else { Code::Io };
    Error::new(code, format!("cannot restore segment {}: {error}", wanted.name))
}
