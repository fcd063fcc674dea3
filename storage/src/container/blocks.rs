//! The blocks of a file while it is read. The checksums lie in the footer, so that a range over many blocks is one slice
//! of the file.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::error::FileError;
use crate::io::{File, named};
use crate::segment::Lease;

/// Bytes under one checksum.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;
/// Bytes that are read at once when a whole file is checked: whole blocks.
const VERIFY_BYTES: u64 = 16 * BLOCK_BYTES;

/// Reads ranges of the blocks. A block is verified when it is first touched; a bitmap remembers.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Arc<dyn File>,
    lease: Arc<Lease>,
    /// Bytes of all blocks: where the footer starts.
    len: u64,
    checksums: Box<[u32]>,
    verified: Box<[AtomicU64]>,
}

impl Blocks {
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

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The bytes of a range: one view of the file, widened to whole blocks if any of them is not verified yet.
    pub(super) fn view(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        self.lease.noted(self.view_unless(range, |block| self.is_verified(block)))
    }

    /// The same, with every block verified again.
    pub(super) fn view_again(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        self.lease.noted(self.view_unless(range, |_| false))
    }

    fn view_unless(&self, range: Range<u64>, known: impl Fn(u64) -> bool) -> Result<Bytes, FileError> {
        if range.start > range.end || range.end > self.len {
            return Err(FileError::corrupt(self.path(), range, "a range outside of the blocks was asked for"));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        if blocks.clone().all(&known) {
            return self.view_raw(range);
        }
        let whole = blocks.start * BLOCK_BYTES..self.len.min(blocks.end * BLOCK_BYTES);
        let bytes = self.view_raw(whole.clone())?;
        self.check(blocks.start, &bytes, known)?;
        Ok(part_of(&bytes, (range.start - whole.start) as usize..(range.end - whole.start) as usize))
    }

    /// Reads every byte of the file before `end` again and checks every block; gives the state of their hash.
    pub(super) fn hash(&self, end: u64) -> Result<blake3::Hasher, FileError> {
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

    /// Has the device begin to read a range that will be asked for soon.
    pub(super) fn will_need(&self, range: Range<u64>) {
        self.file.will_need(range);
    }

    pub(super) fn view_raw(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        view(&*self.file, self.path(), range)
    }

    fn is_verified(&self, block: u64) -> bool {
        self.verified[block as usize / 64].load(Ordering::Relaxed) & (1 << (block % 64)) != 0
    }

    /// Compares the checksums of the blocks from `first`, which are `bytes`, except where `skip` says not to.
    fn check(&self, first: u64, bytes: &[u8], skip: impl Fn(u64) -> bool) -> Result<(), FileError> {
        for (block, bytes) in (first..).zip(bytes.chunks(BLOCK_BYTES as usize)) {
            if skip(block) {
                continue;
            }
            let (found, expected) = (crc32fast::hash(bytes), self.checksums[block as usize]);
            if found != expected {
                let start = block * BLOCK_BYTES;
                let what = format!("its checksum is {found:08x}, {expected:08x} was written");
                return Err(FileError::corrupt(self.path(), start..start + bytes.len() as u64, what));
            }
            // Nothing is published with the bit: whoever sees it reads the file again.
            self.verified[block as usize / 64].fetch_or(1 << (block % 64), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A slice, or a copy where a slice would keep more than twice its own bytes in memory.
pub(crate) fn part_of(bytes: &Bytes, range: Range<usize>) -> Bytes {
    if range.len() >= bytes.len() / 2 { bytes.slice(range) } else { Bytes::copy_from_slice(&bytes[range]) }
}

/// The bytes of a range, with an error that says which. A file that ends early is damaged.
pub(super) fn view(file: &dyn File, path: &Path, range: Range<u64>) -> Result<Bytes, FileError> {
    let bytes = file.view(range.clone()).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FileError::corrupt(path, range.clone(), "the file ends before them"),
        _ => {
            let what = format!("block {} (bytes {}..{})", range.start / BLOCK_BYTES, range.start, range.end);
            FileError::io("read", path, named(error, || what))
        }
    })?;
    if bytes.len() as u64 != range.end - range.start {
        return Err(FileError::corrupt(path, range, "the device gave another number of bytes"));
    }
    Ok(bytes)
}
