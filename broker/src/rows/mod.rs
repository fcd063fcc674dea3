//! Rows: what the log means. Derived state, all of it: it can be rebuilt from the log at any time.
//!
//! - `parse/` makes rows of record batches (pure), `unify` brings row batches of different schemas together;
//! - the [`materializer`] pulls applied batches of a shard and publishes their rows in its [`tail`]; a topic with a batch
//!   that cannot be read is [`held`] back alone;
//! - `seal/` moves the tail of a topic into column segments, `merge/` puts fewer in their place or changes rows in them,
//!   [`garbage`] removes files that no manifest names, [`retention`] decides which of those go, [`files`] keeps
//!   their handles and removes what no manifest names;
//! - [`Rows`] runs all of it, answers to queries as their catalogue, and throttles produce when rows fall behind.
//!
//! Invariants kept here: S1 (every data record is a row exactly once, or counted as rowless;
//! [`coverage::Coverage`] accounts for it), S2 (a seal's files count only once its command applied), S3 (a segment lies
//! in one bucket, or says that it is mixed), Q1 (a snapshot is one prefix of every partition, and includes its tokens),
//! X1 (no value stops a shard).

mod admission;
mod catalog;
mod coverage;
mod dead_letters;
mod erase;
mod extent;
mod figures;
mod files;
mod garbage;
mod held;
mod log;
mod materializer;
mod merge;
mod options;
mod parallel;
mod parse;
mod rebuild;
mod retention;
mod runtime;
mod seal;
mod shard_rows;
mod tail;
mod trouble;
mod unify;
mod usage;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use catalog::Directory;
pub use dead_letters::Retried;
pub(crate) use erase::{Position, column_specs, rows_of_batches, rows_of_segment};
pub(crate) use figures::TailFigures;
pub use figures::TopicRows;
pub(crate) use log::RowLog;
pub use merge::Merged;
pub use options::RowsOptions;
pub(crate) use parse::{check_pattern, declared_schema};
pub(crate) use retention::Gone;
pub(crate) use runtime::{Rows, RowsStats};
