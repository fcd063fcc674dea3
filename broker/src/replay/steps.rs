//! The steps of the roller.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, SegmentId, Term, TopicId, internal};
use stratalog_storage::sabotage::{Bug, planted};
use stratalog_storage::{ErasedOffsets, RecMeta};

use super::build::{self, Range};
use super::member::Step;
use super::repack::{Repacking, choose};
use super::roller::Worker;
use super::store::RecStore;
use crate::shard::Shard;

impl Worker {
    /// Rolls the next range of a shard: builds its segments, makes them known, and has them come to count.
    ///
    /// # Errors
    /// Those of reading, of the disk and of proposing. What was built for nothing is unlinked.
    pub(super) async fn roll(&mut self, at: usize) -> Result<(), Error> {
        let Some(shard) = self.shard(at) else { return Ok(()) };
        let Some(range) = self.next_range(&shard) else { return Ok(()) };
        let placed = shard.read(|state| state.batches_between(range.after, range.through));
        let (store, log) = (Arc::clone(shard.recs()), shard.group().log().clone());
        let built = blocking(move || build::build(&store, &log, range, placed)).await?;
        let metas: Vec<Arc<RecMeta>> = built.into_iter().map(Arc::new).collect();
        self.metrics.rec_written(metas.iter().map(|meta| meta.bytes).sum());
        // Known before they count: a reader may need them the moment that the Roll is applied.
        metas.iter().for_each(|meta| shard.recs().adopt(Arc::clone(meta)));
        if planted(Bug::PurgeBeforeRoll) {
            self.release_lane().await;
        }
        let roll = internal::Roll {
            expect: range.after.0,
            next: range.through.0,
            segments: metas.iter().map(|meta| internal::RecMeta::from(&**meta)).collect(),
        };
        let proposed = self.propose(&shard, Command::Roll(roll)).await;
        self.came_to_count(at, &shard, metas, proposed).await
    }

    /// What to roll next: up to the applied index, within the bytes of a roll.
    pub(super) fn next_range(&self, shard: &Shard) -> Option<Range> {
        let after = shard.read(|state| state.replay_frontier());
        let through = shard.group().log().cut(after, shard.applied(), self.options.roll_bytes);
        (through > after).then_some(Range { after, through })
    }

    /// Keeps what was built, lets it go, or remembers it until it is known which (S2).
    async fn came_to_count(
        &mut self,
        at: usize,
        shard: &Arc<Shard>,
        metas: Vec<Arc<RecMeta>>,
        proposed: Result<(), Error>,
    ) -> Result<(), Error> {
        match &proposed {
            // A later command was applied, and those before it are by now, or never will be.
            Ok(()) => self.settle_doubtful(at, shard, |_| true).await?,
            Err(error) if is_unknown(error.code) => {
                // It was proposed in this term or an earlier one.
                let term = shard.watch_role().borrow().term;
                self.cares[at].doubtful.extend(metas.into_iter().map(|meta| (term, meta)));
            }
            Err(_) => discard(shard.recs(), metas).await?,
        }
        proposed
    }

    /// Unlinks those of the files whose commands had an unknown outcome, and have none any more, that did not come to
    /// count.
    async fn settle_doubtful(
        &mut self,
        at: usize,
        shard: &Arc<Shard>,
        is_settled: impl Fn(Term) -> bool,
    ) -> Result<(), Error> {
        let settled: Vec<_> = self.cares[at].doubtful.extract_if(.., |(term, _)| is_settled(*term)).collect();
        if settled.is_empty() {
            return Ok(());
        }
        let manifest = shard.read(|state| state.manifest().clone());
        let live: HashSet<SegmentId> = manifest.recs().iter().map(|meta| meta.id).collect();
        // One that came to count, and was rewritten since, may be what its successor is made of here.
        let is_needed = |id: &SegmentId| live.contains(id) || shard.recs().is_source(*id);
        let is_garbage = |(_, meta): (Term, Arc<RecMeta>)| (!is_needed(&meta.id)).then_some(meta);
        discard(shard.recs(), settled.into_iter().filter_map(is_garbage).collect()).await
    }

