//! `stratalog log`: what is in a data directory, without a node.

mod dump;
mod verify;

use std::path::Path;

use crate::cli::{Global, Log};
use crate::failure::Failure;

pub(super) fn run(global: &Global, command: &Log) -> Result<(), Failure> {
    let data = match command {
        Log::Dump(dump) => &dump.data,
        Log::Verify { data, .. } => data,
    };
    // Until the end: no node must start meanwhile.
    let _lock = stratalog_broker::lock_to_inspect(data)?;
    match command {
        Log::Dump(dump) => dump::run(global.format(), dump),
        Log::Verify { data, deep } => verify::run(global.format(), data, *deep),
    }
}

/// A path of a file as it lies in the data directory.
fn within(data: &Path, path: &Path) -> String {
    path.strip_prefix(data).unwrap_or(path).display().to_string()
}
