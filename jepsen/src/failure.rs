//! The harness itself could not go on. That is no verdict on the cluster.

use stratalog_client::ClientError;

/// What was tried, and why it did not work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// The same with what was being tried in front.
    pub(crate) fn context(self, tried: &str) -> Self {
        Self(format!("{tried}: {}", self.0))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self(format!("{}: {error}", error.code()))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
