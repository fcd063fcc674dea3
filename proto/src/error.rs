//! The one table of error codes, and the error that carries them across rooms and protocols.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $retriable:literal;)*) => {
        /// Why an operation did not succeed. A number, once used, is never given another meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Code { $($(#[$doc])* $name = $number,)* }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The stable name, as scripts see it.
            pub fn name(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// Whether the same request may succeed when it is sent again unchanged.
            pub fn is_retriable(self) -> bool {
                match self { $(Code::$name => $retriable,)* }
            }

            /// The code of a number on the wire; `None` for one that this version does not know.
            pub fn from_number(number: u32) -> Option<Code> {
                match number { $($number => Some(Code::$name),)* _ => None }
            }

            /// The code of a stable name.
            pub fn from_name(name: &str) -> Option<Code> {
                match name { $($text => Some(Code::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// A defect of ours; the message names where.
    Internal = 1, "INTERNAL", false;
    /// The request is not well formed.
    InvalidRequest = 2, "INVALID_REQUEST", false;
    /// No topic of this name.
    UnknownTopic = 3, "UNKNOWN_TOPIC", false;
    /// The topic is already there.
    TopicExists = 4, "TOPIC_EXISTS", false;
    /// Not a legal topic name.
    InvalidTopicName = 5, "INVALID_TOPIC_NAME", false;
    /// The topic has no such partition.
    UnknownPartition = 6, "UNKNOWN_PARTITION", false;
    /// Below log start or above the high watermark.
    OffsetOutOfRange = 7, "OFFSET_OUT_OF_RANGE", false;
    /// A record batch that fails its checksum or contradicts itself.
    CorruptBatch = 8, "CORRUPT_BATCH", false;
    /// Over the topic's `max.message.bytes`.
    MessageTooLarge = 9, "MESSAGE_TOO_LARGE", false;
    /// A sequence number that skips ahead.
    OutOfOrderSequence = 10, "OUT_OF_ORDER_SEQUENCE", false;
    /// A newer epoch of this producer is active.
    ProducerFenced = 11, "PRODUCER_FENCED", false;
    /// Too many active producers; try later.
    ProducerLimit = 12, "PRODUCER_LIMIT", true;
    /// This node does not lead the shard.
    NotLeader = 13, "NOT_LEADER", true;
    /// Back-pressure: buffers are full; try again.
    Overloaded = 14, "OVERLOADED", true;
    /// No answer in time: the outcome is unknown.
    Timeout = 15, "TIMEOUT", true;
    /// The node is starting or stopping.
    Unavailable = 16, "UNAVAILABLE", true;
    /// SQL that does not parse, resolve or type-check.
    InvalidSql = 17, "INVALID_SQL", false;
    /// A search query that does not parse.
    InvalidSearch = 18, "INVALID_SEARCH", false;
    /// A query went over its memory budget.
    QueryBudget = 19, "QUERY_BUDGET_EXCEEDED", false;
    /// A query went over its deadline.
    QueryDeadline = 20, "QUERY_DEADLINE_EXCEEDED", false;
    /// Cancelled by its caller.
    Cancelled = 21, "CANCELLED", false;
    /// Advertised for a later release.
    NotBuilt = 22, "NOT_BUILT", false;
    /// Committed bytes on disk fail their checksum (L5).
    CorruptData = 23, "CORRUPT_DATA", false;
    /// No room on the device; try again when there is.
    StorageFull = 24, "STORAGE_FULL", true;
    /// A configuration value that is unknown or out of bounds.
    InvalidConfig = 25, "INVALID_CONFIG", false;
    /// An IO error of the device.
    Io = 26, "IO_ERROR", false;
    /// What a command was built on has changed (S2).
    Conflict = 27, "CONFLICT", true;
    /// A command or file of a newer version than this node knows.
    NewerVersion = 28, "NEWER_VERSION", false;
    /// The node belongs to no cluster yet.
    NotFormed = 29, "NOT_FORMED", true;
    /// A node, or the data of one, of another cluster.
    WrongCluster = 30, "WRONG_CLUSTER", false;
    /// A peer without the cluster's secret, or one that is not who it says.
    Unauthenticated = 31, "UNAUTHENTICATED", false;
    /// No node of this id is in the cluster.
    UnknownNode = 32, "UNKNOWN_NODE", false;
    /// It would take a quorum or the last copy of something away.
    QuorumAtRisk = 33, "QUORUM_AT_RISK", false;
    /// The consumer group does not have this member.
    UnknownMember = 34, "UNKNOWN_MEMBER", false;
    /// The consumer group is in another generation.
    IllegalGeneration = 35, "ILLEGAL_GENERATION", false;
    /// The members of the consumer group join it anew.
    RebalanceInProgress = 36, "REBALANCE_IN_PROGRESS", true;
    /// Another process has joined the consumer group with this instance id.
    FencedInstance = 37, "FENCED_INSTANCE", false;
    /// The consumer group has members.
    GroupNotEmpty = 38, "GROUP_NOT_EMPTY", false;
    /// No consumer group of this id.
    UnknownGroup = 39, "UNKNOWN_GROUP", false;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error at the edge of a room: a code for programs, and a sentence that says what was tried, on what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Error {
    /// An error of this code with this sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The gRPC metadata key that carries [`Code::name`].
pub const CODE_METADATA_KEY: &str = "stratalog-code";

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        use tonic::Code as Grpc;
        let grpc = match error.code {
            Code::InvalidRequest
            | Code::InvalidTopicName
            | Code::CorruptBatch
            | Code::MessageTooLarge
            | Code::InvalidSql
            | Code::InvalidSearch
            | Code::InvalidConfig => Grpc::InvalidArgument,
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownNode
            | Code::UnknownMember
            | Code::UnknownGroup => Grpc::NotFound,
            Code::TopicExists => Grpc::AlreadyExists,
            Code::OffsetOutOfRange => Grpc::OutOfRange,
            Code::OutOfOrderSequence
            | Code::ProducerFenced
            | Code::WrongCluster
            | Code::QuorumAtRisk
            | Code::IllegalGeneration
            | Code::FencedInstance
            | Code::GroupNotEmpty => Grpc::FailedPrecondition,
            Code::Unauthenticated => Grpc::Unauthenticated,
            Code::ProducerLimit | Code::Overloaded | Code::QueryBudget | Code::StorageFull => Grpc::ResourceExhausted,
            Code::NotLeader | Code::Unavailable | Code::NotFormed => Grpc::Unavailable,
            Code::Timeout | Code::QueryDeadline => Grpc::DeadlineExceeded,
            Code::Cancelled => Grpc::Cancelled,
            Code::NotBuilt => Grpc::Unimplemented,
            Code::CorruptData => Grpc::DataLoss,
            Code::Conflict | Code::RebalanceInProgress => Grpc::Aborted,
            Code::Internal | Code::Io | Code::NewerVersion => Grpc::Internal,
        };
        let mut status = tonic::Status::new(grpc, error.message);
        status.metadata_mut().insert(CODE_METADATA_KEY, tonic::metadata::MetadataValue::from_static(error.code.name()));
        status
    }
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        let named = status.metadata().get(CODE_METADATA_KEY);
        let code = named.and_then(|name| name.to_str().ok()).and_then(Code::from_name).unwrap_or(match status.code() {
            tonic::Code::Unavailable => Code::Unavailable,
            tonic::Code::DeadlineExceeded => Code::Timeout,
            tonic::Code::Cancelled => Code::Cancelled,
            tonic::Code::Unimplemented => Code::NotBuilt,
            tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Code::InvalidRequest,
            _ => Code::Internal,
        });
        Error::new(code, status.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for &code in Code::ALL {
            assert_eq!(Code::from_number(code as u32), Some(code));
            assert_eq!(Code::from_name(code.name()), Some(code));
            let back = Error::from(tonic::Status::from(Error::new(code, "why")));
            assert_eq!(back, Error::new(code, "why"));
        }
    }
}
