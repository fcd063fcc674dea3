//! How a command ends when it does not succeed: a sentence for people, an exit code for scripts.

use std::process::ExitCode;

use stratalog_client::ClientError;
use stratalog_proto::{Code, Error};

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server or this machine refused or failed.
    #[error("{0}")]
    Refused(String),
    /// The command line or the configuration is not valid.
    #[error("{0}")]
    Usage(String),
    /// The server could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Whether it happened is unknown.
    #[error("{0}")]
    Unknown(String),
    /// Whoever read our output has left: nothing to say, and no failure of ours.
    #[error("the reader of the output has left")]
    ReaderLeft,
}

impl Failure {
    /// The documented exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::ReaderLeft => 0,
            Failure::Refused(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Unreachable(_) => 3,
            Failure::Unknown(_) => 4,
        })
    }

    /// A failure of this machine: what was tried, on what, and why it failed.
    pub(crate) fn io(tried: &str, what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Failure::Refused(format!("cannot {tried} {what}: {error}"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.code {
            Code::Timeout => Failure::Unknown(error.message),
            Code::InvalidConfig => Failure::Usage(error.message),
            _ => Failure::Refused(error.message),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error.code() {
            Code::Unavailable => Failure::Unreachable(error.to_string()),
            Code::Timeout => Failure::Unknown(error.to_string()),
            Code::InvalidConfig => Failure::Usage(error.to_string()),
            _ => Failure::Refused(error.to_string()),
        }
    }
}

/// Writing to standard output: a closed pipe ends the command quietly, as with any Unix tool.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::ReaderLeft,
            _ => Failure::Refused(format!("cannot write the output: {error}")),
        }
    }
}
