//! The tail of a shard: rows of all its topics that are committed and not yet in a column segment.
//!
//! One lock guards it. A snapshot reads the manifest while it holds that lock, and rows leave the tail only under it
//! and after their segment is in the manifest, so that every row is seen exactly once (S1). A chunk's rows are at or
//! below a row frontier all together, since a seal always takes whole chunks. Where somebody else has moved the frontier,
//! chunks are cut at the offsets that are sealed.

mod topic;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::{RaftIndex, TopicId};
use stratalog_query::TailChunk;
use tokio::sync::watch;

use super::extent::Sealed;
use super::held::{Held, Holds};
use super::log::{PartitionCounts, PartitionEnds};
use super::parse::Parsed;
use super::unify;
use super::usage::Usage;
use topic::{Join, Merged, Pending, TopicTail};

/// The tail of one shard.
pub(super) struct Tail {
    state: Mutex<State>,
    materialized: watch::Sender<RaftIndex>,
    usage: Arc<Usage>,
}

struct State {
    materialized: RaftIndex,
    topics: BTreeMap<TopicId, TopicTail>,
    held: Holds,
}

/// Rows that were made of a topic: of batches above a row frontier of it.
pub(super) struct Pulled {
    pub(super) topic: TopicId,
    pub(super) above: RaftIndex,
    pub(super) parsed: Parsed,
}

/// What of a topic is to be sealed: everything above `expect` and up to `next`.
pub(super) struct Capture {
    pub(super) expect: RaftIndex,
    pub(super) next: RaftIndex,
    pub(super) chunks: Vec<Arc<TailChunk>>,
    pub(super) rowless: PartitionCounts,
    /// The first offset above `next` of each partition that has offsets between the two.
    pub(super) ends: PartitionEnds,
}

/// How much of a topic is in the tail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fill {
    pub(super) topic: TopicId,
    pub(super) bytes: usize,
    /// What of the bytes no seal that is under way has taken.
    pub(super) untaken: usize,
    pub(super) rows: usize,
    pub(super) age: Duration,
}

/// What a reader sees of a topic while it holds the tail's lock.
pub(super) struct View<'a> {
    pub(super) materialized: RaftIndex,
    pub(super) chunks: &'a [Arc<TailChunk>],
    /// Set if the topic does not reach `materialized`.
    pub(super) held: Option<&'a Held>,
    tail: Option<&'a TopicTail>,
}

impl View<'_> {
    /// Whether the tail begins at a row frontier, or knows what the seal took that moved it there.
    pub(super) fn knows(&self, frontier: RaftIndex) -> bool {
        self.tail.is_none_or(|tail| tail.knows(frontier))
    }

    /// Offsets without a row since the row frontier, of which the tail may not have heard yet.
    pub(super) fn rowless_above(&self, frontier: RaftIndex) -> u64 {
        let of = |counts: &PartitionCounts| counts.values().sum::<u64>();
        let Some(tail) = self.tail else { return 0 };
        let sealed = tail.pending.iter().find(|pending| pending.next == frontier);
        of(&tail.rowless) - sealed.map_or(0, |pending| of(&pending.rowless))
    }
}

impl Tail {
    /// An empty tail that has everything up to `materialized`.
    pub(super) fn new(materialized: RaftIndex, usage: Arc<Usage>) -> Self {
        let state = State { materialized, topics: BTreeMap::new(), held: Holds::default() };
        Self { state: Mutex::new(state), materialized: watch::Sender::new(materialized), usage }
    }

    /// Everything at or below this index is visible, but for topics that are held back.
    pub(super) fn materialized(&self) -> RaftIndex {
        *self.materialized.borrow()
    }

    /// Changes with the materialized index.
    pub(super) fn watch_materialized(&self) -> watch::Receiver<RaftIndex> {
        self.materialized.subscribe()
    }

