//! The batches of a segment in the order of the log.

use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Offset, PartitionId, RaftIndex, TopicId};

use super::error::RecError;
use super::order::{OrderReader, Ordered};
use super::partition::{PartitionEntry, Placed};
use super::reader::RecReader;
use crate::container::Malformed;

/// The most memory for what is read ahead of all partitions together, unless there are very many.
const AHEAD_BYTES: u64 = 16 << 20;
/// What is read ahead of one partition at most, with very many and with few of them.
const WINDOW_BYTES: (u64, u64) = (16 << 10, 1 << 20);
/// What is read ahead of one partition at first. It doubles from view to view: who takes only a little from a cursor does
/// not pay for much.
const FIRST_WINDOW_BYTES: u64 = 64 << 10;
/// No batch is of an entry above it.
const LEFT_OUT: RaftIndex = RaftIndex(u64::MAX);

/// A batch and what its entry says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecBatchRef {
    /// Its topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: PartitionId,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Of its entry.
    pub index: RaftIndex,
    /// Where it was in its entry, in bytes.
    pub at: u32,
    /// `entry.time`, in nanoseconds since the epoch.
    pub entry_time_ns: i64,
    /// The batch as a consumer gets it: with base offset and leader epoch.
    pub batch: Bytes,
}

/// Goes over the batches of a segment, ascending by (index, at). Blocks on the disk; every byte is read about once, in
/// windows of each partition. It is over after an error, unless [`RecCursor::skip_failed`] lets it go on.
#[derive(Debug)]
pub struct RecCursor {
    reader: Arc<RecReader>,
    steps: Steps,
    failed: bool,
}

impl RecReader {
    /// The batches of entries above `after`, ascending by (index, at).
    ///
    /// # Errors
    /// [`RecError::Io`], and [`RecError::Corrupt`] with file and block.
    pub fn ordered(self: &Arc<Self>, after: RaftIndex) -> Result<RecCursor, RecError> {
        self.ordered_of(|_| Some(after))
    }

    /// The batches of some topics, ascending by (index, at): of each those of entries above what `after` says of it, none
    /// if it says nothing. What is left out is not read.
    ///
    /// # Errors
    /// As [`RecReader::ordered`].
    pub fn ordered_of(self: &Arc<Self>, after: impl Fn(TopicId) -> Option<RaftIndex>) -> Result<RecCursor, RecError> {
        Ok(RecCursor { steps: Steps::new(self, after)?, reader: self.clone(), failed: false })
    }

    pub(super) fn order(&self) -> Result<OrderReader, RecError> {
        let bytes = self.file.view(self.footer.order_section.clone())?;
        Ok(OrderReader::new(bytes, &self.footer.spec, self.footer.partitions.len()))
    }

    pub(super) fn order_malformed(&self, error: Malformed) -> RecError {
        let what = format!("the order of its batches does not decode: {}", error.0);
        RecError::corrupt(self.path(), self.footer.order_section.clone(), what)
    }
}

impl RecCursor {
    /// After the error of one batch: leaves its topic out from there on, so that the cursor goes on with the others; the
    /// topic and the entry of the batch. `None` if it was not the error of a batch: then the cursor stays over.
    pub fn skip_failed(&mut self) -> Option<(TopicId, RaftIndex)> {
        let failed = self.steps.reading.take().filter(|_| self.failed)?;
        let partitions = &self.reader.footer.partitions;
        let topic = partitions[failed.partition as usize].topic;
        let of_topic = self.steps.partitions.iter_mut().zip(partitions).filter(|(_, entry)| entry.topic == topic);
        of_topic.for_each(|(ahead, _)| ahead.after = LEFT_OUT);
        self.failed = false;
        Some((topic, failed.index))
    }
}

impl Iterator for RecCursor {
    type Item = Result<RecBatchRef, RecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.steps.next(&self.reader).transpose()?;
        self.failed = step.is_err();
        Some(step.map(|(batch, placed, bytes)| {
            let entry = &self.reader.footer.partitions[batch.partition as usize];
            RecBatchRef {
                topic: entry.topic,
                partition: entry.partition,
                base_offset: placed.first,
                index: batch.index,
                at: batch.at,
                entry_time_ns: batch.entry_time_ns,
                batch: bytes,
            }
        }))
    }
}

/// How far a walk in the order of the log has come.
#[derive(Debug)]
pub(super) struct Steps {
    order: OrderReader,
    /// Of each partition in the footer.
    partitions: Vec<Ahead>,
    /// The batch whose bytes were asked for last.
    reading: Option<Ordered>,
    max_window_bytes: u64,
}

/// How far one partition was read.
#[derive(Debug)]
struct Ahead {
    /// Only batches of entries above it are read.
    after: RaftIndex,
    /// Where the next batch starts in the file.
    position: u64,
    /// What is read already from there on.
    window: Bytes,
    /// How much is read with the next view.
    window_bytes: u64,
}

impl Steps {
    pub(super) fn new(reader: &RecReader, after: impl Fn(TopicId) -> Option<RaftIndex>) -> Result<Self, RecError> {
        let partitions = &reader.footer.partitions;
        let max_window_bytes = (AHEAD_BYTES / partitions.len().max(1) as u64).clamp(WINDOW_BYTES.0, WINDOW_BYTES.1);
        let window_bytes = FIRST_WINDOW_BYTES.min(max_window_bytes);
        let start = |entry: &PartitionEntry| {
            let after = after(entry.topic).unwrap_or(LEFT_OUT);
            Ahead { after, position: entry.start(), window: Bytes::new(), window_bytes }
        };
        let partitions = partitions.iter().map(start).collect();
        Ok(Self { order: reader.order()?, partitions, reading: None, max_window_bytes })
    }

    /// The next batch: its place in the log, what its header says, and its bytes.
    pub(super) fn next(&mut self, reader: &RecReader) -> Result<Option<(Ordered, Placed, Bytes)>, RecError> {
        loop {
            self.reading = None;
            let Some(batch) = self.order.next().map_err(|error| reader.order_malformed(error))? else {
                return Ok(None);
            };
            let entry = &reader.footer.partitions[batch.partition as usize];
            let ahead = &mut self.partitions[batch.partition as usize];
            if entry.end - ahead.position < batch.len.into() {
                return Err(reader.order_malformed(Malformed("a partition has fewer batches")));
            }
            if batch.index <= ahead.after {
                ahead.position += u64::from(batch.len);
                continue;
            }
            self.reading = Some(batch);
            let bytes = ahead.take(reader, entry, batch.len, self.max_window_bytes)?;
            let position = ahead.position - u64::from(batch.len);
            let placed = reader.placed(entry, &bytes, position)?;
            if placed.len() != bytes.len() {
                return Err(reader.corrupt(entry, position..placed.end, "a batch has another length than its order"));
            }
            return Ok(Some((batch, placed, bytes)));
        }
    }
}

impl Ahead {
    /// The next `len` bytes, which the partition has.
    fn take(
        &mut self,
        reader: &RecReader,
        entry: &PartitionEntry,
        len: u32,
        max_window_bytes: u64,
    ) -> Result<Bytes, RecError> {
        if self.window.len() < len as usize {
            let least = self.position + u64::from(len);
            let end = entry.end.min(least.max(self.position + self.window_bytes));
            self.window_bytes = max_window_bytes.min(self.window_bytes * 2);
            self.window = match reader.view(entry, self.position..end) {
                // Damage behind this batch is met where it is.
                Err(_) if end > least => reader.view(entry, self.position..least)?,
                read => read?,
            };
        }
        self.position += u64::from(len);
        Ok(self.window.split_to(len as usize))
    }
}
