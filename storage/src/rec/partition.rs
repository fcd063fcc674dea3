//! What the footer knows of one partition: where its batches are, in spans of about 32 KiB, and its leader epochs.

use std::ops::Range;

use stratalog_proto::{Offset, PartitionId, TopicId};

use super::format::SPAN_BYTES;
use super::meta::RecRange;
use crate::container::{Cursor, Malformed};

/// From this offset on, batches were appended in this leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecEpoch {
    /// The epoch: the shard's term.
    pub epoch: i32,
    /// The first offset of it in this segment.
    pub first: Offset,
}

/// Some whole batches, one after the other: at most 32 KiB, or a single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The base offset of the first.
    pub(super) first: Offset,
    /// Where that starts in the file.
    pub(super) start: u64,
    /// The highest timestamp that the batches claim, in milliseconds.
    pub(super) max_timestamp_ms: i64,
}

/// The batches of one partition: a contiguous part of the file, and of the offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartitionEntry {
    pub(super) topic: TopicId,
    pub(super) partition: PartitionId,
    /// At least one; ascending.
    pub(super) spans: Vec<Span>,
    /// At least one; ascending, the first from the first offset on.
    pub(super) epochs: Vec<RecEpoch>,
    /// One past the highest offset.
    pub(super) next: Offset,
    /// Where the last batch ends in the file.
    pub(super) end: u64,
}

/// A batch, as far as an index cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) first: Offset,
    /// One past its highest offset.
    pub(super) next: Offset,
    /// Where it is in the file.
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) epoch: i32,
    pub(super) max_timestamp_ms: i64,
}

impl PartitionEntry {
    /// An entry of one batch.
    pub(super) fn new(topic: TopicId, partition: PartitionId, batch: &Placed) -> Self {
        let epochs = vec![RecEpoch { epoch: batch.epoch, first: batch.first }];
        Self { topic, partition, spans: vec![Span::of(batch)], epochs, next: batch.next, end: batch.end }
    }

    /// Adds the next batch.
    ///
    /// # Errors
    /// L2: why it cannot follow.
    pub(super) fn push(&mut self, batch: &Placed) -> Result<(), String> {
        let epoch = self.epochs[self.epochs.len() - 1].epoch;
        if batch.first != self.next {
            return Err(format!("L2: offset {} follows offset {}", batch.first, self.next.0 - 1));
        }
        if batch.epoch < epoch {
            return Err(format!("the leader epoch goes back from {epoch} to {} at {}", batch.epoch, batch.first));
        }
        debug_assert_eq!(batch.start, self.end, "batches lie back to back");
        let span = self.spans.last_mut().expect("a partition has at least one span");
        if batch.end - span.start <= SPAN_BYTES {
            span.max_timestamp_ms = span.max_timestamp_ms.max(batch.max_timestamp_ms);
        } else {
            self.spans.push(Span::of(batch));
        }
        if batch.epoch > epoch {
            self.epochs.push(RecEpoch { epoch: batch.epoch, first: batch.first });
        }
        (self.next, self.end) = (batch.next, batch.end);
        Ok(())
    }

    pub(super) fn key(&self) -> (TopicId, PartitionId) {
        (self.topic, self.partition)
    }

    pub(super) fn first(&self) -> Offset {
        self.spans[0].first
    }

    pub(super) fn start(&self) -> u64 {
        self.spans[0].start
    }

    /// The span that holds an offset of this partition.
    pub(super) fn span_with(&self, offset: Offset) -> usize {
        self.spans.partition_point(|span| span.first <= offset).saturating_sub(1)
    }

    /// Where a span lies in the file.
    pub(super) fn span_bytes(&self, span: usize) -> Range<u64> {
        self.spans[span].start..self.spans.get(span + 1).map_or(self.end, |next| next.start)
    }

    /// The last place where a span, or the partition, ends that is not behind `limit`, with the offset that follows. It may
    /// be the partition's start.
    pub(super) fn last_end(&self, limit: u64) -> (u64, Offset) {
        if self.end <= limit {
            return (self.end, self.next);
        }
        let span = &self.spans[self.spans.partition_point(|span| span.start <= limit).saturating_sub(1)];
        (span.start, span.first)
    }

