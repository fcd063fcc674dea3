//! How calls fail.

use stratalog_proto::error::CODE_METADATA_KEY;
use stratalog_proto::{Code, Error};

/// A call that failed: a code of the table for programs, a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClientError(Error);

impl ClientError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Error::new(code, message))
    }

    /// For programs. [`Code::Unavailable`]: no node was reached, or the connection was lost.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The same with what was being tried in front.
    pub(crate) fn context(self, tried: &str) -> Self {
        Self::new(self.code(), format!("{tried}: {}", self.message()))
    }
}

impl From<Error> for ClientError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        error.0
    }
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code as Grpc;
        let ours = status.metadata().contains_key(CODE_METADATA_KEY);
        let broken = [Grpc::Unavailable, Grpc::Unknown, Grpc::Internal, Grpc::Cancelled].contains(&status.code());
        if ours || !broken {
            return Self(status.into());
        }
        // Whatever does not carry our code and looks like this was said by the transport, not by a node.
        let cause = root_cause(&status).unwrap_or_else(|| status.message().to_owned());
        Self::new(Code::Unavailable, format!("the connection was lost: {cause}"))
    }
}

/// Whether the call certainly changed nothing: the node was not reached, or says that it is the wrong one.
pub(crate) fn is_certainly_not_done(status: &tonic::Status) -> bool {
    let named = status.metadata().get(CODE_METADATA_KEY).and_then(|name| Code::from_name(name.to_str().ok()?));
    let mut causes = std::iter::successors(std::error::Error::source(status), |cause| (*cause).source());
    named.map_or_else(
        || causes.any(|cause| cause.is::<tonic::ConnectError>()),
        |code| matches!(code, Code::NotLeader | Code::NotFormed),
    )
}

/// The innermost cause: transports wrap "connection refused" into sentences that say nothing.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let causes = std::iter::successors(error.source(), |cause: &&dyn std::error::Error| (*cause).source());
    causes.last().map(ToString::to_string)
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The record is not in the log, and never will be.
    #[error("{message}")]
    Failed {
        /// For programs.
        code: Code,
        /// For people.
        message: String,
    },
    /// The record may be in the log: no answer came, or none that settles it.
    #[error("{message}")]
    Unknown {
        /// For people.
        message: String,
    },
}

impl SendError {
    pub(crate) fn failed(code: Code, message: impl Into<String>) -> Self {
        Self::Failed { code, message: message.into() }
    }

    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Self::Unknown { message: message.into() }
    }

    /// For programs; [`Code::Timeout`] stands for an unknown outcome.
    pub fn code(&self) -> Code {
        match self {
            Self::Failed { code, .. } => *code,
            Self::Unknown { .. } => Code::Timeout,
        }
    }
}
