//! What can go wrong with the file of a segment, whatever the segment holds.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// An error of a file; each kind of segment turns it into its own.
#[derive(Debug)]
pub(crate) enum FileError {
    /// The device said no.
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Bytes that are not what was written (L5).
    Corrupt { path: PathBuf, range: Range<u64>, what: String },
    /// A file of a later release.
    NewerVersion { path: PathBuf, version: u32 },
}

impl FileError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        FileError::Io { action, path: path.to_owned(), source }
    }

    /// Damage somewhere in `range`.
    pub(crate) fn corrupt(path: &Path, range: Range<u64>, what: impl Into<String>) -> Self {
        FileError::Corrupt { path: path.to_owned(), range, what: what.into() }
    }
}
