//! Measures the log: what is acknowledged, replayed and recovered a second, each beside a plain baseline of the same run.
//!
//! [`Node`] is a node in a process of its own, [`Noise`] makes records that do not compress, `raw` holds the baselines,
//! and [`Report`] prints what was measured: a JSON line for each figure on standard output, a table on standard error.
//! `docs/BENCHMARKS.md` says how each figure is taken, and what it was.

mod failure;
mod load;
mod node;
pub mod raw;
mod report;

pub use failure::Failure;
pub use load::{Noise, RECORD_BYTES, percentile};
pub use node::Node;
pub use report::{Goal, Report};

/// Processor time of this process so far, in user and in system mode.
///
/// # Errors
/// There is no `/proc`.
pub fn own_cpu() -> Result<std::time::Duration, Failure> {
    node::cpu_of(std::process::id())
}

/// Megabytes (10⁶ bytes) a second.
pub fn mb_per_s(bytes: u64, took: std::time::Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}
