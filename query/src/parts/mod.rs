//! Queries over rows that several nodes have.
//!
//! A shard's rows are whole only at the node that leads it. The node that is asked opens a [`Part`] at each other node, a
//! snapshot that is kept there (Q1), plans over all rows as if they were here, and sends each part the operators that can
//! run there ([`split`]). What comes back is Arrow; a part that is lost before the first row of the answer was delivered
//! has the whole query run again, and is an error after it. An answer is never short.

mod ask;
mod codec;
mod exec;
#[cfg(test)]
pub(crate) mod fuzzing;
mod gather;
mod ipc;
mod part;
mod scan;
mod serve;
mod split;
mod workers;

pub(crate) use ask::{kill, system_rows};
pub(crate) use gather::{TopicRows, gather, is_loss};
pub(crate) use part::Part;
pub(crate) use serve::{OpenParts, open, run};
pub(crate) use split::SplitByNode;
pub use workers::{Alone, PartBytes, Workers};
