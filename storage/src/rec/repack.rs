//! A segment with a part of another's partitions, or without some of its records.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::{Buf, Bytes};
use roaring::RoaringTreemap;
use stratalog_proto::batch::{Batch, HEADER_BYTES, without};
use stratalog_proto::{PartitionId, SegmentId, TopicId};

use super::erased::ErasedOffsets;
use super::error::RecError;
use super::meta::RecMeta;
use super::order::{OrderReader, Ordered};
use super::partition::{PartitionEntry, Placed};
use super::reader::RecReader;
use super::writer::{RecSpec, RecWriter, rec_file_name};
use crate::container::write_named;
use crate::io::Io;

/// Bytes that are read at once.
const WALK_BYTES: u64 = 1 << 20;
/// The most that the records of a batch may decompress to, as for whoever makes rows of them. Part of what a repack is a
/// pure function of.
const MAX_BATCH_CONTENT_BYTES: usize = 256 << 20;

/// Writes the batches of the partitions in `keep`, without the records that are `erased`, as segment `id` of the same
/// entries; `None`, and no file, if `from` has none of the partitions. Durable when it returns. It is a pure function of
/// `from`, `id`, `keep` and `erased`; where nothing is erased, the file that [`super::write_rec`] would have written of
/// these batches.
///
/// A batch keeps its offsets whatever is erased of it, see [`without`]; also for what becomes of records that do not decode.
///
/// # Errors
/// As [`RecReader::verify`] for what is read and [`super::write_rec`] for what is written.
pub fn repack(
    io: &dyn Io,
    dir: &Path,
    from: &RecReader,
    id: SegmentId,
    keep: &[(TopicId, PartitionId)],
    erased: &ErasedOffsets,
) -> Result<Option<RecMeta>, RecError> {
    let keep: BTreeSet<_> = keep.iter().copied().collect();
    if !from.footer.partitions.iter().any(|entry| keep.contains(&entry.key())) {
        return Ok(None);
    }
    let spec = RecSpec { id, ..from.footer.spec };
    let written = write_named(io, dir, &rec_file_name(id), |out| {
        let mut file = RecWriter::new(out, &spec)?;
        let copied = copy_batches(from, &keep, erased, &mut file)?;
        file.finish(&copy_order(from, &copied)?)
    });
    written.map(Some)
}

/// What became of a partition of the source.
#[derive(Clone, Default)]
struct Copied {
    /// Its number in the new file, if it was kept.
    number: Option<u32>,
    /// The lengths of its batches, where some have changed.
    lens: Vec<u32>,
}

/// Copies the batches of the partitions that are kept; what became of each partition of `from`.
fn copy_batches(
    from: &RecReader,
    keep: &BTreeSet<(TopicId, PartitionId)>,
    erased: &ErasedOffsets,
    file: &mut RecWriter,
) -> Result<Vec<Copied>, RecError> {
    let (mut walk, mut copied) = (Walk::new(from), vec![Copied::default(); from.footer.partitions.len()]);
    for (entry, copied) in from.footer.partitions.iter().zip(&mut copied) {
        if !keep.contains(&entry.key()) {
            continue;
        }
        let erased = erased.of(entry.topic, entry.partition);
        walk.go_to(entry);
        while let Some((placed, mut batch)) = walk.next(entry)? {
            if let Some(offsets) = erased {
                batch = erase(from, entry, &placed, batch, offsets)?;
                copied.lens.push(batch.len() as u32);
            }
            copied.number = Some(file.push_copy(entry.key(), &batch)?);
        }
    }
    Ok(copied)
}

/// A batch without the records at these offsets; the batch itself if it has none of them.
fn erase(
    from: &RecReader,
    entry: &PartitionEntry,
    placed: &Placed,
    bytes: Bytes,
    offsets: &RoaringTreemap,
) -> Result<Bytes, RecError> {
    if offsets.range_cardinality(placed.first.0..placed.next.0) == 0 {
        return Ok(bytes);
    }
    let batch = Batch::parse(bytes)
        .map_err(|error| from.corrupt(entry, placed.start..placed.end, &format!("a batch: {error}")))?;
    let is_erased = |delta: u32| offsets.contains(placed.first.0 + u64::from(delta));
    Ok(without(&batch, is_erased, MAX_BATCH_CONTENT_BYTES))
}

/// The order of the batches that are kept.
fn copy_order(from: &RecReader, copied: &[Copied]) -> Result<Vec<Ordered>, RecError> {
    let bytes = from.file.view_again(from.footer.order_section.clone())?;
    let mut read = OrderReader::new(bytes, &from.footer.spec, from.footer.partitions.len());
    let mut lens: Vec<_> = copied.iter().map(|copied| copied.lens.iter()).collect();
    let mut order = Vec::new();
    while let Some(batch) = read.next().map_err(|error| from.order_malformed(error))? {
        let of = batch.partition as usize;
        if let Some(partition) = copied[of].number {
            let len = lens[of].next().copied().unwrap_or(batch.len);
            order.push(Ordered { partition, len, ..batch });
        }
    }
    Ok(order)
}

/// A walk over the batches of partitions, ascending, each block verified as it is read.
struct Walk<'a> {
    reader: &'a RecReader,
    position: u64,
    /// What is read already from `position` on; it may hold batches of many partitions.
    window: Bytes,
    /// Where the last batch of all ends.
    end: u64,
}

impl<'a> Walk<'a> {
    fn new(reader: &'a RecReader) -> Self {
        let end = reader.footer.partitions.last().map_or(0, |last| last.end);
        Self { reader, position: 0, window: Bytes::new(), end }
    }

    /// Goes to the first batch of a partition.
    fn go_to(&mut self, entry: &PartitionEntry) {
        let skipped = self.window.len().min((entry.start() - self.position) as usize);
        self.window.advance(skipped);
        self.position = entry.start();
    }

    /// The next batch of this partition, with its bytes; `None` behind the last one.
    fn next(&mut self, entry: &PartitionEntry) -> Result<Option<(Placed, Bytes)>, RecError> {
        if self.position == entry.end {
            return Ok(None);
        }
        self.want(HEADER_BYTES as u64)?;
        let placed = self.reader.placed(entry, &self.window, self.position)?;
        self.want(placed.end - placed.start)?;
        self.position = placed.end;
        Ok(Some((placed, self.window.split_to(placed.len()))))
    }

    /// Makes the window at least `len` bytes long, if there are as many.
    fn want(&mut self, len: u64) -> Result<(), RecError> {
        if (self.window.len() as u64) < len {
            let end = self.end.min(self.position + len.max(WALK_BYTES));
            let viewed = self.reader.file.view_again(self.position..end);
            self.window = viewed.map_err(|error| self.reader.explained(error))?;
        }
        Ok(())
    }
}
