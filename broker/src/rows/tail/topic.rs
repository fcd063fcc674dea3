//! The tail of one topic, under the lock of its shard's.

use std::sync::Arc;
use std::time::Instant;

use stratalog_proto::{PartitionId, RaftIndex};
use stratalog_query::TailChunk;

use super::Pulled;
use crate::rows::cut::{cut, rows_by_partition};
use crate::rows::extent::Sealed;
use crate::rows::log::{PartitionCounts, PartitionEnds};
use crate::rows::usage::Usage;

/// The tail of one topic in the shard.
#[derive(Default)]
pub(super) struct TopicTail {
    /// The row frontier above which everything here lies.
    pub(super) settled: RaftIndex,
    pub(super) chunks: Vec<Arc<TailChunk>>,
    /// Seals that were begun and may apply, or may have applied: what each took.
    pub(super) pending: Vec<Pending>,
    pub(super) bytes: usize,
    pub(super) rows: usize,
    /// Offsets without a row since the row frontier.
    pub(super) rowless: PartitionCounts,
    /// The offset after the last one of each partition that has any since the row frontier.
    pub(super) ends: PartitionEnds,
    /// When the first of what is here came.
    pub(super) since: Option<Instant>,
}

/// What a seal took: everything up to `next`.
pub(super) struct Pending {
    pub(super) next: RaftIndex,
    /// Of the rows; 0 once the seal has ended without anybody knowing how.
    pub(super) bytes: usize,
    pub(super) rowless: PartitionCounts,
    pub(super) ends: PartitionEnds,
}

/// New chunks, and what to put in the place of the first.
pub(super) struct Merged {
    pub(super) join: Option<Join>,
    pub(super) pulled: Pulled,
}

/// `joined` holds the rows of `replaces`, which are in the tail, and of the first new chunk.
pub(super) struct Join {
    pub(super) replaces: Vec<Arc<TailChunk>>,
    pub(super) joined: TailChunk,
}

impl TopicTail {
    /// Whether what is here lies above a row frontier, or a seal of it that is known has moved it there.
    pub(super) fn knows(&self, frontier: RaftIndex) -> bool {
        frontier <= self.settled || self.pending.iter().any(|pending| pending.next == frontier)
    }

    pub(super) fn add(&mut self, merged: Merged, usage: &Usage) {
        let Merged { join, pulled: Pulled { parsed, .. } } = merged;
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

    pub(super) fn may_change(&self, chunk: &TailChunk) -> bool {
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

    pub(super) fn has_any(&self) -> bool {
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

    pub(super) fn settle(&mut self, frontier: RaftIndex, usage: &Usage) {
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
            self.settled = frontier;
            self.since = self.has_any().then(Instant::now);
        }
    }

    /// Removes what is in segments by a seal that nobody here knows of. What has no row is what the offsets from there on
    /// are beside the rows that are left.
    pub(super) fn cut(&mut self, sealed: &Sealed, usage: &Usage) {
        for chunk in std::mem::take(&mut self.chunks) {
            self.forget(&chunk, usage);
            if let Some(rest) = cut(&chunk, sealed) {
                self.bytes += rest.bytes;
                self.rows += rest.rows.num_rows();
                usage.used(rest.bytes, rest.rows.num_rows());
                self.chunks.push(rest);
            }
        }
        let begin = |partition: &PartitionId| sealed.offsets.get(partition).copied().unwrap_or_default();
        self.ends.retain(|partition, end| *end > begin(partition));
        let rows = rows_by_partition(&self.chunks);
        let rowless = self.ends.iter().map(|(partition, end)| {
            let offsets = end.0 - begin(partition).0;
            (*partition, offsets.saturating_sub(rows.get(partition).copied().unwrap_or(0)))
        });
        self.rowless = rowless.filter(|(_, count)| *count > 0).collect();
        self.pending.clear();
        self.settled = sealed.row_frontier;
        self.since = self.has_any().then(Instant::now);
    }
}
