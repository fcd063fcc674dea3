//! S1 on a simulated disk: one seed decides what is produced, sealed, merged, dropped and deleted, what fails, and when the
//! process dies or the power goes.
//!
//! [`Run`] has the real rows of one shard over a log in memory, which keeps its entries whatever happens, as a log of many
//! voters does; segments are files on a [`SimDisk`](stratalog_storage::simulation::SimDisk). After each step that ended
//! well every record that has to be there is there exactly once with its value, and every offset is a row or counted as what
//! became of it. After a restart no file is left that the manifest does not name.
//!
//! A failure prints its seed and the steps that led there: `ROWS_SIMULATION_SEED=7` runs that one, `ROWS_SIMULATION_SEEDS`
//! says how many are run.

mod check;
mod model;
mod run;
mod step;
mod tests;

use model::Model;
use run::Run;
use step::Step;

/// Runs a seed to its end; what happened.
///
/// # Errors
/// What did not hold, with the seed and the steps that led there.
fn simulate(seed: u64) -> Result<Vec<String>, String> {
    // Blocking work has one thread, so that calls of the disk come in one order.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let mut run = Run::new(seed);
    let went = std::panic::AssertUnwindSafe(|| runtime.block_on(run.go()));
    let Err(panic) = std::panic::catch_unwind(went) else { return Ok(run.steps) };
    let why = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    let steps = run.steps.join("\n  ");
    Err(format!("seed {seed}: {}\nafter these steps:\n  {steps}", why.unwrap_or("a panic without words")))
}
