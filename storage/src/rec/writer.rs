//! Batches to a durable file.

use std::path::Path;

use bytes::Bytes;
use stratalog_proto::batch::{Batch, HEADER_BYTES};
use stratalog_proto::{Offset, PartitionId, RaftIndex, SegmentId, ShardId, TopicId};

use super::error::RecError;
use super::footer::Footer;
use super::format::{KIND, MAX_PARTITIONS};
use super::meta::RecMeta;
use super::order::{OrderWriter, Ordered};
use super::partition::{PartitionEntry, Placed};
use crate::container::{BlockWriter, Written, write_named};
use crate::io::Io;

/// What a segment is to be, besides its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecSpec {
    /// Its id, and its file's name.
    pub id: SegmentId,
    /// The shard that it belongs to.
    pub shard: ShardId,
    /// The index before its entries.
    pub after: RaftIndex,
    /// The last of its entries.
    pub through: RaftIndex,
}

/// A batch that an entry gave offsets to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecBatch {
    /// Its topic.
    pub topic: TopicId,
    /// Its partition.
    pub partition: PartitionId,
    /// The offset of its first record.
    pub base_offset: Offset,
    /// Of its entry.
    pub index: RaftIndex,
    /// Where it is in its entry, in bytes.
    pub at: u32,
    /// The term of its entry.
    pub leader_epoch: i32,
    /// `entry.time`, in nanoseconds since the epoch.
    pub entry_time_ns: i64,
    /// The whole batch, as produced: with base offset 0.
    pub batch: Bytes,
}

/// The name of a segment's file in its directory.
pub fn rec_file_name(id: SegmentId) -> String {
    format!("{id}.rec")
}

/// Writes batches, ascending by topic, partition and base offset, as `<dir>/<id>.rec`. When it returns, the file and its
/// name are durable. The bytes are a pure function of `spec` and `batches`. Every batch is checked against its own
/// checksum on the way: what follows may free the log that it came from (L4).
///
/// # Errors
/// [`RecError::Refused`] for batches that cannot be a segment: out of order, with a gap between their offsets (L2), of
/// entries outside of the segment's, or damaged; [`RecError::Io`]. No file of that name is left unless it is whole.
pub fn write_rec(io: &dyn Io, dir: &Path, spec: &RecSpec, batches: &[RecBatch]) -> Result<RecMeta, RecError> {
    write_named(io, dir, &rec_file_name(spec.id), |out| {
        let mut file = RecWriter::new(out, spec)?;
        let mut order = Vec::with_capacity(batches.len());
        for batch in batches {
            order.push(file.add(batch)?);
        }
        file.finish(&in_log_order(order).map_err(|what| refused(spec, what))?)
    })
}

/// Sorts batches that ascend by partition and offset. Those of one partition have to ascend in the log, too (L2).
fn in_log_order(mut batches: Vec<Ordered>) -> Result<Vec<Ordered>, String> {
    let mut of_partition = batches.windows(2).filter(|pair| pair[0].partition == pair[1].partition);
    if let Some(pair) = of_partition.find(|pair| pair[0].place() >= pair[1].place()) {
        let (lower, higher) = (pair[0].index, pair[1].index);
        return Err(format!("L2: a batch of entry {lower} has a lower offset than one of entry {higher}"));
    }
    // Each partition ascends already, so that this only merges.
    batches.sort_by_key(Ordered::place);
    Ok(batches)
}

/// A file that is being written, batch by batch.
pub(super) struct RecWriter {
    out: BlockWriter,
    spec: RecSpec,
    partitions: Vec<PartitionEntry>,
}

impl RecWriter {
    pub(super) fn new(mut out: BlockWriter, spec: &RecSpec) -> Result<Self, RecError> {
        let mut entries = [0; 32];
        entries[..8].copy_from_slice(&spec.after.0.to_le_bytes());
        entries[8..16].copy_from_slice(&spec.through.0.to_le_bytes());
        out.write(&KIND.header(spec.shard, spec.id, &entries))?;
        Ok(Self { out, spec: *spec, partitions: Vec::new() })
    }

