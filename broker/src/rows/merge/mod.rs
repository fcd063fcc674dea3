//! Merging: column segments take the place of others with the same rows, and a Merge command makes them count.
//!
//! - [`policy`] says which segments are to become one (pure);
//! - [`order`] brings the rows of the inputs into one order and says which of them stay, `schema` gives them one schema,
//!   [`output`] cuts them into segments, [`source`] reads them while they are written: a granule at a time;
//! - [`blame`] says what of the inputs is merged none the less if they do not go together;
//! - [`Merger`] runs it: in the background within a rate, to the end on demand, or for an [`Edit`] of rows.
//!
//! S1: a row of an input is in exactly one output, or counted as trimmed or erased. S2: nothing counts until the command
//! applied, and it applies only while every input is live.

mod blame;
mod build;
mod commit;
mod edit;
mod input;
mod merger;
mod order;
mod output;
mod policy;
mod room;
mod schema;
mod source;
mod troubles;

#[cfg(test)]
mod tests;

pub(super) use build::Built;
pub(super) use commit::{commit, is_unknown};
pub use edit::Merged;
pub(super) use edit::{Edit, Offsets};
pub(super) use merger::{Merger, log_starts};