    /// Makes the rows of all batches up to `through` visible, all at once, but for those of topics that are held back, or are
    /// from now on. Called by one thread only.
    pub(super) fn publish(&self, through: RaftIndex, pulled: Vec<Pulled>, held: Vec<(TopicId, Held)>) {
        let merged: Vec<_> = pulled.into_iter().map(|pulled| self.merge(pulled)).collect();
        let mut state = self.state.lock();
        merged.into_iter().for_each(|merged| state.add(merged, &self.usage));
        held.into_iter().for_each(|(topic, held)| state.held.set(topic, Some(held)));
        state.materialized = through;
        self.materialized.send_replace(through);
        drop(state);
        self.usage.changed();
    }

    /// Adds rows of a topic that is held back; `held` says how it is from now on. Called by the same thread only.
    pub(super) fn publish_held(&self, topic: TopicId, pulled: Option<Pulled>, held: Option<Held>) {
        let merged = pulled.map(|pulled| self.merge(pulled));
        let mut state = self.state.lock();
        merged.into_iter().for_each(|merged| state.add(merged, &self.usage));
        state.held.set(topic, held);
        drop(state);
        self.usage.changed();
    }

    /// Notes the words of the newest chunks of topics, for searches, once a chunk is so large that looking through it takes
    /// long: by then it is seldom joined with others any more.
    pub(super) fn index_words(&self, topics: &[TopicId]) {
        for topic in topics {
            let grown = self.read(*topic, |tail| {
                let newest = tail.chunks.iter().rev().take_while(|chunk| !chunk.has_words());
                newest.filter(|chunk| chunk.bytes >= WORDS_FROM_BYTES).cloned().collect::<Vec<_>>()
            });
            grown.iter().for_each(|chunk| chunk.index_words());
        }
    }

    /// How a topic is held back, if it is.
    pub(super) fn held(&self, topic: TopicId) -> Option<Held> {
        self.state.lock().held.get(topic).cloned()
    }

    /// The topics that are held back.
    pub(super) fn held_topics(&self) -> BTreeSet<TopicId> {
        self.state.lock().held.topics()
    }

