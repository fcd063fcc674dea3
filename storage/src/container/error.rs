//! What can go wrong with the file of a segment, whatever the segment holds.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::io::is_of_the_medium;

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

    /// What of the file is damaged, or gone, so that a copy of it has to take its place; `None` where the file may be whole.
    pub(crate) fn damage(&self) -> Option<String> {
        match self {
            FileError::Corrupt { range, what, .. } => Some(format!("bytes {}..{}: {what}", range.start, range.end)),
            FileError::Io { source, .. } if is_of_the_medium(source) || source.kind() == io::ErrorKind::NotFound => {
                Some(source.to_string())
            }
            FileError::Io { .. } | FileError::NewerVersion { .. } => None,
        }
    }

    /// Damage somewhere in `range`.
    pub(crate) fn corrupt(path: &Path, range: Range<u64>, what: impl Into<String>) -> Self {
        FileError::Corrupt { path: path.to_owned(), range, what: what.into() }
    }
}
