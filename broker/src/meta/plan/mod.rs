//! Where replicas and leaders are to be. Pure functions of the cluster as it is: what they answer are changes of one shard
//! each, which the metadata group takes only if the shard is still as it was.
//!
//! - [`place_shards`]: nodes for new shards.
//! - [`plan_repair`]: shards with too few replicas get more as nodes join; what does not come to its end is taken back, and
//!   a group that does not begin where it was to begin gets another place.
//! - [`plan_drain`]: replicas leave a node that drains.
//! - [`plan_rebalance`], [`plan_move`]: replicas move, as few as possible; [`moves_under_way`] do already, and one of them
//!   may have been [`asked_before`].
//! - [`joining_now`]: of all that join, those that copy at the same time.
//! - [`plan_leaders`]: one leader at a time goes where fewer are.

mod asked;
mod change;
mod leaders;
mod load;
mod moves;
mod place;
mod repair;
#[cfg(test)]
pub(super) mod testing;

pub(crate) use asked::{asked_before, plan_move};
pub(crate) use change::Change;
pub(crate) use leaders::{Handover, plan_leaders};
pub(crate) use load::joining_now;
pub(crate) use moves::{moves_under_way, plan_rebalance};
pub(crate) use place::{place_shards, shards_of};
pub(crate) use repair::{plan_drain, plan_repair};
