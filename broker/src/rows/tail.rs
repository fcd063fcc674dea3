//! The tail of a shard: rows of all its topics that are committed and not yet in a column segment.
//!
//! One lock guards it. A snapshot reads the manifest while it holds that lock, and rows leave the tail only under it
//! and after their segment is in the manifest, so that every row is seen exactly once (S1). A chunk's rows are at or
//! below a row frontier all together: a seal always takes whole chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_proto::{RaftIndex, TopicId};
use stratalog_query::TailChunk;
use tokio::sync::watch;

use super::held::{Held, Holds};
use super::log::{PartitionCounts, PartitionEnds};
use super::parse::Parsed;
use super::unify;
use super::usage::Usage;

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

/// The tail of one topic in the shard.
#[derive(Default)]
struct TopicTail {
    chunks: Vec<Arc<TailChunk>>,
    /// Seals that were begun and may apply, or may have applied: what each took.
    pending: Vec<Pending>,
    bytes: usize,
    rows: usize,
    /// Offsets without a row since the row frontier.
    rowless: PartitionCounts,
    /// The offset after the last one of each partition that has any since the row frontier.
    ends: PartitionEnds,
    /// When the first of what is here came.
    since: Option<Instant>,
}

/// What a seal took: everything up to `next`.
struct Pending {
    next: RaftIndex,
    /// Of the rows; 0 once the seal has ended without anybody knowing how.
    bytes: usize,
    rowless: PartitionCounts,
    ends: PartitionEnds,
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
    pub(super) fn publish(&self, through: RaftIndex, parsed: Vec<(TopicId, Parsed)>, held: Vec<(TopicId, Held)>) {
        let merged: Vec<_> = parsed.into_iter().map(|(topic, parsed)| (topic, self.merge(topic, parsed))).collect();
        let mut state = self.state.lock();
        for (topic, merged) in merged {
            state.topics.entry(topic).or_default().add(merged, &self.usage);
        }
        held.into_iter().for_each(|(topic, held)| state.held.set(topic, Some(held)));
        state.materialized = through;
        self.materialized.send_replace(through);
        drop(state);
        self.usage.changed();
    }

    /// Adds rows of a topic that is held back; `held` says how it is from now on. Called by the same thread only.
    pub(super) fn publish_held(&self, topic: TopicId, parsed: Option<Parsed>, held: Option<Held>) {
        let merged = parsed.map(|parsed| self.merge(topic, parsed));
        let mut state = self.state.lock();
        if let Some(merged) = merged {
            state.topics.entry(topic).or_default().add(merged, &self.usage);
        }
        state.held.set(topic, held);
        drop(state);
        self.usage.changed();
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
    fn merge(&self, topic: TopicId, parsed: Parsed) -> Merged {
        let Some(first) = parsed.chunks.first() else { return Merged { join: None, parsed } };
        let replaces = self.small_chunks(topic, first.rows.num_rows());
        if replaces.is_empty() {
            return Merged { join: None, parsed };
        }
        let chunks: Vec<&TailChunk> = replaces.iter().map(|chunk| &**chunk).chain([first]).collect();
        if !unify::fit(&chunks.iter().map(|chunk| &chunk.rows).collect::<Vec<_>>()) {
            return Merged { join: None, parsed };
        }
        let joined = unify::join(&chunks);
        Merged { join: Some(Join { replaces, joined }), parsed }
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
    /// is nothing. The chunks stay as they are until [`settle`](Self::settle) or [`release`](Self::release).
    pub(super) fn capture(&self, topic: TopicId, frontier: impl FnOnce() -> Option<RaftIndex>) -> Option<Capture> {
        let mut state = self.state.lock();
        let next = state.held.get(topic).map_or(state.materialized, |held| held.through);
        let expect = frontier()?;
        let tail = state.topics.get_mut(&topic)?;
        tail.settle(expect, &self.usage);
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

/// New chunks, and what to put in the place of the first.
struct Merged {
    join: Option<Join>,
    parsed: Parsed,
}

/// `joined` holds the rows of `replaces`, which are in the tail, and of the first new chunk.
struct Join {
    replaces: Vec<Arc<TailChunk>>,
    joined: TailChunk,
}

impl TopicTail {
    fn add(&mut self, merged: Merged, usage: &Usage) {
        let Merged { join, parsed } = merged;
        for (partition, count) in parsed.rowless {
            *self.rowless.entry(partition).or_default() += count;
        }
        self.ends.extend(parsed.ends);
        let mut chunks = parsed.chunks.into_iter();
        if let Some(join) = join.filter(|join| self.can_replace(&join.replaces)) {
            self.take_last(join.replaces.len(), usage);
            self.push(join.joined, usage);
            chunks.next();
        }
        chunks.for_each(|chunk| self.push(chunk, usage));
        if self.since.is_none() && self.has_any() {
            self.since = Some(Instant::now());
        }
    }

    /// Whether these are still the last chunks, and no seal has taken hold of them meanwhile.
    fn can_replace(&self, replaces: &[Arc<TailChunk>]) -> bool {
        let Some(kept) = self.chunks.len().checked_sub(replaces.len()) else { return false };
        let mut pairs = self.chunks[kept..].iter().zip(replaces);
        pairs.all(|(here, old)| Arc::ptr_eq(here, old) && self.may_change(here))
    }

    fn may_change(&self, chunk: &TailChunk) -> bool {
        self.pending.iter().all(|pending| chunk.first_index > pending.next)
    }

    fn take_last(&mut self, count: usize, usage: &Usage) {
        for chunk in self.chunks.split_off(self.chunks.len() - count) {
            self.forget(&chunk, usage);
        }
    }

    fn forget(&mut self, chunk: &TailChunk, usage: &Usage) {
        self.bytes -= chunk.bytes;
        self.rows -= chunk.rows.num_rows();
        usage.freed(chunk.bytes, chunk.rows.num_rows());
    }

    fn has_any(&self) -> bool {
        !(self.chunks.is_empty() && self.rowless.is_empty())
    }

    fn push(&mut self, chunk: TailChunk, usage: &Usage) {
        let rows = chunk.rows.num_rows();
        assert!(rows <= TailChunk::MAX_ROWS, "a chunk has at most {} rows", TailChunk::MAX_ROWS);
        self.bytes += chunk.bytes;
        self.rows += rows;
        usage.used(chunk.bytes, rows);
        self.chunks.push(Arc::new(chunk));
    }

    fn settle(&mut self, frontier: RaftIndex, usage: &Usage) {
        let sealed = self.chunks.partition_point(|chunk| chunk.last_index <= frontier);
        let rest = self.chunks.split_off(sealed);
        assert!(rest.iter().all(|chunk| chunk.first_index > frontier), "S1: a row frontier lies between chunks");
        for chunk in std::mem::replace(&mut self.chunks, rest) {
            self.forget(&chunk, usage);
        }
        if let Some(at) = self.pending.iter().position(|pending| pending.next == frontier) {
            let applied = self.pending.swap_remove(at);
            for (partition, count) in applied.rowless {
                *self.rowless.entry(partition).or_default() -= count;
            }
            self.rowless.retain(|_, count| *count > 0);
            self.ends.retain(|partition, end| applied.ends.get(partition) != Some(end));
            // Any other one was built on the frontier that this one has moved: it cannot apply any more (S2).
            self.pending.clear();
            self.since = self.has_any().then(Instant::now);
        }
    }
}
