//! The broker: shards and the metadata group behind Raft, produce and fetch, and the rows that are made from the log.
//!
//! [`Broker`] is the whole of it for a listener: every protocol produces, fetches and queries through it. Inside,
//! `raft/` is the only room that names the consensus library; `meta/` and `shard/` hold the replicated state as pure
//! cores (`apply` is a function of state and entry, A1) with a thin runtime around each; `replay/` moves what is applied
//! from the log into replay segments and lets go of the log; `rows/` turns applied batches into rows, the tail and column
//! segments.
//!
//! Invariants kept here: L1 (an acknowledgement means fsynced), L2 (dense offsets, never reused), L3 (no read above the
//! high watermark), L4 (the log goes only when its replay segments are here), A1 (apply is pure), S2 (a Seal applies only on what it was built on).

mod backup;
mod broker;
mod cluster;
mod connections;
mod erase;
mod events;
mod fatal;
mod fetch;
pub mod groups;
mod identity;
mod idle;
mod joint;
mod lines;
mod meta;
#[cfg(test)]
mod metered_disk;
mod metrics;
mod multiline;
mod offsets;
mod options;
mod outcome;
mod pace;
mod pipeline;
mod pull;
mod raft;
mod replay;
mod restore;
mod rows;
mod scrub;
mod shard;
mod shards;
#[cfg(test)]
mod simulation;
mod trouble;
mod verify;

/// Tells tests what a decoder holds.
#[cfg(test)]
#[global_allocator]
static METER: stratalog_mutation::Meter = stratalog_mutation::Meter;

pub use backup::{CopyAnswers, CopyAsks};
pub use broker::{Broker, Dropped, KafkaNode, Layout, Nearer, Produced};
pub use cluster::{
    ClusterOptions, ClusterStatus, Forming, Move, NodeState, NodeStatus, ReplicaRole, ReplicaStatus, ShardStatus,
};
pub use connections::{Connection, Connections};
pub use erase::{ErasureInfo, ErasurePhase, ErasureState};
pub use events::Events;
pub use fetch::{FetchRequest, FetchedBatches, FetchedPartition, ReadFrom};
pub use identity::{DirLock, lock_to_inspect};
pub use lines::{RecordLines, joined_limit};
pub use multiline::Multiline;
pub use offsets::{OffsetAt, OffsetFound};
pub use options::BrokerOptions;
pub use pipeline::Pipeline;
pub use raft::{CALL_LOG_TARGETS as CONSENSUS_CALL_LOG_TARGETS, LOG_TARGET as CONSENSUS_LOG_TARGET};
pub use replay::ReplayOptions;
pub use restore::{RestoreOptions, Restored, Restoring, RestoringShard, SegmentSink, WantedSegment};
pub use rows::{Merged, Retried, RowsOptions, TopicRows};
pub use scrub::ScrubOptions;
pub use shard::ProducerInfo;
pub use stratalog_storage::{SegmentKind, SegmentMeta};
pub use verify::{Damage, VerifiedPartition};
