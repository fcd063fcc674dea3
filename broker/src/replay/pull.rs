//! Segments that came to count and are not here: made again, or fetched from another replica.

use std::sync::Arc;
use std::time::Instant;

use stratalog_proto::{Code, Error};

use super::member::Step;
use super::roller::Worker;
use super::steps::blocking;
use super::{build, peers};
use crate::shard::{PendingRec, Shard};

/// Segments that may fail in one round: perhaps nobody can be reached, and other groups wait.
const MAX_FAILURES: usize = 4;

impl Worker {
    /// Makes the segments that were rolled elsewhere, or before the last crash, oldest first.
    pub(super) async fn make_expected(&mut self, at: usize) {
        let Some(shard) = self.shard(at) else { return };
        while let Some(pending) = shard.recs().next_expected().filter(|_| self.may(Step::Make, at)) {
            let (meta, of_log) = (Arc::clone(&pending.meta), pending.replaces.is_none());
            let done = match self.make(&shard, pending).await {
                Ok(()) => Ok(()),
                // Damaged or gone here, or made of what is: another replica may have it.
                Err(own) if !is_of_the_device(own.code) => {
                    peers::fetch(&*self.peers, shard.recs(), &meta).await.map_err(|fetch| both(own, &fetch))
                }
                Err(own) => Err(own),
            };
            if done.is_ok() {
                self.metrics.rec_written(meta.bytes);
            }
            if done.as_ref().is_err_and(|error| !of_log && !is_of_the_device(error.code)) {
                // The log does not have it: nothing here can make it, and waiting would keep the log for nothing.
                shard.recs().give_up(meta.id);
            }
            self.cares[at].ended(Step::Make, &done);
        }
    }

    async fn make(&self, shard: &Arc<Shard>, pending: PendingRec) -> Result<(), Error> {
        let (store, log) = (Arc::clone(shard.recs()), shard.group().log().clone());
        blocking(move || build::make(&store, &log, pending)).await
    }

    /// Has segments be fetched again whose files were found damaged by whoever read them, where another replica may have them
    /// whole (L5).
    pub(super) async fn look_into_suspects(&self, at: usize) {
        let Some(shard) = self.shard(at).filter(|shard| shard.recs().has_suspects()) else { return };
        if !self.peers.may_have(shard.id()) {
            return;
        }
        let store = Arc::clone(shard.recs());
        let damaged = blocking(move || Ok(store.look_into_suspects())).await.unwrap_or_default();
        for (meta, what) in damaged {
            tracing::error!(shard = %shard.id(), segment = %meta.id, what,
                "L5: a replay segment is damaged; a whole copy is fetched from another replica");
        }
    }

    /// Asks other replicas for segments that nothing here can make. One that nobody gives does not hold up the others.
    pub(super) async fn fetch_missing(&mut self, at: usize) {
        let Some(shard) = self.shard(at).filter(|shard| !shard.recs().is_waiting()) else { return };
        let missing = self.cares[at].missing();
        if !missing.is_empty() && !self.peers.may_have(shard.id()) {
            // Nobody sent this replica a snapshot: what is below the first entry of its log is nowhere in its files.
            let first = shard.group().log().retained().first;
            missing.iter().filter(|meta| meta.through < first).for_each(|meta| shard.recs().lose(meta.id));
        }
        let mut failures = Vec::new();
        for meta in self.cares[at].to_fetch(Instant::now()) {
            if self.is_stopping() || failures.len() >= MAX_FAILURES {
                break;
            }
            let fetched = peers::fetch(&*self.peers, shard.recs(), &meta).await;
            self.cares[at].fetched(meta.id, &fetched);
            match fetched {
                Ok(()) => self.metrics.rec_written(meta.bytes),
                Err(error) => failures.push(error),
            }
        }
        // What failed before, and was left out now, rests on.
        let care = &mut self.cares[at];
        if !failures.is_empty() || care.not_given.is_empty() {
            care.ended(Step::Fetch, &failures.into_iter().next().map_or(Ok(()), Err));
        }
    }
}

/// Whether it is this device that cannot take a segment, wherever it comes from.
pub(crate) fn is_of_the_device(code: Code) -> bool {
    matches!(code, Code::StorageFull | Code::Io)
}

fn both(own: Error, fetch: &Error) -> Error {
    Error::new(own.code, format!("{own}; and no other replica gave it: {fetch}"))
}
