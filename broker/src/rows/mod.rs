//! Rows: what the log means. Derived state, all of it: it can be rebuilt from the log at any time.
//!
//! - `parse/` makes rows of record batches (pure), `unify` brings row batches of different schemas together;
//! - what follows is the work of the replica that [leads](lead) a shard, for as long as it does;
//! - the [`materializer`] pulls applied batches of a shard and publishes their rows in its [`tail`]; a topic with a batch
//!   that cannot be read is [`held`] back alone;
//! - `seal/` moves the tail of a topic into column segments, `merge/` puts fewer in their place or changes rows in them,
//!   [`garbage`] removes files that no manifest names, [`retention`] decides which of those go, [`files`] keeps
//!   their handles and removes what no manifest names;
//! - every [`replica`] has all column segments: the leader has a majority hold what it builds before that is proposed
//!   ([`copies`]), and who misses one [pulls](pull) it;
//! - [`Rows`] runs all of it, answers to queries as their catalogue, and throttles produce when rows fall behind.
//!
//! Invariants kept here: S1 (every data record is a row exactly once, or counted as rowless;
//! [`coverage::Coverage`] accounts for it), S2 (a seal's files count only once its command applied), S3 (a segment lies
//! in one bucket, or says that it is mixed), Q1 (a snapshot is one prefix of every partition, and includes its tokens),
//! X1 (no value stops a shard).

mod admission;
mod catalog;
mod copies;
mod coverage;
mod cut;
mod dead_letters;
mod erase;
mod extent;
mod figures;
mod files;
mod garbage;
mod held;
mod holding;
mod lead;
mod log;
mod materializer;
mod merge;
mod options;
mod parallel;
mod parse;
mod pull;
mod rebuild;
mod remake;
mod replica;
mod retention;
mod runtime;
mod scrub;
mod seal;
mod shard_rows;
mod stats;
mod tail;
mod unify;
mod usage;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use catalog::Directory;
pub(crate) use copies::SegmentCopies;
pub use dead_letters::Retried;
pub(crate) use erase::{Position, column_specs, rows_of_batches, rows_of_segment};
pub(crate) use figures::TailFigures;
pub use figures::TopicRows;
pub use merge::Merged;
pub use options::RowsOptions;
pub(crate) use parse::{check_pattern, declared_schema};
pub(crate) use retention::{Gone, clock_ns};
pub(crate) use runtime::Rows;
pub(crate) use stats::RowsStats;
