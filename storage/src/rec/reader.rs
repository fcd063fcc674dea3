//! A file back to batches: by offset and by time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::{Offset, PartitionId, RaftIndex, SegmentId, ShardId, TopicId};

use super::error::RecError;
use super::footer::Footer;
use super::format::KIND;
use super::meta::{RecMeta, RecTopicMeta};
use super::partition::{PartitionEntry, Placed, RecEpoch};
use crate::container::{BlockFile, FileError, part_of};
use crate::io::Io;
use crate::segment::Lease;

/// So many answers of the same size are read ahead. One would not do where a reader takes turns among many partitions.
const AHEAD: u64 = 2;

/// A replay segment, open. All calls block on the disk; many threads may read at the same time.
#[derive(Debug)]
pub struct RecReader {
    pub(super) file: BlockFile,
    pub(super) footer: Footer,
}

/// Whole batches of one partition, one after the other, as a consumer gets them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecSlice {
    /// The batches, with base offset and leader epoch in their headers: a slice of the file.
    pub bytes: Bytes,
    /// The base offset of the first.
    pub first: Offset,
    /// One past the highest offset of the last.
    pub next: Offset,
}

impl RecReader {
    /// Opens a file. Reads its footer only.
    ///
    /// # Errors
    /// [`RecError::Io`], [`RecError::Corrupt`] for a file that does not end in an intact footer, and
    /// [`RecError::NewerVersion`].
    pub fn open(io: Arc<dyn Io>, path: &Path) -> Result<Self, RecError> {
        Self::open_leased(Arc::new(Lease::new(io, path.to_owned())))
    }

    pub(super) fn open_leased(lease: Arc<Lease>) -> Result<Self, RecError> {
        let (file, footer) = BlockFile::open(lease, &KIND, Footer::decode)?;
        Ok(Self { file, footer })
    }

    /// Checks that the file is, by its footer, the one that a manifest means.
    pub(super) fn check_is(&self, shard: ShardId, meta: &RecMeta) -> Result<(), RecError> {
        let found = self.with_hash(meta.blake3, meta.max_entry_time_ns);
        if found == *meta && self.shard() == shard {
            return Ok(());
        }
        let what = "its footer is not the one that the manifest means";
        Err(RecError::corrupt(self.path(), self.file.footer(), what))
    }

    /// What a manifest says of the file, with what is in no footer: see [`RecReader::verify`].
    pub(super) fn with_hash(&self, blake3: [u8; 32], max_entry_time_ns: i64) -> RecMeta {
        let (id, after, through) = (self.id(), self.after(), self.through());
        RecMeta { id, after, through, bytes: self.len(), blake3, topics: self.topics(), max_entry_time_ns }
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        self.footer.spec.id
    }

    /// The shard that it belongs to.
    pub fn shard(&self) -> ShardId {
        self.footer.spec.shard
    }

    /// The index before its entries.
    pub fn after(&self) -> RaftIndex {
        self.footer.spec.after
    }

    /// The last of its entries.
    pub fn through(&self) -> RaftIndex {
        self.footer.spec.through
    }

    /// What it holds of which topics, as a manifest says it.
    pub fn topics(&self) -> Vec<RecTopicMeta> {
        self.footer.topics()
    }

