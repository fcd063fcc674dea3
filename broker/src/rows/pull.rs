//! Getting column segments from other replicas: those that the manifest names and that are not here, or were found damaged
//! here, in the background, and those that a leader is about to name, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratalog_proto::{Error, NodeId, SegmentId};
use stratalog_storage::SegmentMeta;
use stratalog_storage::col::segment_file_name;

use super::copies::SegmentCopies;
use super::replica::Replica;
use crate::pull::{Round, Troubles, Wanted, Way, fetch};

/// How often it is looked for segments that are missing.
const TICK: Duration = Duration::from_secs(1);
/// After so many failures, for so long, a segment that no other replica has is taken to be lost: a leader makes its rows again.
const LOST_TIMES: u32 = 3;
const LOST_AFTER: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody else has fetched a segment.
const LOOK: Duration = Duration::from_millis(20);

/// Fetches segments of all replicas of a node.
pub(super) struct Puller {
    copies: Arc<dyn SegmentCopies>,
    background: Arc<Way>,
    /// For what a leader waits for.
    urgent: Way,
    /// Files that were found damaged.
    pub(super) damaged: AtomicU64,
}

impl Puller {
    pub(super) fn new(copies: Arc<dyn SegmentCopies>, background: Arc<Way>) -> Self {
        Self { copies, background, urgent: Way::new(0), damaged: AtomicU64::new(0) }
    }

    /// Gets what a replica misses, until it is stopped.
    pub(super) async fn run(self: Arc<Self>, replica: Arc<Replica>) {
        let (mut trouble, mut whole_at) = (Troubles::default(), None);
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                () = replica.wanted.notified() => {}
                () = replica.stop.cancelled() => return,
            }
            let version = replica.log.manifest().version();
            if self.look_into_suspects(&replica).await > 0 {
                whole_at = None;
            }
            if whole_at == Some(version) {
                continue;
            }
            let missing = replica.missing();
            if missing.is_empty() {
                (trouble, whole_at) = (Troubles::default(), Some(version));
            }
            if !self.copies.may_have(replica.log.id()) {
                replica.files.lose(missing.iter().map(|meta| meta.id));
                continue;
            }
            let missing = trouble.due(missing, |meta| meta.id);
            if missing.is_empty() {
                continue;
            }
            tokio::select! {
                () = self.pull(&replica, missing, &mut trouble) => {}
                () = replica.stop.cancelled() => return,
            }
        }
    }

    /// Has segments be missing whose files are damaged; how many are newly so.
    async fn look_into_suspects(&self, replica: &Arc<Replica>) -> usize {
        let (files, shard) = (replica.files.clone(), replica.log.id());
        if !files.has_suspects() {
            return 0;
        }
        let looked = tokio::task::spawn_blocking(move || files.look_into_suspects());
        let damaged = looked.await.unwrap_or_default();
        for (meta, what) in &damaged {
            tracing::error!(%shard, segment = %meta.id, topic = %meta.topic, what,
                "L5: a column segment is damaged; a whole copy is fetched from another replica, or its rows are made again");
        }
        self.damaged.fetch_add(damaged.len() as u64, Ordering::Relaxed);
        damaged.len()
    }

    /// Fetches segments one after the other: one that nobody has whole does not hold up the others.
    async fn pull(&self, replica: &Arc<Replica>, missing: Vec<Arc<SegmentMeta>>, trouble: &mut Troubles) {
        let (shard, count) = (replica.log.id(), missing.len());
        let mut round = Round::begin();
        for meta in missing {
            match self.fetch(replica, &meta, None, &self.background).await {
                Ok(()) => self.let_go_if_gone(replica, &meta).await,
                Err(error) => round.failed(meta.id, error),
            }
            // Whoever reads a damaged file waits for the next round.
            if round.is_vain() || replica.files.has_suspects() {
                break;
            }
        }
        let news = trouble.note(&round);
        self.give_up(replica, trouble.failed_for(LOST_TIMES, LOST_AFTER).collect()).await;
        if let Some((segment, error)) = news {
            tracing::warn!(%shard, %segment, missing = count, code = %error.code, %error,
                "a column segment was not fetched from another replica; trying again, ever more seldom");
        }
        if round.went_well() {
            tracing::info!(%shard, count, "fetched column segments from other replicas");
        }
    }

    /// Segments that failed often are lost, if everybody was asked who may have them: a copy on a node that is away is what was
    /// sealed, and rows that are made again may not be.
    async fn give_up(&self, replica: &Replica, failed: Vec<SegmentId>) {
        if !failed.is_empty() && self.copies.all_answer(replica.log.id()).await {
            replica.files.lose(failed.into_iter());
        }
    }

    /// A segment that left the manifest while it was fetched does not come back.
    async fn let_go_if_gone(&self, replica: &Replica, meta: &Arc<SegmentMeta>) {
        let manifest = replica.log.manifest();
        if manifest.topic(meta.topic).is_some_and(|live| live.segments.contains_key(&meta.id)) {
            return;
        }
        let (files, meta) = (replica.files.clone(), meta.clone());
        let _ = tokio::task::spawn_blocking(move || files.discard(&[(*meta).clone()])).await;
    }

    /// Gets segments that a leader waits for, from that node.
    ///
    /// # Errors
    /// The first of any.
    pub(super) async fn get_all(
        &self,
        replica: &Arc<Replica>,
        segments: &[Arc<SegmentMeta>],
        source: NodeId,
    ) -> Result<(), Error> {
        for meta in segments {
            self.fetch(replica, meta, Some(source), &self.urgent).await?;
        }
        Ok(())
    }

    /// Has the file of a segment be here, whole, verified and durable.
    ///
    /// # Errors
    /// Those of [`fetch`].
    async fn fetch(
        &self,
        replica: &Arc<Replica>,
        meta: &Arc<SegmentMeta>,
        source: Option<NodeId>,
        way: &Way,
    ) -> Result<(), Error> {
        let arrival = loop {
            match replica.files.expect(meta.id) {
                Some(arrival) => break arrival,
                None if replica.files.has(meta.id) => return Ok(()),
                None => tokio::time::sleep(LOOK).await,
            }
        };
        let files = &replica.files;
        let wanted = Wanted {
            what: format!("column segment {}", meta.id),
            io: files.io().clone(),
            dir: files.dir().to_owned(),
            name: segment_file_name(meta.id),
            bytes: meta.bytes,
            blake3: meta.blake3,
        };
        let (copies, shard) = (&self.copies, replica.log.id());
        let bytes = |offset| copies.fetch(shard, meta, source, offset);
        fetch(wanted, Box::new(arrival), way, &replica.tasks, bytes).await
    }
}

#[cfg(test)]
mod tests;
