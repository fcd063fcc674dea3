//! From bytes to a durable file.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks::BLOCK_BYTES;
use super::error::FileError;
use super::trailer::{FileKind, Trailer};
use crate::io::{File, Io, OpenMode};

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 16 * BLOCK_BYTES as usize;
/// Slices from this length on are handed to the device as they are. Shorter ones cost less when they are gathered.
const DIRECT_BYTES: usize = BLOCK_BYTES as usize;

/// What a finished file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its length.
    pub(crate) bytes: u64,
    /// Of the whole file.
    pub(crate) blake3: [u8; 32],
}

/// Lets `write` fill `<dir>/<name>`. When this returns, the file and its name are durable; after an error there is no
/// file of that name unless it is whole.
pub(crate) fn write_named<T, E: From<FileError>>(
    io: &dyn Io,
    dir: &Path,
    name: &str,
    write: impl FnOnce(BlockWriter) -> Result<T, E>,
) -> Result<T, E> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let written = BlockWriter::create(io, &temporary).map_err(E::from).and_then(write).and_then(|written| {
        io.rename(&temporary, &path).map_err(|error| FileError::io("rename", &temporary, error))?;
        io.sync_dir(dir).map_err(|error| FileError::io("sync the directory of", &path, error))?;
        Ok(written)
    });
    if written.is_err() {
        // Garbage that stays behind is removed at the next start: no manifest names it.
        let _ = io.remove(&temporary);
    }
    written
}

/// Writes a file from its start: blocks, then footer and trailer.
pub(crate) struct BlockWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes of the file before `buffer`.
    written: u64,
    /// Of the blocks that are full.
    checksums: Vec<u32>,
    /// Of the block that is not.
    checksum: crc32fast::Hasher,
    checksummed: usize,
    hasher: blake3::Hasher,
}

impl BlockWriter {
    fn create(io: &dyn Io, path: &Path) -> Result<Self, FileError> {
        let file = io.open(path, OpenMode::CreateOrTruncate).map_err(|error| FileError::io("create", path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            checksums: Vec::new(),
            checksum: crc32fast::Hasher::new(),
            checksummed: 0,
            hasher: blake3::Hasher::new(),
        })
    }

    /// Where the next byte goes.
    pub(crate) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds bytes to the blocks.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        if bytes.len() >= DIRECT_BYTES {
            return self.flush_with(bytes);
        }
        if self.buffer.len() + bytes.len() > WRITE_BYTES {
            self.flush_with(&[])?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the blocks, writes `footer` with their checksums behind it, and the trailer; makes the content durable.
    ///
    /// `None` if the footer would be over 4 GiB.
    pub(crate) fn finish(mut self, kind: &FileKind, mut footer: Vec<u8>) -> Result<Option<Written>, FileError> {
        self.flush_with(&[])?;
        let footer_start = self.written;
        self.end_block();
        footer.extend_from_slice(&(self.checksums.len() as u32).to_le_bytes());
        self.checksums.iter().for_each(|checksum| footer.extend_from_slice(&checksum.to_le_bytes()));
        let Ok(footer_len) = u32::try_from(footer.len()) else { return Ok(None) };
        let blake3 = self.write_behind(&footer)?;
        let footer_crc = crc32fast::hash(&footer);
        let trailer = Trailer { blake3, footer_start, footer_len, footer_crc, version: kind.version };
        let blake3 = self.write_behind(&trailer.encode(kind.trailer_magic))?;
        self.file.sync_all().map_err(|error| FileError::io("sync", &self.path, error))?;
        Ok(Some(Written { bytes: self.written, blake3 }))
    }

    /// Writes what was gathered, and `bytes` behind it without copying them.
    fn flush_with(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let mut gathered = std::mem::take(&mut self.buffer);
        self.check_in(&gathered);
        self.check_in(bytes);
        let put = self.file.write_vectored_at(self.written, &mut [IoSlice::new(&gathered), IoSlice::new(bytes)]);
        put.map_err(|error| FileError::io("write", &self.path, error))?;
        let end = self.written + (gathered.len() + bytes.len()) as u64;
        // Else the last sync would hold up the log's on the same device, for as long as the whole file takes.
        self.file.start_writing(self.written..end);
        self.written = end;
        gathered.clear();
        self.buffer = gathered;
        Ok(())
    }

    /// Takes bytes into the hash and the checksums of their blocks.
    fn check_in(&mut self, mut bytes: &[u8]) {
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES as usize - self.checksummed));
            self.checksum.update(now);
            self.checksummed += now.len();
            if self.checksummed == BLOCK_BYTES as usize {
                self.end_block();
            }
            bytes = later;
        }
    }

    /// Keeps the checksum of the block that was begun, if one was.
    fn end_block(&mut self) {
        if self.checksummed > 0 {
            self.checksums.push(std::mem::take(&mut self.checksum).finalize());
            self.checksummed = 0;
        }
    }

    /// Writes bytes behind the blocks, outside of their checksums; gives the hash of the file up to here.
    fn write_behind(&mut self, bytes: &[u8]) -> Result<[u8; 32], FileError> {
        self.hasher.update(bytes);
        self.file.write_at(self.written, bytes).map_err(|error| FileError::io("write", &self.path, error))?;
        self.written += bytes.len() as u64;
        Ok(*self.hasher.finalize().as_bytes())
    }
}
