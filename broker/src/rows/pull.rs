//! Getting column segments from other replicas: those that the manifest names and that are not here, or were found damaged
//! here, in the background, and those that a leader is about to name, at once.
//!
//! What has come stays when a fetch breaks off, and the next one goes on behind it. A file gets its name only once it is
//! whole, is what the leader says by its hash, and is durable (L5, X1).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use stratalog_proto::{Code, Error, NodeId, SegmentId};
use stratalog_storage::SegmentMeta;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::copies::{SegmentBytes, SegmentCopies};
use super::files::Arrival;
use super::pace::Pace;
use super::partial::Partial;
use super::replica::Replica;
use super::trouble::Trouble;

/// How often it is looked for segments that are missing.
const TICK: Duration = Duration::from_secs(1);
/// Files that are fetched at once one way, in all shards together.
const AT_ONCE: usize = 4;
/// Chunks of a file that wait for the disk.
const CHUNKS_AHEAD: usize = 4;
/// A fetch from which nothing has come for so long is given up.
const SILENCE: Duration = Duration::from_secs(10);
/// Segments that may fail before the others wait for another time, too: perhaps nobody can be reached.
const MAX_FAILURES: usize = 4;
/// How often it is looked whether somebody else has fetched a segment.
const LOOK: Duration = Duration::from_millis(20);

/// Fetches segments of all replicas of a node.
pub(super) struct Puller {
    copies: Arc<dyn SegmentCopies>,
    background: Way,
    /// For what a leader waits for.
    urgent: Way,
    /// Files that were found damaged.
    pub(super) damaged: AtomicU64,
}

/// How files are fetched: within a rate, and so many at once.
struct Way {
    pace: Arc<Pace>,
    at_once: Semaphore,
}

impl Way {
    fn new(bytes_per_second: u64, stop: CancellationToken) -> Self {
        Self { pace: Arc::new(Pace::new(bytes_per_second, stop)), at_once: Semaphore::new(AT_ONCE) }
    }
}

/// What a replica could not fetch.
#[derive(Default)]
struct Troubles {
    all: Trouble,
    /// How often each segment that is still missing has failed.
    failures: HashMap<SegmentId, u32>,
}

impl Troubles {
    /// What of all that is missing is to be tried now, those last that failed most often. After a failure those that failed
    /// wait for a while, and the others do not.
    fn due(&mut self, mut missing: Vec<Arc<SegmentMeta>>) -> Vec<Arc<SegmentMeta>> {
        let mut failures = std::mem::take(&mut self.failures);
        self.failures = missing.iter().filter_map(|meta| failures.remove_entry(&meta.id)).collect();
        let failed = |meta: &Arc<SegmentMeta>| self.failures.get(&meta.id).copied().unwrap_or(0);
        if self.all.is_waiting() {
            missing.retain(|meta| failed(meta) == 0);
        }
        missing.sort_by_key(failed);
        missing
    }

    /// What failed in one round; the first of it if that is news.
    fn note<'a>(&mut self, failed: &'a [(SegmentId, Error)]) -> Option<&'a (SegmentId, Error)> {
        for (segment, _) in failed {
            *self.failures.entry(*segment).or_default() += 1;
        }
        match failed.first() {
            Some(first) => self.all.failed(&first.1).then_some(first),
            None if self.all.is_waiting() => None,
            None => {
                self.all.is_over();
                None
            }
        }
    }
}

