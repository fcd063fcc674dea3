//! What can go wrong with a column segment.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use stratalog_proto::{Code, Error, SegmentId};

use super::format::BLOCK_BYTES;
use crate::container::FileError;

/// An error of writing or reading a column segment.
#[derive(Debug, thiserror::Error)]
pub enum ColError {
    /// The device said no.
    #[error("cannot {action} column segment {}: {source}", path.display())]
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
        "column segment {} is damaged in block {block} (bytes {}..{}): {what}; its records are still in the log",
        path.display(), range.start, range.end
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The block of 64 KiB in which the damage was noticed.
        block: u64,
        /// The bytes that were looked at.
        range: Range<u64>,
        /// What is wrong with them.
        what: String,
    },
    /// A file of a later release.
    #[error(
        "column segment {} has format version {version}, this node reads up to {}; upgrade the node",
        path.display(), super::format::FORMAT_VERSION
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Rows that cannot become a segment: nothing was written.
    #[error("cannot build column segment {id}: {what}")]
    Refused {
        /// The segment that was to be built.
        id: SegmentId,
        /// Why not.
        what: String,
    },
    /// The rows to be written could not be had.
    #[error("{0}")]
    Source(Error),
}

impl ColError {
    /// Damage somewhere in `range`; the block named is the one that holds the range's start.
    pub(super) fn corrupt(path: &Path, range: Range<u64>, what: impl Into<String>) -> Self {
        ColError::Corrupt { path: path.to_owned(), block: range.start / BLOCK_BYTES, range, what: what.into() }
    }

    /// The code for programs.
    pub fn code(&self) -> Code {
        match self {
            ColError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => Code::StorageFull,
            ColError::Io { .. } => Code::Io,
            ColError::Corrupt { .. } => Code::CorruptData,
            ColError::NewerVersion { .. } => Code::NewerVersion,
            ColError::Refused { .. } => Code::Internal,
            ColError::Source(error) => error.code,
        }
    }
}

impl From<FileError> for ColError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { action, path, source } => ColError::Io { action, path, source },
            FileError::Corrupt { path, range, what } => ColError::corrupt(&path, range, what),
            FileError::NewerVersion { path, version } => ColError::NewerVersion { path, version },
        }
    }
}

impl From<ColError> for Error {
    fn from(error: ColError) -> Self {
        match error {
            ColError::Source(error) => error,
            error => Error::new(error.code(), error.to_string()),
        }
    }
}

impl From<ColError> for io::Error {
    fn from(error: ColError) -> Self {
        let kind = match &error {
            ColError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
