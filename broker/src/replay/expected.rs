//! Segments that came to count and are not here: made again, or written off.

use std::sync::Arc;

use stratalog_proto::{Code, Error};
use stratalog_storage::RecMeta;

use super::build;
use super::member::{Step, holds_older};
use super::roller::Worker;
use super::steps::blocking;
use super::store::RecArrival;
use crate::shard::{PendingRec, Shard};

impl Worker {
    /// Makes the segments that were rolled elsewhere, or before the last crash, oldest first. What cannot be made here is
    /// left to whoever asks the other replicas.
    pub(super) async fn make_expected(&mut self, at: usize) {
        let Some(shard) = self.shard(at) else { return };
        while let Some(pending) = shard.recs().next_expected().filter(|_| self.may(Step::Make, at)) {
            let (meta, of_log) = (Arc::clone(&pending.meta), pending.replaces.is_none());
            // Somebody else has it come, or has it here.
            let Some(arrival) = shard.recs().begin(&meta) else { return };
            let made = self.make(&shard, pending, arrival).await;
            match &made {
                Ok(()) => self.metrics.rec_written(meta.bytes),
                // There is no room for one from elsewhere either.
                Err(error) if error.code == Code::StorageFull => {}
                // What it is made of stays: a device that fails to read it may come to itself, or may not.
                Err(error) if of_log || is_of_the_device(error.code) => shard.recs().ask_others(meta.id),
                // The log does not have it: nothing here can make it, and waiting would keep the log for nothing.
                Err(_) => shard.recs().give_up(meta.id),
            }
            self.cares[at].ended(Step::Make, &made);
        }
    }

    async fn make(&self, shard: &Arc<Shard>, pending: PendingRec, arrival: RecArrival) -> Result<(), Error> {
        let (store, log) = (Arc::clone(shard.recs()), shard.group().log().clone());
        blocking(move || {
            let _arrival = arrival;
            build::make(&store, &log, pending)
        })
        .await
    }

    /// Has the log not stay for segments that nothing can bring back.
    pub(super) fn write_off(&mut self, at: usize) {
        let Some(shard) = self.shard(at).filter(|shard| !shard.recs().is_waiting()) else { return };
        let missing = self.cares[at].missing();
        if missing.is_empty() {
            return;
        }
        let (first, holds_older) = (shard.group().log().retained().first, holds_older(shard.group().log()));
        let may_come = self.sources.peers.may_have(shard.id());
        // Where nobody else can have one, nobody sent this replica a snapshot: what is below the first entry of its log is
        // nowhere in its files. Nor is it of one that was here, unless the log holds more than it shows.
        let is_gone = |meta: &&Arc<RecMeta>| !may_come || shard.recs().has(meta.id) && !holds_older;
        let below = missing.iter().filter(|meta| meta.through < first);
        below.filter(is_gone).for_each(|meta| shard.recs().lose(meta.id));
    }
}

/// Whether it is the device that failed, and not what is on it.
pub(crate) fn is_of_the_device(code: Code) -> bool {
    matches!(code, Code::StorageFull | Code::Io)
}