    /// The offsets of the spans that a part of the file touches.
    pub(super) fn offsets_in(&self, bytes: &Range<u64>) -> Range<Offset> {
        let from = self.spans.partition_point(|span| span.start <= bytes.start).saturating_sub(1);
        let behind = self.spans.partition_point(|span| span.start < bytes.end);
        self.spans[from].first..self.spans.get(behind).map_or(self.next, |span| span.first)
    }

    pub(super) fn range(&self) -> RecRange {
        RecRange {
            partition: self.partition,
            first: self.first(),
            next: self.next,
            bytes: self.end - self.start(),
            max_timestamp_ms: self.spans.iter().map(|span| span.max_timestamp_ms).max().unwrap_or(i64::MIN),
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.0.to_le_bytes());
        out.extend_from_slice(&self.next.0.to_le_bytes());
        out.extend_from_slice(&(self.epochs.len() as u32).to_le_bytes());
        for epoch in &self.epochs {
            out.extend_from_slice(&epoch.epoch.to_le_bytes());
            out.extend_from_slice(&epoch.first.0.to_le_bytes());
        }
        out.extend_from_slice(&(self.spans.len() as u32).to_le_bytes());
        for span in &self.spans {
            out.extend_from_slice(&span.first.0.to_le_bytes());
            out.extend_from_slice(&span.start.to_le_bytes());
            out.extend_from_slice(&span.max_timestamp_ms.to_le_bytes());
        }
    }

    /// Reads an entry. Its end is where the next one starts, and is 0 here.
    pub(super) fn decode(cursor: &mut Cursor<'_>, topic: TopicId) -> Result<Self, Malformed> {
        const EPOCH_BYTES: usize = 12;
        const SPAN_ENTRY_BYTES: usize = 24;
        let (partition, next) = (PartitionId(cursor.u32()?), Offset(cursor.u64()?));
        let count = cursor.count(cursor.remaining() / EPOCH_BYTES)?;
        let mut epoch = || Ok(RecEpoch { epoch: i32::from_le_bytes(cursor.array()?), first: Offset(cursor.u64()?) });
        let epochs = (0..count).map(|_| epoch()).collect::<Result<Vec<_>, _>>()?;
        let count = cursor.count(cursor.remaining() / SPAN_ENTRY_BYTES)?;
        let mut span =
            || Ok(Span { first: Offset(cursor.u64()?), start: cursor.u64()?, max_timestamp_ms: cursor.i64()? });
        let spans = (0..count).map(|_| span()).collect::<Result<Vec<_>, _>>()?;
        let entry = Self { topic, partition, spans, epochs, next, end: 0 };
        entry.contradiction().map_or(Ok(entry), |what| Err(Malformed(what)))
    }

    fn contradiction(&self) -> Option<&'static str> {
        let Some(last) = self.spans.last() else { return Some("a partition has no spans") };
        let ascend = |a: &Span, b: &Span| a.first < b.first && a.start < b.start;
        let checks = [
            (!self.spans.is_sorted_by(ascend), "the spans of a partition do not ascend"),
            (last.first >= self.next, "a partition's last span has no offsets"),
            (self.next.0 > i64::MAX as u64, "L2: an offset is above 2^63 - 1"),
            (self.epochs.first().is_none_or(|epoch| epoch.first != self.first()), "the first offset has no epoch"),
            (
                !self.epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.first < b.first),
                "the leader epochs of a partition do not ascend",
            ),
            (self.epochs.last().is_some_and(|epoch| epoch.first >= self.next), "a leader epoch has no offsets"),
        ];
        checks.into_iter().find_map(|(wrong, what)| wrong.then_some(what))
    }
}

impl Span {
    fn of(batch: &Placed) -> Self {
        Self { first: batch.first, start: batch.start, max_timestamp_ms: batch.max_timestamp_ms }
    }
}
