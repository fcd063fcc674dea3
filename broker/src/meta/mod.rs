//! The metadata group: which topics there are, where their partitions live, and which producer ids are taken.
//!
//! [`MetaState`] is the replicated state, pure. [`Meta`] proposes to it. [`Topics`] is what the rest of the node sees: a
//! topic is in it from the moment all its shards host it until its deletion begins.

mod codec;
mod placement;
mod runtime;
mod state;
mod topics;

pub(crate) use runtime::{Meta, partitions_by_shard};
pub(crate) use state::MAX_PARTITIONS;
pub(crate) use topics::Topics;
