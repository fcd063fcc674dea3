//! Why a benchmark ends without a figure.

use std::io;
use std::path::Path;

/// What went wrong, in words for whoever runs the benchmark.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// An error of the disk, with what was tried on which path.
    pub fn io(what: &str, path: &Path, error: &io::Error) -> Self {
        Self(format!("cannot {what} {}: {error}", path.display()))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<stratalog_client::ClientError> for Failure {
    fn from(error: stratalog_client::ClientError) -> Self {
        Self(error.to_string())
    }
}

impl From<stratalog_client::SendError> for Failure {
    fn from(error: stratalog_client::SendError) -> Self {
        Self(error.to_string())
    }
}

impl From<stratalog_proto::Error> for Failure {
    fn from(error: stratalog_proto::Error) -> Self {
        Self(error.to_string())
    }
}