    /// Has the files of which it was not known whether they count do so, or go, as far as that is known by now (S2).
    pub(super) async fn settle_files(&mut self, at: usize) {
        let Some(shard) = self.shard(at) else { return };
        if self.cares[at].doubtful.is_empty() && !shard.recs().has_found() {
            return;
        }
        // Before the manifest is read: what was proposed in an earlier term is in that, or will never be.
        let applied = shard.applied_term();
        let settled = match self.settle_doubtful(at, &shard, |term| term < applied).await {
            Ok(()) => self.settle_found(&shard, applied).await,
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            tracing::warn!(shard = %shard.id(), %error, "replay segments that no manifest names stay until the next look");
        }
    }

    async fn settle_found(&self, shard: &Arc<Shard>, applied: Term) -> Result<(), Error> {
        loop {
            let (store, manifest) = (Arc::clone(shard.recs()), shard.read(|state| state.manifest().clone()));
            let looked = blocking(move || match store.recognise(manifest.recs()) {
                true => Ok(None),
                false => store.unlink_found(manifest.recs(), applied).map(Some),
            });
            match looked.await? {
                None if self.is_stopping() => return Ok(()),
                None => {}
                Some(removed) => {
                    if removed > 0 {
                        tracing::info!(shard = %shard.id(), removed, "removed replay segments that no manifest names");
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Makes the state of a group durable, and lets go of the log that it does not need any more (L4).
    ///
    /// # Errors
    /// Those of the disk; the log stays as it was. A snapshot that is durable is one, even if the log cannot go yet.
    pub(super) async fn snapshot(&mut self, at: usize) -> Result<(), Error> {
        let group = Arc::clone(self.cares[at].member.group());
        let before = group.log().retained().oldest_file;
        let taken = group.snapshot().await?;
        self.metrics.state_written(taken.bytes);
        self.cares[at].snapshot_taken(taken.bytes);
        let released = self.release_through(at, taken.frontier).await;
        // What is left undone is a step of its own.
        self.cares[at].ended(Step::Release, &released);
        if group.log().retained().oldest_file.is_some_and(|file| Some(file) == before) {
            tracing::debug!(shard = %group.log().shard(), frontier = %taken.frontier, "a snapshot freed no log file");
        }
        Ok(())
    }

    /// Lets go of the log that the newest snapshot covers, if there is any.
    ///
    /// # Errors
    /// Raft still reads it; the log stays as it was.
    pub(super) async fn release(&mut self, at: usize) -> Result<(), Error> {
        match self.cares[at].releasable() {
            Some(frontier) => self.release_through(at, frontier).await,
            None => Ok(()),
        }
    }

    /// Lets go of the log up to the frontier of a snapshot (L4), or later, if another replica needs it now. One that was
    /// installed meanwhile keeps what it needs.
    async fn release_through(&self, at: usize, frontier: RaftIndex) -> Result<(), Error> {
        match self.stays_for_others(at) {
            true => Ok(()),
            false => self.let_go(at, frontier).await,
        }
    }

    /// Lets go of the log up to a frontier, whoever needs it: a replica that is being brought up begins again.
    pub(super) async fn let_go(&self, at: usize, frontier: RaftIndex) -> Result<(), Error> {
        let group = self.cares[at].member.group();
        group.purge(frontier).await?;
        group.log().release(frontier);
        self.release_lane().await;
        Ok(())
    }

    /// Lets the lane have the files that no group needs.
    pub(super) async fn release_lane(&self) {
        // The file that is written to is read first: what a group without entries appends now is not below it.
        let last = self.lane.usage().last_file;
        let first_needed = first_needed(self.logs.oldest_files().into_iter(), last);
        let lane = Arc::clone(&self.lane);
        let release = move || {
            lane.release(first_needed);
            Ok(())
        };
        if let Err(error) = blocking(release).await {
            tracing::error!(%error, "log files that nobody needs were not let go");
        }
    }

    /// Rewrites packed segments that are mostly dead, one at a time.
    ///
    /// # Errors
    /// As [`roll`](Self::roll).
    pub(super) async fn repack(&mut self, at: usize) -> Result<(), Error> {
        let mut failed = Ok(());
        while let Some((shard, Repacking { from, keep })) = self.next_repacking(at) {
            let (store, source) = (Arc::clone(shard.recs()), Arc::clone(&from));
            let built = match blocking(move || {
                build::repack(&store, &source, SegmentId::new(), &keep, &ErasedOffsets::default())
            })
            .await
            {
                Ok(built) => built,
                Err(error) if error.code == Code::StorageFull => return Err(error),
                // A damaged one must not keep the others from being rewritten.
                Err(error) => {
                    self.cares[at].unreadable.insert(from.id);
                    failed = Err(error);
                    continue;
                }
            };
            let added: Vec<Arc<RecMeta>> = built.into_iter().map(Arc::new).collect();
            let add = added.first().map(|meta| internal::RecMeta::from(&**meta));
            let repack = internal::Repack { remove: from.id.to_bytes(), add, erased: Vec::new() };
            self.replace_rec(at, &shard, added, repack).await?;
        }
        failed
    }

    /// Makes a rewritten segment known, and has it come to count.
    ///
    /// # Errors
    /// Those of proposing. What was built for nothing is unlinked.
    pub(super) async fn replace_rec(
        &mut self,
        at: usize,
        shard: &Arc<Shard>,
        added: Vec<Arc<RecMeta>>,
        repack: internal::Repack,
    ) -> Result<(), Error> {
        self.metrics.rec_written(added.iter().map(|meta| meta.bytes).sum());
        added.iter().for_each(|meta| shard.recs().adopt(Arc::clone(meta)));
        let proposed = self.propose(shard, Command::Repack(repack)).await;
        self.came_to_count(at, shard, added, proposed).await?;
        self.metrics.repacked();
        Ok(())
    }

    /// A segment to rewrite, of a shard that this replica leads. The same manifest is not searched twice, and what could not
    /// be rewritten is tried again in the next one only.
    fn next_repacking(&mut self, at: usize) -> Option<(Arc<Shard>, Repacking)> {
        let shard = self.shard(at).filter(|shard| shard.is_leader() && self.may(Step::Repack, at))?;
        let manifest = shard.read(|state| state.manifest().clone());
        if self.cares[at].searched == Some(manifest.version()) {
            return None;
        }
        let care = &mut self.cares[at];
        let readable = |meta: &&Arc<RecMeta>| !care.unreadable.contains(&meta.id) && shard.recs().has(meta.id);
        let candidates: Vec<Arc<RecMeta>> =
            manifest.recs().iter().filter(|meta| meta.is_packed()).filter(readable).cloned().collect();
        let chosen = choose(&candidates, &log_starts(&shard));
        if chosen.is_none() {
            care.searched = Some(manifest.version());
            care.unreadable.clear();
        }
        chosen.map(|repacking| (shard, repacking))
    }

    /// Unlinks what left the manifest.
    pub(super) async fn unlink_retired(&self, at: usize) {
        let Some(shard) = self.shard(at).filter(|shard| shard.recs().has_retired()) else { return };
        let store = Arc::clone(shard.recs());
        let _ = blocking(move || Ok(store.unlink_retired())).await;
    }

    /// Proposes a command, and gives up waiting when the roller is to end.
    async fn propose(&self, shard: &Arc<Shard>, command: Command) -> Result<(), Error> {
        tokio::select! {
            proposed = shard.propose(command) => proposed.map(|_| ()),
            () = self.stopped() => Err(Error::new(Code::Unavailable, "the node is stopping")),
        }
    }
}

/// The lowest lane file that a group still needs, of the oldest that each of them needs; `last` if none needs any.
pub(crate) fn first_needed(oldest: impl Iterator<Item = Option<u64>>, last: u64) -> u64 {
    let oldest = oldest.flatten().min();
    oldest.filter(|_| !planted(Bug::PurgeBeforeRoll)).unwrap_or(last).min(last)
}

fn log_starts(shard: &Shard) -> HashMap<(TopicId, PartitionId), Offset> {
    shard.read(|state| {
        let partitions =
            state.topics().flat_map(|(topic, hosted)| hosted.partitions().map(move |(p, state)| (topic, p, state)));
        partitions.map(|(topic, partition, state)| ((topic, partition), state.log_start())).collect()
    })
}

/// Whether a proposal that ended like this may have been applied, or may yet be.
fn is_unknown(code: Code) -> bool {
    matches!(code, Code::Timeout | Code::Unavailable | Code::NotLeader | Code::Internal | Code::Cancelled)
}

async fn discard(store: &Arc<RecStore>, metas: Vec<Arc<RecMeta>>) -> Result<(), Error> {
    if metas.is_empty() {
        return Ok(());
    }
    let store = Arc::clone(store);
    blocking(move || {
        metas.iter().for_each(|meta| store.discard(meta));
        Ok(())
    })
    .await
}

/// Runs what blocks where that harms nobody.
pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(Error::new(Code::Internal, format!("a step of the roller failed: {panic}"))))
}
