//! The `stratalog` binary: configuration, wiring and the command line. Only this crate reads config files, the
//! environment and signals.

mod cli;
mod commands;
mod config;
mod descriptors;
mod dev;
mod events;
mod failure;
mod local;
mod memory;
mod output;
mod priority;
mod progress;
mod quickstart;
mod reach;
#[cfg(feature = "sabotage")]
mod sabotage;
mod serve;
mod times;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

/// How long the end of the process waits for threads that are at work.
const LAST_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    memory::bound_arenas();
    #[cfg(feature = "sabotage")]
    if let Err(failure) = sabotage::plant_what_is_asked_for() {
        return fail(&failure);
    }
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&failure::Failure::io("start", "the runtime's threads", &error)),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // What a stop has left behind is not waited for here either.
    runtime.shutdown_timeout(LAST_WAIT);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &failure::Failure) -> ExitCode {
    if !matches!(failure, failure::Failure::ReaderLeft) {
        eprintln!("error: {failure}");
    }
    failure.exit_code()
}
