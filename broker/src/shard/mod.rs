//! A shard: one Raft group that hosts many partitions of many topics.
//!
//! [`ShardState`] is the replicated state, pure; [`Shard`] is its runtime: proposing through the batcher, applying
//! what Raft commits, and reading batches back from the log.

mod admission;
mod batcher;
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

pub(crate) use admission::Admission;
pub(crate) use batcher::Batcher;
pub(crate) use partition::BatchSlot;
pub(crate) use read::{Applied, AppliedBatch, MAX_BATCH_CONTENT_BYTES};
pub(crate) use runtime::{Shard, ShardOptions};
pub(crate) use state::ShardState;
