//! Clusters of real processes, and faults: after each of them every acknowledged record is on every replica at its offset, byte
//! for byte, files of segments are the same everywhere, and SQL and search agree with the log.
//!
//! `cargo test` runs each fault once or twice. More of it, with E2E_FAULTS rounds of each:
//! `E2E_FAULTS=20 cargo test --release --test e2e cluster:: -- --test-threads 1`. Faults of the network need root, and are
//! skipped, with a message, where network namespaces are not to be had.

mod agreement;
mod aimed;
mod backups;
mod changes;
mod disks;
mod doubt;
mod failure;
mod kills;
mod ledger;
mod listeners;
mod local;
mod machine;
mod network;
mod nodes;
mod partitions;
mod pauses;
mod segments;
mod stale;
mod strangers;
mod trial;
mod upgrade;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rounds of a fault.
fn rounds(short: u64) -> u64 {
    std::env::var("E2E_FAULTS").map_or(short, |rounds| rounds.parse().expect("E2E_FAULTS is a number"))
}

/// One cluster at a time: several would only take the processors from each other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that the next one would see.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
