//! The words that every room shares: ids, the Kafka v2 record batch, log entries and commands, the gRPC services and
//! the table of error codes.
//!
//! This crate imports nothing of ours and does no IO. Everything here parses bytes that may come from anywhere, so each
//! length, count and depth is checked before memory is taken for it (X1).

pub mod batch;
pub mod bounded;
pub mod codec;
pub mod config;
pub mod entry;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod ids;
mod level;

/// gRPC services and messages of the public API, generated from `proto/stratalog/v1/stratalog.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("stratalog.v1");
}

/// Cold commands and manifest values, generated from `proto/stratalog/internal/v1/commands.proto`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod internal {
    tonic::include_proto!("stratalog.internal.v1");
}

pub use error::{Code, Error};
pub use ids::{
    JobId, NodeId, Offset, PartitionId, ProducerId, RaftIndex, ReplicaId, RowId, SegmentId, ShardId, TenantId, Term,
    TimeBucket, Token, TopicId, TopicPartition,
};
pub use level::{FEATURE_LEVEL, GROUPS_LEVEL, KAFKA_ADDRESS_LEVEL};