impl Puller {
    pub(super) fn new(copies: Arc<dyn SegmentCopies>, bytes_per_second: u64, stop: CancellationToken) -> Self {
        let background = Way::new(bytes_per_second, stop.clone());
        Self { copies, background, urgent: Way::new(0, stop), damaged: AtomicU64::new(0) }
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
            if !self.copies.may_have(replica.log.id()) {
                continue;
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
            let missing = trouble.due(missing);
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
        let damaged = blocking(move || Ok(files.look_into_suspects())).await.unwrap_or_default();
        for (meta, what) in &damaged {
            tracing::error!(%shard, segment = %meta.id, topic = %meta.topic, what,
                "L5: a column segment is damaged; a whole copy is fetched from another replica");
        }
        self.damaged.fetch_add(damaged.len() as u64, Ordering::Relaxed);
        damaged.len()
    }

    /// Fetches segments one after the other: one that nobody has whole does not hold up the others.
    async fn pull(&self, replica: &Arc<Replica>, missing: Vec<Arc<SegmentMeta>>, trouble: &mut Troubles) {
        let (shard, count) = (replica.log.id(), missing.len());
        let mut failed = Vec::new();
        for meta in missing {
            match self.fetch(replica, &meta, None, &self.background).await {
                Ok(()) => self.let_go_if_gone(replica, &meta).await,
                Err(error) => failed.push((meta.id, error)),
            }
            // Whoever reads a damaged file waits for the next round.
            if failed.len() >= MAX_FAILURES || replica.files.has_suspects() {
                break;
            }
        }
        if let Some((segment, error)) = trouble.note(&failed) {
            tracing::warn!(%shard, %segment, missing = count, code = %error.code, %error,
                "a column segment was not fetched from another replica; trying again, ever more seldom");
        }
        if failed.is_empty() {
            tracing::info!(%shard, count, "fetched column segments from other replicas");
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
    /// Those of the peer and of the disk; [`Code::CorruptData`] if the bytes are not those that the leader means;
    /// [`Code::Unavailable`] if it breaks off.
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
        let given_up = arrival.given_up().clone();
        tokio::select! {
            fetched = self.fetch_arriving(replica, meta, source, way, arrival) => fetched,
            () = given_up.cancelled() => {
                Err(Error::new(Code::Unavailable, format!("column segment {} is not needed any more", meta.id)))
            }
        }
    }

    async fn fetch_arriving(
        &self,
        replica: &Arc<Replica>,
        meta: &Arc<SegmentMeta>,
        source: Option<NodeId>,
        way: &Way,
        arrival: Arrival,
    ) -> Result<(), Error> {
        let stopping = |_| Error::new(Code::Unavailable, "the node is stopping");
        let permit = way.at_once.acquire().await.map_err(stopping)?;
        let (files, wanted) = (replica.files.clone(), meta.clone());
        let partial = blocking(move || Partial::open(files, wanted, arrival)).await?;
        let incoming = self.copies.fetch(replica.log.id(), meta, source, partial.len()).await?;
        let received = receive(partial, incoming, way.pace.clone()).await;
        drop(permit);
        received
    }
}

/// Writes what comes, and gives it its name if it is what was expected.
async fn receive(partial: Partial, mut incoming: SegmentBytes, pace: Arc<Pace>) -> Result<(), Error> {
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let writing = tokio::spawn(blocking(move || write(partial, received, &pace)));
    let mut broken = None;
    loop {
        match tokio::time::timeout(SILENCE, incoming.next()).await {
            Ok(Some(Ok(chunk))) => {
                // A writer that has given up says why.
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                broken = Some(error);
                break;
            }
            Err(_) => {
                broken = Some(Error::new(Code::Unavailable, format!("nothing has come for {SILENCE:?}")));
                break;
            }
        }
    }
    drop(chunks);
    let written = writing.await.unwrap_or_else(|panic| Err(failed(&panic)));
    match (written, broken) {
        (Err(error), Some(broken)) if error.code == Code::Unavailable => Err(broken),
        (written, _) => written,
    }
}

fn write(mut partial: Partial, mut chunks: mpsc::Receiver<Bytes>, pace: &Pace) -> Result<(), Error> {
    while let Some(chunk) = chunks.blocking_recv() {
        pace.spend(chunk.len() as u64)?;
        partial.push(&chunk)?;
    }
    partial.finish()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(failed(&panic)))
}

fn failed(panic: &tokio::task::JoinError) -> Error {
    Error::new(Code::Internal, format!("fetching a column segment failed: {panic}"))
}

#[cfg(test)]
mod tests;
