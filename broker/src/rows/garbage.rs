//! Segment files that no manifest names: left by a crash, or by a seal or a merge of which nobody knows what became.
//!
//! Such a file may yet be named by a command that is under way. So it is removed only behind a Barrier that was proposed
//! after it was found: whatever was proposed before has been applied by then, or never will be.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, internal};
use tokio_util::sync::CancellationToken;

use super::shard_rows::ShardRows;

/// How often it is looked whether there is something to collect.
const TICK: Duration = Duration::from_secs(1);
/// How long to wait after it failed.
const BACKOFF: Duration = Duration::from_secs(30);

/// Whether a shard may have files that no manifest names.
#[derive(Debug)]
pub(super) struct Garbage {
    suspected: AtomicBool,
}

impl Garbage {
    /// A start may find anything.
    pub(super) fn new() -> Self {
        Self { suspected: AtomicBool::new(true) }
    }

    /// Files were written of which nobody knows whether they count.
    pub(super) fn suspect(&self) {
        self.suspected.store(true, Ordering::Relaxed);
    }
}

/// Collects the garbage of a shard after a start, when this replica begins to lead, and when some is suspected.
pub(super) async fn run(shard: Arc<ShardRows>, stop: CancellationToken) {
    let (mut led, mut pause) = (false, Duration::ZERO);
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = TICK;
        let leads = shard.log.is_leader();
        if leads && !std::mem::replace(&mut led, leads) {
            shard.garbage.suspect();
        }
        led = leads;
        if !leads || !shard.garbage.suspected.swap(false, Ordering::Relaxed) {
            continue;
        }
        if let Err(error) = collect(&shard).await {
            tracing::debug!(shard = %shard.log.id(), %error, "files that no manifest names were not collected yet");
            shard.garbage.suspect();
            pause = BACKOFF;
        }
    }
}

/// Removes the files that no manifest names and that nobody reads or is about to name; how many there were.
///
/// # Errors
/// What listing them, or proposing the barrier, reports: they are still there.
pub(super) async fn collect(shard: &Arc<ShardRows>) -> Result<usize, Error> {
    let found = {
        // While none is being written. A merge takes its time, and seals do not wait for it: theirs is the last lock.
        let _merges = shard.merging.lock().await;
        let _seals = shard.sealing.lock().await;
        let (files, log) = (shard.files.clone(), shard.log.clone());
        blocking(move || files.unnamed(|| log.manifest())).await?
    };
    if found.is_empty() {
        return Ok(0);
    }
    shard.log.propose(Command::Barrier(internal::Barrier {})).await?;
    let (files, log) = (shard.files.clone(), shard.log.clone());
    let removed = blocking(move || {
        let still = files.unnamed(|| log.manifest())?;
        Ok(files.remove(found.intersection(&still)))
    });
    let removed = removed.await?;
    tracing::info!(shard = %shard.log.id(), removed, "removed segment files that no manifest names");
    Ok(removed)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("collecting garbage failed: {panic}"))))
}
