//! What can go wrong with a replay segment.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use stratalog_proto::{Code, Error, SegmentId};

use crate::container::{BLOCK_BYTES, FileError};

/// An error of writing or reading a replay segment.
#[derive(Debug, thiserror::Error)]
pub enum RecError {
    /// The device said no.
    #[error("cannot {action} replay segment {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the device said.
        source: io::Error,
    },
    /// Bytes that are not what was written (L5).
    #[error(
        "replay segment {} is damaged in block {block} (bytes {}..{}): {what}; restore the file from another replica or \
         from a backup",
        path.display(), range.start, range.end
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The block of 64 KiB in which the damage was noticed.
        block: u64,
        /// The bytes that were looked at.
        range: Range<u64>,
        /// What is wrong with them, and with which offsets of which partition, where that is known.
        what: String,
    },
    /// A file of a later release.
    #[error(
        "replay segment {} has format version {version}, this node reads up to {}; upgrade the node",
        path.display(), super::format::FORMAT_VERSION
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Batches that cannot become a segment. No file is left.
    #[error("cannot build replay segment {id}: {what}")]
    Refused {
        /// The segment that was to be built.
        id: SegmentId,
        /// Why not.
        what: String,
    },
}

impl RecError {
    /// Damage somewhere in `range`; the block named is the one that holds the range's start.
    pub(super) fn corrupt(path: &Path, range: Range<u64>, what: impl Into<String>) -> Self {
        RecError::Corrupt { path: path.to_owned(), block: range.start / BLOCK_BYTES, range, what: what.into() }
    }

    /// The code for programs.
    pub fn code(&self) -> Code {
        match self {
            RecError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Code::StorageFull,
            RecError::Io { .. } => Code::Io,
            RecError::Corrupt { .. } => Code::CorruptData,
            RecError::NewerVersion { .. } => Code::NewerVersion,
            RecError::Refused { .. } => Code::Internal,
        }
    }

    /// Whether the file is not there at all.
    pub fn is_missing(&self) -> bool {
        matches!(self, RecError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl From<FileError> for RecError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { action, path, source } => RecError::Io { action, path, source },
            FileError::Corrupt { path, range, what } => RecError::corrupt(&path, range, what),
            FileError::NewerVersion { path, version } => RecError::NewerVersion { path, version },
        }
    }
}

impl From<RecError> for Error {
    fn from(error: RecError) -> Self {
        Error::new(error.code(), error.to_string())
    }
}
