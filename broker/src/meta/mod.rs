//! The metadata group: which topics there are, where their partitions live, and which producer ids are taken.
//!
//! [`MetaState`] is the replicated state, pure. [`Meta`] proposes to it. [`Topics`] is what the rest of the node sees: a
//! topic is in it from the moment it is applied here until its deletion begins. Its shards host it a moment later.
//!
//! The same group knows the cluster: [`ClusterView`] is what nodes act on, `cluster/` how commands change it, and `plan/`
//! decides, as pure functions, which commands those should be.

mod cluster;
mod codec;
mod hosting;
#[cfg(test)]
mod lies;
mod placement;
mod plan;
mod runtime;
mod slots;
mod state;
mod topics;
mod view;

pub(crate) use cluster::{kafka_listener, named, node_message, view_of};
pub(crate) use hosting::{partitions_by_shard, put_topic, remove_topic};
pub(crate) use plan::{
    Change, Handover, asked_before, joining_now, moves_under_way, place_shards, plan_drain, plan_leaders, plan_move,
    plan_rebalance, plan_repair, shards_of,
};
pub(crate) use runtime::{Meta, MetaOptions, check_level};
pub(crate) use slots::spread;
pub(crate) use state::{MAX_PARTITIONS, MetaState};
pub(crate) use topics::Topics;
pub(crate) use view::{ClusterView, NodeView, Placement, ReplicaView, Role};
