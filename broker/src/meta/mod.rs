//! The metadata group: which topics there are, where their partitions live, and which producer ids are taken.
//!
//! [`MetaState`] is the replicated state, pure. [`Meta`] proposes to it. [`Topics`] is what the rest of the node sees: a
//! topic is in it from the moment all its shards host it until its deletion begins.

mod codec;
mod placement;
mod runtime;
mod state;
mod topics;
mod view;

pub(crate) use runtime::{Meta, partitions_by_shard};
pub(crate) use state::MAX_PARTITIONS;
pub(crate) use topics::Topics;
#[expect(unused_imports, reason = "nothing acts on it yet")]
pub(crate) use view::{ClusterView, NodeView, Placement, ReplicaView, Role};
