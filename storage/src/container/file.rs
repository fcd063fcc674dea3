//! A finished file, open for reading.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::blocks::{BLOCK_BYTES, Blocks, view};
use super::cursor::{Cursor, Malformed};
use super::error::FileError;
use super::trailer::{FileKind, HEADER_BYTES, TRAILER_BYTES, Trailer};
use crate::io::{File, OpenMode};
use crate::segment::Lease;

/// The blocks of a file and what its ends say of them. Keeps the file in place while it lives.
#[derive(Debug)]
pub(crate) struct BlockFile {
    blocks: Blocks,
    kind: &'static FileKind,
    trailer: Trailer,
}

impl BlockFile {
    /// Opens a file: one view of its end, and a second one for a footer that is longer than a block. `decode` gets the
    /// footer without the checksums of the blocks, and where the blocks end.
    pub(crate) fn open<T>(
        lease: Arc<Lease>,
        kind: &'static FileKind,
        decode: impl FnOnce(&[u8], u64) -> Result<T, Malformed>,
    ) -> Result<(Self, T), FileError> {
        let of = Arc::clone(&lease);
        of.noted(Self::open_leased(lease, kind, decode))
    }

    fn open_leased<T>(
        lease: Arc<Lease>,
        kind: &'static FileKind,
        decode: impl FnOnce(&[u8], u64) -> Result<T, Malformed>,
    ) -> Result<(Self, T), FileError> {
        let path = &lease.path;
        let file = lease.io.open(path, OpenMode::Read).map_err(|error| FileError::io("open", path, error))?;
        let len = file.len().map_err(|error| FileError::io("open", path, error))?;
        let (trailer, footer) = read_ends(&*file, path, len, kind)?;
        let blocks_end = trailer.footer_start;
        let decoded = split_checksums(&footer, blocks_end)
            .and_then(|(footer, checksums)| Ok((decode(footer, blocks_end)?, checksums)));
        let (decoded, checksums) = decoded.map_err(|error| {
            FileError::corrupt(path, blocks_end..len - TRAILER_BYTES as u64, format!("the footer: {}", error.0))
        })?;
        Ok((Self { blocks: Blocks::new(file, lease, blocks_end, checksums), kind, trailer }, decoded))
    }

    pub(crate) fn path(&self) -> &Path {
        self.blocks.path()
    }

    /// The file's length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.footer().end + TRAILER_BYTES as u64
    }

    /// Where the footer is; the blocks lie before it.
    pub(crate) fn footer(&self) -> Range<u64> {
        self.trailer.footer_start..self.trailer.footer_start + u64::from(self.trailer.footer_len)
    }

    /// The bytes of a range of the blocks: one view, each block verified at its first touch.
    pub(crate) fn view(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        self.blocks.view(range)
    }

    /// Has the device begin to read a range that will be asked for soon.
    pub(crate) fn will_need(&self, range: Range<u64>) {
        self.blocks.will_need(range);
    }

    /// The same, with every block verified again: for bytes that are written anew, where damage that came after the
    /// first touch would get checksums that are right for it.
    pub(crate) fn view_again(&self, range: Range<u64>) -> Result<Bytes, FileError> {
        self.blocks.view_again(range)
    }

    /// Reads the whole file again and compares it with the checksum of each block and the BLAKE3 in its trailer; gives
    /// the BLAKE3 of the whole file, trailer included.
    pub(crate) fn verify(&self) -> Result<[u8; 32], FileError> {
        self.blocks.lease().noted(self.hashed())
    }

    fn hashed(&self) -> Result<[u8; 32], FileError> {
        let (end, len) = (self.footer().end, self.len());
        let mut hasher = self.blocks.hash(end)?;
        if *hasher.finalize().as_bytes() != self.trailer.blake3 {
            return Err(FileError::corrupt(self.path(), 0..end, "the file's BLAKE3 is not the one in its trailer"));
        }
        let trailer = self.blocks.view_raw(end..len)?;
        if trailer[..] != self.trailer.encode(self.kind.trailer_magic) {
            let what = "the trailer has changed since it was opened";
            return Err(FileError::corrupt(self.path(), end..len, what));
        }
        hasher.update(&trailer);
        Ok(*hasher.finalize().as_bytes())
    }

    /// [`BlockFile::verify`] for a file of which a manifest knows the BLAKE3.
    pub(crate) fn verify_against(&self, blake3: &[u8; 32]) -> Result<(), FileError> {
        if self.verify()? != *blake3 {
            let what = "the file's BLAKE3 is not the one in the manifest: it is another file";
            return self.blocks.lease().noted(Err(FileError::corrupt(self.path(), 0..self.len(), what)));
        }
        Ok(())
    }
}

/// Reads trailer and footer.
fn read_ends(file: &dyn File, path: &Path, len: u64, kind: &FileKind) -> Result<(Trailer, Bytes), FileError> {
    let least = (HEADER_BYTES + TRAILER_BYTES) as u64;
    if len < least {
        let what = format!("it has {len} bytes, a {} has at least {least}", kind.name);
        return Err(FileError::corrupt(path, 0..len, what));
    }
    let end = view(file, path, len.saturating_sub(BLOCK_BYTES)..len)?;
    let (behind, trailer) = end.split_at(end.len() - TRAILER_BYTES);
    let trailer_start = len - TRAILER_BYTES as u64;
    let trailer = Trailer::decode(trailer, kind.trailer_magic)
        .map_err(|error| FileError::corrupt(path, trailer_start..len, error.0))?;
    if trailer.version > kind.version {
        return Err(FileError::NewerVersion { path: path.to_owned(), version: trailer.version });
    }
    let range = trailer.footer_start..trailer_start;
    if trailer.footer_start.checked_add(trailer.footer_len.into()) != Some(trailer_start) {
        return Err(FileError::corrupt(path, trailer_start..len, "the footer does not end where the trailer starts"));
    }
    let footer_len = trailer.footer_len as usize;
    let footer = match behind.len().checked_sub(footer_len) {
        Some(start) => end.slice(start..start + footer_len),
        None => view(file, path, range.clone())?,
    };
    if crc32fast::hash(&footer) != trailer.footer_crc {
        return Err(FileError::corrupt(path, range, "the footer's checksum does not match"));
    }
    Ok((trailer, footer))
}

/// Takes the checksums of the blocks off the end of a footer.
fn split_checksums(footer: &[u8], blocks_end: u64) -> Result<(&[u8], Vec<u32>), Malformed> {
    let wrong = Malformed("there is not one checksum for each block");
    let count = u32::try_from(blocks_end.div_ceil(BLOCK_BYTES)).map_err(|_| wrong)?;
    let checksums_len = usize::try_from(u64::from(count) * 4).map_err(|_| wrong)?;
    let at = footer.len().checked_sub(checksums_len + 4).ok_or(wrong)?;
    let (rest, mut checksums) = (&footer[..at], Cursor::new(&footer[at..]));
    if checksums.u32()? != count {
        return Err(wrong);
    }
    let checksums = checksums.take(checksums_len)?;
    Ok((rest, checksums.as_chunks().0.iter().map(|checksum| u32::from_le_bytes(*checksum)).collect()))
}
