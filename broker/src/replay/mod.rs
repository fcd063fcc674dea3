//! Replay: what is applied leaves the log for replay segments, and the log is let go.
//!
//! - [`policy`] says what is due, a pure function of a few numbers; [`Roller`] does it, one thing at a time, in the
//!   background;
//! - [`errands`] are what others ask of it: to erase records, and to leave nothing of them in the log;
//! - [`build`] makes the segments of a range of the log, the same on every replica; [`RecStore`] knows which files are
//!   here; [`repack`] picks packed segments that are mostly dead; [`pull`] gets what a replica cannot make from others,
//!   [`PeerSegments`].
//!
//! The order in which a range of the log goes away: its segments are durable, `Roll` is applied, a state at or above it is
//! durable, Raft's marker moves, the group lets go of the entries, the lane of the files that no group needs. A kill
//! between any two of these leaves the log in place, and at most files that no manifest names.
//!
//! Invariants kept here: L4 (no entry of the log goes before its segments are here and verified), S2 (a segment counts only
//! once its Roll applied), A1 (a segment is the same on every replica).

mod build;
mod errands;
mod expected;
mod member;
mod options;
mod peers;
mod policy;
mod pull;
mod repack;
mod roller;
mod steps;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use build::{Range, build, make, repack};
#[cfg(test)]
pub(crate) use expected::is_of_the_device;
pub(crate) use member::Member;
pub use options::ReplayOptions;
#[cfg(test)]
pub(crate) use peers::NoSegments;
pub(crate) use peers::{PeerSegments, SegmentSources};
#[cfg(test)]
pub(crate) use repack::{Repacking, choose};
pub(crate) use roller::{Roller, RollerOptions};
#[cfg(test)]
pub(crate) use steps::first_needed;
pub(crate) use store::RecStore;
