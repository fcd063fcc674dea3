//! What can go wrong with a text index.

use std::io;

use stratalog_proto::{Code, Error};

/// An error of building, opening or searching a text index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The bytes are not a text index, or contradict themselves (L5). The segment's other columns are unaffected:
    /// the rows can still be scanned.
    #[error("the text index is corrupt: {0}; verify the segment, and repair it from a replica or rebuild it")]
    Corrupt(String),
    /// Written by a later version.
    #[error("the text index has format {found}, and this version reads up to {known}; upgrade this node")]
    NewerVersion {
        /// In the file.
        found: u32,
        /// The highest that this version reads.
        known: u32,
    },
    /// The medium failed under a read.
    #[error("reading the text index failed: {0}")]
    Io(#[source] io::Error),
    /// The words of the rows need more memory than the writer was given. Write the segment without a text index (its
    /// rows are then scanned), or with fewer rows.
    #[error(
        "indexing {rows} rows took {used_bytes} bytes, and the budget is {budget_bytes}; seal fewer rows at a time"
    )]
    Budget {
        /// Rows added so far.
        rows: u32,
        /// Memory in use.
        used_bytes: usize,
        /// Memory allowed.
        budget_bytes: usize,
    },
    /// A defect of ours or of the library underneath.
    #[error("building the text index failed: {0}")]
    Internal(String),
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Self {
        let code = match &error {
            IndexError::Corrupt(_) => Code::CorruptData,
            IndexError::NewerVersion { .. } => Code::NewerVersion,
            IndexError::Io(_) => Code::Io,
            IndexError::Budget { .. } | IndexError::Internal(_) => Code::Internal,
        };
        Error::new(code, error.to_string())
    }
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // What a decoder says of bytes that it cannot read, as against a medium that cannot be read.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
                IndexError::Corrupt(error.to_string())
            }
            _ => IndexError::Io(error),
        }
    }
}

impl From<tantivy::TantivyError> for IndexError {
    fn from(error: tantivy::TantivyError) -> Self {
        use tantivy::TantivyError;
        use tantivy::directory::error::OpenReadError;
        match error {
            TantivyError::IoError(io) | TantivyError::OpenReadError(OpenReadError::IoError { io_error: io, .. }) => {
                io::Error::new(io.kind(), io.to_string()).into()
            }
            other => IndexError::Corrupt(other.to_string()),
        }
    }
}