    /// How many topics are held back.
    pub(super) fn held_count(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Joins the first new chunk with small ones at the end of the tail, so that many small produces do not become as
    /// many chunks. Each join at least doubles what it adds to, hence a row is copied a few times at most.
    fn merge(&self, pulled: Pulled) -> Merged {
        let Some(first) = pulled.parsed.chunks.first() else { return Merged { join: None, pulled } };
        let replaces = self.small_chunks(pulled.topic, first.rows.num_rows());
        if replaces.is_empty() {
            return Merged { join: None, pulled };
        }
        let chunks: Vec<&TailChunk> = replaces.iter().map(|chunk| &**chunk).chain([first]).collect();
        if !unify::fit(&chunks.iter().map(|chunk| &chunk.rows).collect::<Vec<_>>()) {
            return Merged { join: None, pulled };
        }
        let joined = unify::join(&chunks);
        Merged { join: Some(Join { replaces, joined }), pulled }
    }

    /// The chunks at the end of a topic's tail that a new one of `rows` rows is joined with.
    fn small_chunks(&self, topic: TopicId, mut rows: usize) -> Vec<Arc<TailChunk>> {
        let state = self.state.lock();
        let Some(tail) = state.topics.get(&topic) else { return Vec::new() };
        let mut small = Vec::new();
        for chunk in tail.chunks.iter().rev().take_while(|chunk| tail.may_change(chunk)) {
            let joined = rows + chunk.rows.num_rows();
            if joined > TailChunk::MAX_ROWS || chunk.rows.num_rows() >= 2 * rows || chunk.bytes > MAX_JOIN_BYTES {
                break;
            }
            rows = joined;
            small.push(chunk.clone());
        }
        small.reverse();
        small
    }

    /// Looks at a topic under the lock. `f` may read the manifest, and does no IO.
    pub(super) fn read<R>(&self, topic: TopicId, f: impl FnOnce(View<'_>) -> R) -> R {
        let state = self.state.lock();
        let tail = state.topics.get(&topic);
        f(View {
            materialized: state.materialized,
            chunks: tail.map_or(&[], |tail| &tail.chunks),
            held: state.held.get(topic),
            tail,
        })
    }

    /// How full the topics are that have anything to seal.
    pub(super) fn fill(&self) -> Vec<Fill> {
        let state = self.state.lock();
        let filled = state.topics.iter().filter_map(|(topic, tail)| {
            let age = tail.since.filter(|_| tail.has_any())?.elapsed();
            let taken = tail.pending.iter().map(|pending| pending.bytes).max().unwrap_or(0);
            let untaken = tail.bytes.saturating_sub(taken);
            Some(Fill { topic: *topic, bytes: tail.bytes, untaken, rows: tail.rows, age })
        });
        filled.collect()
    }

    /// Bytes of a topic's tail.
    pub(super) fn topic_bytes(&self, topic: TopicId) -> usize {
        self.state.lock().topics.get(&topic).map_or(0, |tail| tail.bytes)
    }

    /// Takes hold of all that is there of a topic, to seal it on the row frontier that `frontier` reads; `None` if there
    /// is nothing. `sealed` reads it with the offsets that belong to it. The chunks stay as they are until
    /// [`settle`](Self::settle) or [`release`](Self::release).
    pub(super) fn capture(
        &self,
        topic: TopicId,
        frontier: impl FnOnce() -> Option<RaftIndex>,
        sealed: impl FnOnce() -> Sealed,
    ) -> Option<Capture> {
        let mut state = self.state.lock();
        let next = state.held.get(topic).map_or(state.materialized, |held| held.through);
        let mut expect = frontier()?;
        let tail = state.topics.get_mut(&topic)?;
        if tail.knows(expect) {
            tail.settle(expect, &self.usage);
        } else {
            let sealed = sealed();
            expect = sealed.row_frontier;
            tail.cut(&sealed, &self.usage);
        }
        if !tail.has_any() || next <= expect {
            return None;
        }
        let (rowless, ends) = (tail.rowless.clone(), tail.ends.clone());
        tail.pending.push(Pending { next, bytes: tail.bytes, rowless: rowless.clone(), ends: ends.clone() });
        Some(Capture { expect, next, chunks: tail.chunks.clone(), rowless, ends })
    }

    /// Lets what was captured go: the seal did not apply, and will not.
    pub(super) fn release(&self, topic: TopicId, captured: &Capture) {
        if let Some(tail) = self.state.lock().topics.get_mut(&topic)
            && let Some(at) = tail.pending.iter().rposition(|pending| pending.next == captured.next)
        {
            tail.pending.remove(at);
        }
    }

    /// A seal ended and nobody knows how: what it took may be sealed again, and stays until the row frontier moves.
    pub(super) fn doubt(&self, topic: TopicId, captured: &Capture) {
        if let Some(tail) = self.state.lock().topics.get_mut(&topic) {
            let doubtful = tail.pending.iter_mut().filter(|pending| pending.next == captured.next);
            doubtful.for_each(|pending| pending.bytes = 0);
        }
    }

    /// Removes what is in segments: everything up to the row frontier, which the manifest has reached.
    pub(super) fn settle(&self, topic: TopicId, frontier: RaftIndex) {
        let mut state = self.state.lock();
        if let Some(tail) = state.topics.get_mut(&topic) {
            tail.settle(frontier, &self.usage);
        }
        drop(state);
        self.usage.changed();
    }

    /// Removes the topics that are not in `hosted`.
    pub(super) fn retain(&self, hosted: &[TopicId]) {
        let mut state = self.state.lock();
        state.topics.retain(|topic, tail| {
            let keep = hosted.binary_search(topic).is_ok();
            if !keep {
                self.usage.freed(tail.bytes, tail.rows);
            }
            keep
        });
        state.held.retain(hosted);
        drop(state);
        self.usage.changed();
    }
}

/// Chunks of more bytes are not joined: it would cost more than it saves.
const MAX_JOIN_BYTES: usize = 4 << 20;
/// Chunks of fewer bytes are looked through in no time.
const WORDS_FROM_BYTES: usize = 1 << 20;

impl State {
    fn add(&mut self, merged: Merged, usage: &Usage) {
        let Pulled { topic, above, .. } = merged.pulled;
        let begin = || TopicTail { settled: above, ..TopicTail::default() };
        self.topics.entry(topic).or_insert_with(begin).add(merged, usage);
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        state.topics.values().for_each(|tail| self.usage.freed(tail.bytes, tail.rows));
        self.usage.changed();
    }
}
