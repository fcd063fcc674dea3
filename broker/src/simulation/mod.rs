//! A whole replica on a simulated disk, without threads and without Raft: one seed decides what happens and in which order.
//!
//! [`Run`] has a node of two shards on one lane ([`node::Node`]), clients that produce and retry, and a scheduler that picks the
//! next step: hand an entry to the log, write a flush group, apply an entry, roll, snapshot, let go of the log, seal, drop,
//! read, fail, fill the disk, kill the process, cut the power, damage a file. An entry counts as soon as it is durable, as
//! with one voter. Everything else is what a node runs on: lane, log, apply, building of replay segments, state files,
//! recovery.
//!
//! [`Model`] says what has to be true whatever happens: every acknowledged record at the offset that was acknowledged with
//! the bytes that were sent (L1), offsets dense and each batch of an idempotent producer once (L2), nothing above what is
//! applied (L3), the state after a restart the one that was never interrupted (A1), damage told and never hidden (L5), and
//! no vote taken back.
//!
//! A run is a function of its seed. One that fails prints seed and steps; the seed then goes to the list of kept ones.

mod check;
mod client;
mod commands;
mod damage;
mod model;
mod node;
mod power;
mod run;
mod step;
mod tests;
mod upkeep;

use client::Client;
use model::Model;
use run::Run;
use step::Step;

/// Runs a seed to its end.
///
/// # Errors
/// What did not hold, with the seed and the steps that led there.
fn simulate(seed: u64) -> Result<Run, String> {
    let mut run = Run::new(seed);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.go()));
    let Err(panic) = ended else { return Ok(run) };
    let why = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let steps = run.steps().join("\n  ");
    Err(format!("seed {seed}: {}\nafter these steps:\n  {steps}", why.unwrap_or("a panic without words")))
}
