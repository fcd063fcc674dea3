//! Holds a shard's state where Raft applies to it and readers read from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use stratalog_proto::entry::Entry;
use stratalog_proto::{Code, Error, RaftIndex, Term};
use stratalog_storage::{Manifest, SegmentMeta};
use tokio::sync::watch;

use super::state::{Effects, ShardState, StateHash};
use super::waiters::Waiters;
use crate::metrics::Stages;
use crate::outcome::Results;
use crate::raft::{Captured, Machine};
use crate::replay::RecStore;

type Listener = Box<dyn Fn(&[Arc<SegmentMeta>]) + Send + Sync>;

/// The applied state of a shard, and those who hear of what is applied.
pub(crate) struct ShardMachine {
    state: RwLock<ShardState>,
    applied: watch::Sender<RaftIndex>,
    /// Of the last entry with commands.
    applied_term: AtomicU64,
    hashed: watch::Sender<Option<StateHash>>,
    removed: RwLock<Option<Listener>>,
    waiters: Waiters,
    recs: Arc<RecStore>,
    stages: Stages,
}

impl ShardMachine {
    /// An empty state, before the first entry. `recs` hears of the replay segments that come and go from then on: what
    /// the log rolls while it is applied again at a start, too.
    pub(crate) fn new(recs: Arc<RecStore>, stages: Stages) -> Self {
        Self {
            state: RwLock::new(ShardState::new()),
            applied: watch::Sender::new(RaftIndex(0)),
            applied_term: AtomicU64::new(0),
            hashed: watch::Sender::new(None),
            removed: RwLock::new(None),
            waiters: Waiters::default(),
            recs,
            stages,
        }
    }

    pub(crate) fn read<R>(&self, f: impl FnOnce(&ShardState) -> R) -> R {
        f(&self.state.read())
    }

    pub(super) fn applied(&self) -> RaftIndex {
        *self.applied.borrow()
    }

    /// The term of the last entry with commands that was applied since the start; 0 before.
    pub(super) fn applied_term(&self) -> Term {
        Term(self.applied_term.load(Ordering::Acquire))
    }

    pub(super) fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        self.applied.subscribe()
    }

    /// Changes with each hash that is taken of the state.
    pub(super) fn watch_hashed(&self) -> watch::Receiver<Option<StateHash>> {
        self.hashed.subscribe()
    }

    /// Who waits for records.
    pub(super) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    pub(super) fn on_segments_removed(&self, listener: Listener) {
        *self.removed.write() = Some(listener);
    }

    /// Tells of what an entry did; the state shows it already, and its lock is not held.
    fn announce(&self, effects: Effects) -> Results {
        self.waiters.wake(&effects.appended);
        effects.removed_topics.iter().for_each(|topic| self.waiters.wake_topic(*topic));
        if !effects.rolled.is_empty() {
            self.recs.expect(effects.rolled);
        }
        if !effects.removed_recs.is_empty() {
            self.recs.retire(effects.removed_recs);
        }
        if let Some(listener) = self.removed.read().as_ref().filter(|_| !effects.removed.is_empty()) {
            listener(&effects.removed);
        }
        if effects.hashed.is_some() {
            self.hashed.send_replace(effects.hashed);
        }
        effects.results
    }
}

impl Machine for ShardMachine {
    fn apply(&self, index: RaftIndex, term: Term, entry: &Entry) -> Result<Results, Error> {
        let started = Instant::now();
        let effects = self.state.write().apply(index, term, entry)?;
        self.applied_term.store(term.0, Ordering::Release);
        let results = self.announce(effects);
        self.stages.applied(started.elapsed());
        Ok(results)
    }

    fn committed(&self, after: Duration) {
        self.stages.replicated(after);
    }

    fn advance(&self, index: RaftIndex) {
        let before = self.applied.send_replace(index);
        // The first entry of a group, its membership, has index 0.
        debug_assert!(before < index || index.0 == 0, "A1: index {index} was applied after {before}");
    }

    /// L4: batches that were rolled are in no state any more, so that until their segment is here only the log and the
    /// state before have them. A segment that came with an installed snapshot counts, too: this replica acknowledged
    /// entries of it, and its own log files hold them until a snapshot of its own lets them go.
    fn capture(&self) -> Result<Captured, Error> {
        if self.recs.is_waiting() {
            let message = format!("a segment that shard {} rolled is not here yet", self.recs.shard());
            return Err(Error::new(Code::Unavailable, message));
        }
        let state = self.state.read().clone();
        if let Some(id) = self.recs.first_owed(state.manifest().recs()) {
            let shard = self.recs.shard();
            let message = format!(
                "L4: replay segment {id} of shard {shard} is not here, or not whole, and the log may hold entries of it"
            );
            return Err(Error::new(Code::Unavailable, message));
        }
        Ok(Captured { frontier: state.manifest().replay_frontier(), encode: Box::new(move || state.encode()) })
    }

    fn restore(&self, _at: RaftIndex, state: Bytes) -> Result<(), Error> {
        let restored = ShardState::decode(state)?;
        let manifest = restored.manifest().clone();
        let before = std::mem::replace(&mut *self.state.write(), restored);
        self.recs.restored(manifest.recs());
        let removed = removed_columns(before.manifest(), &manifest);
        if let Some(listener) = self.removed.read().as_ref().filter(|_| !removed.is_empty()) {
            listener(&removed);
        }
        manifest.topics().for_each(|(topic, _)| self.waiters.wake_topic(topic));
        Ok(())
    }
}

/// The column segments that one manifest names and the next does not.
fn removed_columns(before: &Manifest, after: &Manifest) -> Vec<Arc<SegmentMeta>> {
    let is_left =
        |meta: &Arc<SegmentMeta>| after.topic(meta.topic).is_some_and(|live| live.segments.contains_key(&meta.id));
    let segments = before.topics().flat_map(|(_, live)| live.segments.values());
    segments.filter(|meta| !is_left(meta)).cloned().collect()
}
