//! A shard: one Raft group that hosts many partitions of many topics.
//!
//! [`ShardState`] is the replicated state, pure; [`Shard`] is its runtime: proposing through the batcher, applying
//! what Raft commits, and reading batches back from the log.

mod admission;
mod batcher;
mod checks;
mod epochs;
mod machine;
mod order;
mod partition;
mod producers;
mod queue;
mod read;
mod runtime;
mod state;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod waiters;

pub(crate) use admission::Admission;
pub(crate) use batcher::Batcher;
#[cfg(test)]
pub(crate) use machine::ShardMachine;
pub(crate) use order::Order;
pub(crate) use partition::{BatchSlot, PartitionState};
pub use producers::ProducerInfo;
pub(crate) use read::{
    Applied, AppliedBatch, MAX_BATCH_CONTENT_BYTES, MAX_MOVES, Source, Unreadable, Wanted, leader_epoch,
};
pub(crate) use runtime::{Shard, ShardOptions};
pub(crate) use state::{
    CommittedOffset, Erasure, Group, GroupTable, MAX_GROUP_ID_BYTES, MAX_INSTANCE_BYTES, MAX_MEMBERS,
    MAX_MEMBERSHIP_BYTES, MAX_NAME_BYTES, MAX_OFFSET_METADATA_BYTES, MAX_PREDICATE_BYTES, MAX_PROTOCOLS, Member,
    Membership, Passed, PendingRec, Phase, ShardState, TopicState,
};
pub(crate) use waiters::Waiter;
