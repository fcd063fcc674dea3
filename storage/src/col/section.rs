//! A part of a file as a file of its own.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ColError;
use crate::container::BlockFile;

/// The bytes of one section of a segment, such as its text index; each block is verified at its first touch. Keeps the
/// file in place while it lives.
#[derive(Clone, Debug)]
pub struct Section {
    file: Arc<BlockFile>,
    range: Range<u64>,
}

impl Section {
    pub(super) fn new(file: Arc<BlockFile>, range: Range<u64>) -> Self {
        Self { file, range }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The bytes of a range that is counted from the section's start. Blocks on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] for a range that reaches beyond the section; [`io::ErrorKind::InvalidData`]
    /// around a [`ColError`] for a damaged block; else what the device said.
    pub fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end || range.end > self.len() {
            let what = format!(
                "bytes {}..{} of a section of {} bytes of {}",
                range.start,
                range.end,
                self.len(),
                self.file.path().display()
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let start = self.range.start;
        let viewed = self.file.view(start + range.start..start + range.end);
        viewed.map_err(|error| ColError::from(error).into())
    }
}
