//! Consensus: the only room that names openraft.
//!
//! - [`GroupLog`]: one group's log over the lane that all groups share. An entry is readable as soon as it is appended
//!   and is acknowledged only after its flush (L1). [`Logs`]: those of a node.
//! - [`Promise`]: room in the lane that is spoken for, so that no group overruns it on a full disk.
//! - [`Machine`]: what committed entries are applied to.
//! - [`Group`]: the running group: propose, lead, hand over, change its [`Members`], save the state, stop. [`RoleNow`] is
//!   what others follow: who leads, and in which term.
//! - [`Peers`]: how it reaches the other replicas.
//!
//! Settings that lose data if they are changed: leader restore is off (a leader that lost its unflushed tail must not
//! go on in the same term), no snapshot is ever built by openraft's own policy, and no state is durable ahead of the log.
//!
//! Letting go of the log is ours (L4). What openraft calls a purge moves a mark in memory, up to which it does not read.
//! What counts is on disk: the newest state file has a frontier, a start reads the log above it, and only
//! [`GroupLog::release`], which follows the file, lets the lane have what is below.

mod answer;
mod codec;
mod copy;
mod doubt;
mod doubts;
mod follow;
mod group;
mod group_state;
mod heard;
mod index;
mod install;
mod lead;
mod log;
mod log_cache;
mod logs;
mod machine;
mod measure;
mod members;
mod network;
mod peers;
mod promise;
mod read_index;
mod reader;
mod receive_state;
mod recover;
mod repair;
mod restore;
mod role;
mod runtime;
mod send_state;
mod sending;
mod snapshots;
#[cfg(test)]
mod solo;
mod staged;
mod stalled;
mod stand;
mod state_machine;
mod storage;
#[cfg(test)]
mod tests;
mod timing;
mod transfer;
mod types;
mod uncommitted;
mod wire;

/// The log target of the consensus library, which tells each step of an election as information.
pub const LOG_TARGET: &str = "openraft";
/// Where it tells of calls that failed. Whoever made them hears of it as well, and a group that is stopped fails all that are
/// under way.
pub const CALL_LOG_TARGETS: [&str; 2] = ["openraft::raft", "openraft::core::heartbeat"];

pub(crate) use copy::{GroupCopy, LogCopy};
pub(crate) use group::{Group, Submitted};
pub(crate) use log::GroupLog;
pub(crate) use logs::{Logs, LogsOptions};
pub(crate) use machine::{Captured, Machine};
pub(crate) use members::Members;
#[cfg(test)]
pub(crate) use peers::NoPeers;
pub(crate) use peers::{Message, NoAnswer, Peers, Route};
pub(crate) use promise::{NoPromise, Promise};
pub(crate) use recover::{Known, check_readable};
pub(crate) use repair::Repair;
pub(crate) use restore::{IncomingEntries, RestoredGroup};
pub(crate) use role::{Reign, RoleNow};
#[cfg(test)]
pub(crate) use solo::Solo;
pub(crate) use stalled::leave_stalled;
pub(crate) use types::EntryBytes;