    /// Adds a batch as it was produced; gives its place in the order of the log.
    fn add(&mut self, of: &RecBatch) -> Result<Ordered, RecError> {
        let at = |what: &str| {
            format!("batch at offset {} of partition {} of topic {}: {what}", of.base_offset, of.partition, of.topic)
        };
        if of.index <= self.spec.after || of.index > self.spec.through {
            return Err(self.refused(at(&format!("its entry {} is not one of the segment's", of.index))));
        }
        let batch = Batch::parse(of.batch.clone()).and_then(|batch| batch.check_dense().map(|()| batch));
        let batch = batch.map_err(|error| self.refused(at(&error.to_string())))?;
        if of.base_offset.0 > i64::MAX as u64 {
            return Err(self.refused(at("L2: it is above 2^63 - 1")));
        }
        let head = batch.patched_header(of.base_offset, of.leader_epoch);
        let placed = Placed::read(&head, self.out.position()).map_err(|what| self.refused(at(&what)))?;
        let partition = self.push((of.topic, of.partition), &placed, &head, &of.batch[HEADER_BYTES..])?;
        let (index, entry_time_ns, len) = (of.index, of.entry_time_ns, of.batch.len() as u32);
        Ok(Ordered { index, at: of.at, entry_time_ns, partition, len })
    }

    /// Adds a batch in two parts as a consumer gets it; gives the number of its partition.
    fn push(
        &mut self,
        key: (TopicId, PartitionId),
        placed: &Placed,
        head: &[u8],
        body: &[u8],
    ) -> Result<u32, RecError> {
        let (topic, partition) = key;
        let of = |what: String| format!("partition {partition} of topic {topic}: {what}");
        match self.partitions.last_mut() {
            Some(last) if last.key() == key => last.push(placed).map_err(|what| refused(&self.spec, of(what)))?,
            Some(last) if last.key() > key => return Err(self.refused(of("it is out of order".to_owned()))),
            _ => self.partitions.push(PartitionEntry::new(topic, partition, placed)),
        }
        self.out.write(head)?;
        self.out.write(body)?;
        Ok(self.partitions.len() as u32 - 1)
    }

    /// Adds a batch of another segment, whose header this is.
    pub(super) fn push_copy(&mut self, key: (TopicId, PartitionId), batch: &[u8]) -> Result<u32, RecError> {
        let placed = Placed::read(batch, self.out.position()).map_err(|what| refused(&self.spec, what))?;
        let (head, body) = batch.split_at(HEADER_BYTES);
        self.push(key, &placed, head, body)
    }

    /// Ends the file. `order` is that of the log.
    pub(super) fn finish(mut self, order: &[Ordered]) -> Result<RecMeta, RecError> {
        self.check(order).map_err(|what| self.refused(what))?;
        let mut encoded = OrderWriter::new(&self.spec);
        order.iter().for_each(|batch| encoded.push(*batch));
        let start = self.out.position();
        self.out.write(&encoded.finish())?;
        let order_section = start..self.out.position();
        let (spec, batches) = (self.spec, order.len() as u32);
        let footer = Footer { spec, batches, partitions: self.partitions, order_section };
        let Some(Written { bytes, blake3 }) = self.out.finish(&KIND, footer.encode())? else {
            return Err(refused(&spec, "its footer would be over 4 GiB".to_owned()));
        };
        let (topics, RecSpec { id, after, through, .. }) = (footer.topics(), spec);
        let max_entry_time_ns = order.iter().map(|batch| batch.entry_time_ns).max().unwrap_or(0);
        Ok(RecMeta { id, after, through, bytes, blake3, topics, max_entry_time_ns })
    }

    fn check(&self, order: &[Ordered]) -> Result<(), String> {
        if order.is_empty() || self.spec.after >= self.spec.through {
            return Err("a replay segment has at least one entry and one batch".to_owned());
        }
        if self.partitions.len() > MAX_PARTITIONS || u32::try_from(order.len()).is_err() {
            return Err(format!("it has more than {MAX_PARTITIONS} partitions, or 2^32 batches"));
        }
        let mut pairs = order.windows(2).map(|pair| (&pair[0], &pair[1]));
        let wrong = |(a, b): &(&Ordered, &Ordered)| {
            a.place() >= b.place() || (a.index == b.index && a.entry_time_ns != b.entry_time_ns)
        };
        match pairs.find(wrong) {
            Some((_, batch)) => Err(format!("entry {} has two batches at {}, or two times", batch.index, batch.at)),
            None => Ok(()),
        }
    }

    fn refused(&self, what: String) -> RecError {
        refused(&self.spec, what)
    }
}

fn refused(spec: &RecSpec, what: String) -> RecError {
    RecError::Refused { id: spec.id, what }
}
