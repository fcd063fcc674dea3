//! `stratalog log` and `stratalog verify`: what is in a data directory, without a node.

mod dump;
mod verify;

use std::path::Path;
use std::sync::Arc;

use stratalog_storage::inspect::accept_ends;
use stratalog_storage::{Io, RealDisk};

use crate::cli::{Global, Log, LogDump, Serve, Verify};
use crate::config::load;
use crate::failure::Failure;
use crate::output::say;

pub(super) fn run(global: &Global, command: &Log) -> Result<(), Failure> {
    match command {
        Log::Dump(command) => dump_of(global, command),
        Log::Verify { data, deep } => verify_of(global, data, *deep),
        // Whether it is forced, the arguments have seen to.
        Log::AcceptEnd { data, force: _ } => accept_end_of(data),
    }
}

/// Checks the directory that a node with the same settings would use.
pub(super) fn verify_node(global: &Global, command: &Verify) -> Result<(), Failure> {
    let Verify { config, data, deep } = command;
    let settings = load(&Serve { config: config.clone(), data: data.clone(), ..Serve::default() })?;
    verify_of(global, &settings.data_dir, *deep)
}

fn dump_of(global: &Global, command: &LogDump) -> Result<(), Failure> {
    // Until the end: no node must start meanwhile.
    let _lock = stratalog_broker::lock_to_inspect(&command.data)?;
    dump::run(global.format(), command)
}

fn verify_of(global: &Global, data: &Path, deep: bool) -> Result<(), Failure> {
    let _lock = stratalog_broker::lock_to_inspect(data)?;
    verify::run(global.format(), data, deep)
}

fn accept_end_of(data: &Path) -> Result<(), Failure> {
    let _lock = stratalog_broker::lock_to_inspect(data)?;
    let disk: Arc<dyn Io> = Arc::new(RealDisk);
    match accept_ends(&disk, data).map_err(|error| Failure::io("accept the log of", data.display(), &error))? {
        0 => say!("the log in {} is not in doubt: nothing was changed", data.display()),
        _ => say!("the log in {} counts as complete from now on: start the node, and it votes", data.display()),
    }
}

/// A path of a file as it lies in the data directory.
fn within(data: &Path, path: &Path) -> String {
    path.strip_prefix(data).unwrap_or(path).display().to_string()
}
