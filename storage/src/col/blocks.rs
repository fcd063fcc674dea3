//! The lowest layer of a file: blocks of [`BLOCK_BYTES`] with a checksum each. The checksums lie in the footer, so that
//! a range over many blocks is one slice of the file.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::error::ColError;
use super::format::BLOCK_BYTES;
use crate::io::File;
use crate::segment::Lease;

/// Bytes that are gathered before they are written: whole blocks.
const WRITE_BYTES: usize = 16 * BLOCK_BYTES as usize;
/// Bytes that are read at once when a whole file is checked: whole blocks.
const VERIFY_BYTES: u64 = 16 * BLOCK_BYTES;

/// Writes the blocks of a file from its start, and then what follows them.
pub(super) struct BlockWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Bytes of the file before `buffer`.
    written: u64,
    checksums: Vec<u32>,
    hasher: blake3::Hasher,
}

impl BlockWriter {
    pub(super) fn new(file: Arc<dyn File>, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            buffer: Vec::with_capacity(WRITE_BYTES),
            written: 0,
            checksums: Vec::new(),
            hasher: blake3::Hasher::new(),
        }
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), ColError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the last, possibly shorter block; gives the checksums of all.
    pub(super) fn finish_blocks(&mut self) -> Result<Vec<u32>, ColError> {
        self.flush()?;
        Ok(std::mem::take(&mut self.checksums))
    }

    /// Writes bytes behind the blocks, outside of their checksums; gives the hash of the file up to here.
    pub(super) fn write_behind(&mut self, bytes: &[u8]) -> Result<[u8; 32], ColError> {
        self.put(bytes)?;
        Ok(*self.hasher.finalize().as_bytes())
    }

    /// Makes the file's content durable.
    pub(super) fn sync(&self) -> Result<(), ColError> {
        self.file.sync_all().map_err(|error| ColError::io("sync", &self.path, error))
    }

    fn flush(&mut self) -> Result<(), ColError> {
        let mut blocks = std::mem::take(&mut self.buffer);
        self.checksums.extend(blocks.chunks(BLOCK_BYTES as usize).map(crc32fast::hash));
        self.put(&blocks)?;
        blocks.clear();
        self.buffer = blocks;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ColError> {
        self.hasher.update(bytes);
        let put = self.file.write_at(self.written, bytes);
        put.map_err(|error| ColError::io("write", &self.path, error))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Reads ranges of the blocks. A block is verified when it is first touched; a bitmap remembers.
#[derive(Debug)]
pub(super) struct BlockReader {
    file: Arc<dyn File>,
    lease: Arc<Lease>,
    /// Bytes of all blocks: where the footer starts.
    len: u64,
    checksums: Box<[u32]>,
    verified: Box<[AtomicU64]>,
}

impl BlockReader {
    /// The blocks are the first `len` bytes of the file.
    ///
    /// # Panics
    /// If there is not one checksum for each: the footer was checked for that.
    pub(super) fn new(file: Arc<dyn File>, lease: Arc<Lease>, len: u64, checksums: Vec<u32>) -> Self {
        assert_eq!(checksums.len() as u64, len.div_ceil(BLOCK_BYTES), "one checksum a block");
        let verified = (0..checksums.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { file, lease, len, checksums: checksums.into(), verified }
    }

    pub(super) fn path(&self) -> &Path {
        &self.lease.path
    }

    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The bytes of a range: one view of the file, widened to whole blocks if any of them is not verified yet.
    pub(super) fn view(&self, range: Range<u64>) -> Result<Bytes, ColError> {
        if range.start > range.end || range.end > self.len {
            return Err(ColError::corrupt(self.path(), range, "a range outside of the blocks was asked for"));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        if blocks.clone().all(|block| self.is_verified(block)) {
            return self.view_raw(range);
        }
        let whole = blocks.start * BLOCK_BYTES..self.len.min(blocks.end * BLOCK_BYTES);
        let bytes = self.view_raw(whole.clone())?;
        self.check(blocks.start, &bytes, |block| self.is_verified(block))?;
        Ok(bytes.slice((range.start - whole.start) as usize..(range.end - whole.start) as usize))
    }

    /// Reads every byte of the file before `end` again and checks every block; gives the state of their hash.
    pub(super) fn hash(&self, end: u64) -> Result<blake3::Hasher, ColError> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < end {
            let stop = if at < self.len { self.len.min(at + VERIFY_BYTES) } else { end.min(at + VERIFY_BYTES) };
            let bytes = self.view_raw(at..stop)?;
            if at < self.len {
                self.check(at / BLOCK_BYTES, &bytes, |_| false)?;
            }
            hasher.update(&bytes);
            at = stop;
        }
        Ok(hasher)
    }

    fn view_raw(&self, range: Range<u64>) -> Result<Bytes, ColError> {
        view(&*self.file, self.path(), range)
    }

    fn is_verified(&self, block: u64) -> bool {
        self.verified[block as usize / 64].load(Ordering::Relaxed) & (1 << (block % 64)) != 0
    }

    /// Compares the checksums of the blocks from `first`, which are `bytes`, except where `skip` says not to.
    fn check(&self, first: u64, bytes: &[u8], skip: impl Fn(u64) -> bool) -> Result<(), ColError> {
        for (block, bytes) in (first..).zip(bytes.chunks(BLOCK_BYTES as usize)) {
            if skip(block) {
                continue;
            }
            let (found, expected) = (crc32fast::hash(bytes), self.checksums[block as usize]);
            if found != expected {
                let start = block * BLOCK_BYTES;
                let what = format!("its checksum is {found:08x}, {expected:08x} was written");
                return Err(ColError::corrupt(self.path(), start..start + bytes.len() as u64, what));
            }
            // Nothing is published with the bit: whoever sees it reads the file again.
            self.verified[block as usize / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The bytes of a range, with an error that says which. A file that ends early is damaged.
pub(super) fn view(file: &dyn File, path: &Path, range: Range<u64>) -> Result<Bytes, ColError> {
    let bytes = file.view(range.clone()).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => ColError::corrupt(path, range.clone(), "the file ends before them"),
        _ => {
            let what = format!("block {} (bytes {}..{}): {error}", range.start / BLOCK_BYTES, range.start, range.end);
            ColError::io("read", path, std::io::Error::new(error.kind(), what))
        }
    })?;
    if bytes.len() as u64 != range.end - range.start {
        return Err(ColError::corrupt(path, range, "the device gave another number of bytes"));
    }
    Ok(bytes)
}
