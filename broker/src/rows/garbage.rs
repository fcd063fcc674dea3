//! Segment files that no manifest names: left by a crash, or by a seal or a merge of which nobody knows what became.
//!
//! Such a file may yet be named by a command that is under way. So the leader removes it only behind a Barrier that was
//! proposed after it was found: whatever was proposed before has been applied by then, or never will be. Another replica
//! does not know what its leader is about to propose, and keeps the files that it was asked to hold, until the leader says
//! that they will not be named, or an entry of a later term is applied: what leaders of earlier ones proposed lies before
//! it, or will never be applied. For that, each leader begins with a Barrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Term, internal};
use tokio_util::sync::CancellationToken;

use super::replica::Replica;
use super::shard_rows::ShardRows;
use crate::idle::tick;

/// How often it is looked whether there is something to collect.
const TICK: Duration = Duration::from_secs(1);
/// How long to wait at the most after it failed.
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

/// Collects the garbage of a shard that this replica leads: when it begins to, and when some is suspected.
pub(super) async fn run(shard: Arc<ShardRows>, stop: CancellationToken) {
    shard.garbage.suspect();
    let (mut pause, mut announced) = (Duration::ZERO, !shard.copies.may_have(shard.log.id()));
    loop {
        tokio::select! {
            () = tick(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = TICK;
        if !announced {
            announced = shard.log.propose(barrier()).await.is_ok();
        }
        if !shard.garbage.suspected.swap(false, Ordering::Relaxed) {
            continue;
        }
        if let Err(error) = collect(&shard).await {
            tracing::debug!(shard = %shard.log.id(), %error, "files that no manifest names were not collected yet");
            shard.garbage.suspect();
            pause = BACKOFF;
        }
    }
}

/// Collects the garbage of a replica while it does not lead, until it is stopped.
pub(super) async fn tidy(replica: Arc<Replica>) {
    let mut applied = Term(0);
    loop {
        tokio::select! {
            () = tick(TICK) => {}
            () = replica.stop.cancelled() => return,
        }
        let now = replica.log.applied_term();
        let is_news = now > applied || replica.garbage.suspected.load(Ordering::Relaxed);
        if replica.led().is_some() || !is_news {
            continue;
        }
        match collect_abandoned(&replica, now).await {
            Ok(()) => applied = now,
            Err(error) => tracing::debug!(shard = %replica.log.id(), %error, "a look for garbage failed"),
        }
    }
}

/// Removes the files that no manifest names, and that no leader up to the term `applied` is about to name.
///
/// # Errors
/// [`Code::Io`] if the directory cannot be listed.
async fn collect_abandoned(replica: &Arc<Replica>, applied: Term) -> Result<(), Error> {
    let (files, log) = (replica.files.clone(), replica.log.clone());
    replica.garbage.suspected.store(false, Ordering::Relaxed);
    let removed = blocking(move || {
        let abandoned = files.abandoned(files.unnamed(|| log.manifest())?, applied, log.current_term());
        // Named since the list was made: the file of a command that has just been applied.
        let still = files.unnamed(|| log.manifest())?;
        Ok(files.remove(abandoned.intersection(&still)))
    });
    let removed = removed.await.inspect_err(|_| replica.garbage.suspect())?;
    if removed > 0 {
        tracing::info!(shard = %replica.log.id(), removed, "removed segment files that no manifest names");
    }
    Ok(())
}

fn barrier() -> Command {
    Command::Barrier(internal::Barrier {})
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
    shard.log.propose(barrier()).await?;
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
