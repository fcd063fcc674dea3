//! Consensus: the only room that names openraft.
//!
//! - [`GroupLog`]: one group's log over the lane that all groups share. An entry is readable as soon as it is appended
//!   and is acknowledged only after its flush (L1).
//! - [`Promises`]: the room in the lane that is spoken for, so that no group overruns it on a full disk.
//! - [`Machine`]: what committed entries are applied to.
//! - [`Group`]: the running group: propose, lead, stop.
//!
//! Settings that lose data if they are changed: leader restore is off (a leader that lost its unflushed tail must not
//! go on in the same term), no snapshot is ever built by openraft's own policy, and nothing that is applied is kept
//! durable ahead of the log.

mod codec;
mod group;
mod index;
mod log;
mod machine;
mod network;
mod promise;
mod reader;
mod storage;
#[cfg(test)]
mod tests;
mod types;

/// The log target of the consensus library, which tells each step of an election as information.
pub const LOG_TARGET: &str = "openraft";

pub(crate) use group::{Group, Submitted};
pub(crate) use log::GroupLog;
pub(crate) use machine::Machine;
pub(crate) use promise::{Promise, Promises};