    /// How many batches it holds.
    pub fn batches(&self) -> u32 {
        self.footer.batches
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file's length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// The leader epochs of a partition's batches, ascending; none if it has none here.
    pub fn epochs(&self, topic: TopicId, partition: PartitionId) -> &[RecEpoch] {
        self.footer.find(topic, partition).map_or(&[], |at| &self.footer.partitions[at].epochs)
    }

    /// Whole batches of a partition, the first of which holds offset `from`: as many as fit in about `max_bytes`, at least
    /// one. `None` if the segment does not hold `from`.
    ///
    /// This is one view of the file. Where it begins and ends on spans of 32 KiB, as it does for whoever reads on from
    /// [`RecSlice::next`], no more bytes are read than are given.
    ///
    /// # Errors
    /// [`RecError::Io`], and [`RecError::Corrupt`] with file, block and offsets.
    pub fn read(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Option<RecSlice>, RecError> {
        let Some(entry) = self.entry_with(topic, partition, from) else { return Ok(None) };
        let (number, max_bytes) = (entry.span_with(from), max_bytes as u64);
        let span = entry.span_bytes(number);
        let starts_span = entry.spans[number].first == from;
        let begins_by = if starts_span { span.start } else { span.end };
        let (ends_by, _) = entry.last_end(begins_by.saturating_add(max_bytes));
        let view_end = if ends_by > span.start { ends_by } else { span.end };
        let bytes = self.view(entry, span.start..view_end)?;
        let first = self.batch_with(entry, &bytes, span.start, from)?;
        let (end, next) = self.end_of_answer(entry, &bytes, span.start, &first, max_bytes)?;
        // Whoever reads on takes its time with this answer, and meanwhile the device can find the next ones.
        self.file.will_need(end..entry.end.min(end.saturating_add(AHEAD.saturating_mul(max_bytes))));
        let answer = (first.start - span.start) as usize..(end - span.start) as usize;
        Ok(Some(RecSlice { bytes: part_of(&bytes, answer), first: first.first, next }))
    }

    /// The first batch of a partition that has an offset from `from` on and claims a timestamp from `timestamp_ms` on. The
    /// first *record* from that time on is in it, or in one behind it: a batch may claim what its records below `from`
    /// have. `None` if there is no such batch.
    ///
    /// # Errors
    /// As [`RecReader::read`].
    pub fn offset_at_time(
        &self,
        topic: TopicId,
        partition: PartitionId,
        from: Offset,
        timestamp_ms: i64,
    ) -> Result<Option<RecSlice>, RecError> {
        let Some(at) = self.footer.find(topic, partition) else { return Ok(None) };
        let entry = &self.footer.partitions[at];
        let wanted = |batch: &Placed| batch.next > from && batch.max_timestamp_ms >= timestamp_ms;
        for number in entry.span_with(from)..entry.spans.len() {
            if entry.spans[number].max_timestamp_ms < timestamp_ms {
                continue;
            }
            // Only in the first of them it may be that all such batches lie below `from`.
            let found = self.find_in_span(entry, entry.span_bytes(number), wanted)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first batch of a span that is wanted.
    fn find_in_span(
        &self,
        entry: &PartitionEntry,
        span: Range<u64>,
        wanted: impl Fn(&Placed) -> bool,
    ) -> Result<Option<RecSlice>, RecError> {
        let bytes = self.view(entry, span.clone())?;
        let mut position = span.start;
        while position < span.end {
            let batch = self.placed_in(entry, &bytes, span.start, position)?;
            if wanted(&batch) {
                let place = (batch.start - span.start) as usize..(batch.end - span.start) as usize;
                let bytes = part_of(&bytes, place);
                return Ok(Some(RecSlice { bytes, first: batch.first, next: batch.next }));
            }
            position = batch.end;
        }
        Ok(None)
    }

    /// The partition's entry, if the segment holds this offset of it.
    fn entry_with(&self, topic: TopicId, partition: PartitionId, offset: Offset) -> Option<&PartitionEntry> {
        let entry = &self.footer.partitions[self.footer.find(topic, partition)?];
        (entry.first() <= offset && offset < entry.next).then_some(entry)
    }

    /// The batch that holds an offset, in `bytes` that lie at `start` in the file.
    fn batch_with(
        &self,
        entry: &PartitionEntry,
        bytes: &Bytes,
        start: u64,
        offset: Offset,
    ) -> Result<Placed, RecError> {
        let mut batch = self.placed_in(entry, bytes, start, start)?;
        while batch.next <= offset {
            batch = self.placed_in(entry, bytes, start, batch.end)?;
        }
        if batch.first > offset {
            let what = format!("the batch that has to hold offset {offset} begins at {}", batch.first);
            return Err(self.corrupt(entry, batch.start..batch.end, &what));
        }
        Ok(batch)
    }

    /// Where an answer ends that begins with `first`, and the offset that follows: at a span if one ends in time, so that no
    /// header in between needs to be read, else behind the last batch that fits.
    fn end_of_answer(
        &self,
        entry: &PartitionEntry,
        bytes: &Bytes,
        start: u64,
        first: &Placed,
        max_bytes: u64,
    ) -> Result<(u64, Offset), RecError> {
        let (limit, read_to) = (first.start.saturating_add(max_bytes), start + bytes.len() as u64);
        let (end, next) = entry.last_end(limit);
        if (first.end..=read_to).contains(&end) {
            return Ok((end, next));
        }
        let (mut end, mut next) = (first.end, first.next);
        while end < limit.min(read_to) {
            let batch = self.placed_in(entry, bytes, start, end)?;
            if batch.end > limit {
                break;
            }
            (end, next) = (batch.end, batch.next);
        }
        Ok((end, next))
    }

    /// The batch at `position` of the file, in `bytes` that lie at `start` and hold all of it.
    fn placed_in(&self, entry: &PartitionEntry, bytes: &Bytes, start: u64, position: u64) -> Result<Placed, RecError> {
        let rest = bytes.get((position - start) as usize..).unwrap_or_default();
        let batch = self.placed(entry, rest, position)?;
        if batch.end > start + bytes.len() as u64 {
            return Err(self.corrupt(entry, position..batch.end, "a batch does not end within its span"));
        }
        Ok(batch)
    }

    /// What the header at `position` says, once it was judged; `bytes` begin there.
    pub(super) fn placed(&self, entry: &PartitionEntry, bytes: &[u8], position: u64) -> Result<Placed, RecError> {
        let malformed = |what: String| self.corrupt(entry, position..entry.end, &format!("a batch: {what}"));
        let batch = Placed::read(bytes, position).map_err(malformed)?;
        let within = batch.end <= entry.end && batch.first >= entry.first() && batch.next <= entry.next;
        if !within {
            return Err(self.corrupt(entry, position..entry.end, "a batch does not lie within its partition"));
        }
        Ok(batch)
    }

    /// Bytes of a partition.
    pub(super) fn view(&self, entry: &PartitionEntry, range: Range<u64>) -> Result<Bytes, RecError> {
        self.file.view(range).map_err(|error| match error {
            FileError::Corrupt { range, what, .. } => self.corrupt(entry, range, &what),
            other => other.into(),
        })
    }

    /// Damage that concerns a partition: says which offsets can no longer be read.
    pub(super) fn corrupt(&self, entry: &PartitionEntry, range: Range<u64>, what: &str) -> RecError {
        let lost = entry.offsets_in(&range);
        let what = format!(
            "{what}; it concerns offsets {}..{} of partition {} of topic {}",
            lost.start, lost.end, entry.partition, entry.topic
        );
        RecError::corrupt(self.path(), range, what)
    }

    /// Damage anywhere in the file: names the first partition that it concerns, and how many more.
    pub(super) fn explained(&self, error: FileError) -> RecError {
        let FileError::Corrupt { range, what, .. } = error else { return error.into() };
        let partitions = &self.footer.partitions;
        let from = partitions.partition_point(|entry| entry.end <= range.start);
        let to = partitions.partition_point(|entry| entry.start() < range.end);
        match to.saturating_sub(from) {
            0 => RecError::corrupt(self.path(), range, what),
            1 => self.corrupt(&partitions[from], range, &what),
            more => self.corrupt(&partitions[from], range, &format!("{what}; it concerns {more} partitions")),
        }
    }
}
