//! Backups of a cluster: what is in one, where it is kept, and how it is made.
//!
//! - [`Target`]: a directory or an object store. What is written there has its name only once it is whole.
//! - [`Manifest`]: what a backup is made of. It is written last; without it there is no backup.
//! - [`make`]: copies a [`Cluster`] to a target. Segments that are there by their hash are not sent again.
//! - [`keep_newest`]: removes older backups, and what only they need.
//! - [`Stored`]: a backup that is read back. Nothing of it is believed before its hash was checked (X1, L5). [`check`] reads
//!   all of one.
//!
//! What a restore makes of it is the business of the broker. Bytes of all this: `docs/FORMATS.md`, "Backup".

mod blob;
mod check;
mod cloud;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod manifest;
mod names;
mod pace;
mod prune;
mod run;
mod shard;
mod stored;
mod target;
#[cfg(test)]
mod tests;
mod upload;

pub use blob::{Blob, Hash};
pub use check::{Checked, Fault, Finding, check};
pub use manifest::{Manifest, Part, Point, Segment};
pub use prune::{Removed, keep_newest};
pub use run::{Cluster, Copy, Made, Options, make};
pub use stored::{Pieces, Stored, stored_backups};
pub use target::Target;
