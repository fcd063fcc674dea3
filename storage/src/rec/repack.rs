//! A segment with a part of another's partitions.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::{Buf, Bytes};
use stratalog_proto::batch::HEADER_BYTES;
use stratalog_proto::{PartitionId, SegmentId, TopicId};

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

/// Writes the batches of the partitions in `keep` as segment `id` of the same entries; `None`, and no file, if `from` has
/// none of them. Durable when it returns. It is the file that [`super::write_rec`] would have written of these batches: a
/// pure function of `from`, `id` and `keep`.
///
/// # Errors
/// As [`RecReader::verify`] for what is read and [`super::write_rec`] for what is written.
pub fn repack(
    io: &dyn Io,
    dir: &Path,
    from: &RecReader,
    id: SegmentId,
    keep: &[(TopicId, PartitionId)],
) -> Result<Option<RecMeta>, RecError> {
    let keep: BTreeSet<_> = keep.iter().copied().collect();
    if !from.footer.partitions.iter().any(|entry| keep.contains(&entry.key())) {
        return Ok(None);
    }
    let spec = RecSpec { id, ..from.footer.spec };
    let written = write_named(io, dir, &rec_file_name(id), |out| {
        let mut file = RecWriter::new(out, &spec)?;
        let numbers = copy_batches(from, &keep, &mut file)?;
        file.finish(&copy_order(from, &numbers)?)
    });
    written.map(Some)
}

/// Copies the batches of the partitions that are kept; gives the new number of each partition of `from`.
fn copy_batches(
    from: &RecReader,
    keep: &BTreeSet<(TopicId, PartitionId)>,
    file: &mut RecWriter,
) -> Result<Vec<Option<u32>>, RecError> {
    let (mut walk, mut numbers) = (Walk::new(from), vec![None; from.footer.partitions.len()]);
    for (entry, number) in from.footer.partitions.iter().zip(&mut numbers) {
        if !keep.contains(&entry.key()) {
            continue;
        }
        walk.go_to(entry);
        while let Some((placed, bytes)) = walk.next(entry)? {
            let (head, body) = bytes.split_at(HEADER_BYTES);
            *number = Some(file.push_copy(entry.key(), placed, head, body)?);
        }
    }
    Ok(numbers)
}

/// The order of the batches that are kept.
fn copy_order(from: &RecReader, numbers: &[Option<u32>]) -> Result<Vec<Ordered>, RecError> {
    let bytes = from.file.view_again(from.footer.order_section.clone())?;
    let mut read = OrderReader::new(bytes, &from.footer.spec, from.footer.partitions.len());
    let mut order = Vec::new();
    while let Some(batch) = read.next().map_err(|error| from.order_malformed(error))? {
        if let Some(partition) = numbers[batch.partition as usize] {
            order.push(Ordered { partition, ..batch });
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
