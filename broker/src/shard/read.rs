//! Reading batches back from the log: what the materializer, fetch and `_raw` use.

use std::collections::BTreeMap;

use bytes::Bytes;
use stratalog_proto::batch::Batch;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, TopicId};

use super::partition::BatchSlot;
use super::runtime::Shard;

type RowsByBatch = BTreeMap<(RaftIndex, u32), (BatchSlot, Vec<(Offset, usize)>)>;

/// Entries as read from the disk stay in memory for batches of at least this part of them; others are copied out.
const KEEP_ENTRY_DIVISOR: usize = 2;

/// The most that one record batch may decompress to.
pub(crate) const MAX_BATCH_CONTENT_BYTES: usize = 256 << 20;

/// Batches that were applied, and how far they reach.
pub(crate) struct Applied {
    /// Ascending by index, then by place in the entry.
    pub(crate) batches: Vec<AppliedBatch>,
    /// Every batch at or below this index is included.
    pub(crate) through: RaftIndex,
}

/// One accepted record batch.
pub(crate) struct AppliedBatch {
    /// Of its entry.
    pub(crate) index: RaftIndex,
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
    /// Assigned in apply.
    pub(crate) base_offset: Offset,
    /// `entry.time`: `_ingested_at` of its records.
    pub(crate) entry_time_ns: i64,
    /// The batch as produced (base offset 0).
    pub(crate) batch: Bytes,
}

impl Shard {
    /// Batches applied above `after`, ascending: at least one if there is one, and those of whole entries up to about
    /// `max_bytes`. Batches that log start has passed, duplicates and refused ones are left out, but count: what is found
    /// refers to its whole entry.
    ///
    /// Blocks on the disk for entries that are no longer in memory: call it from a blocking thread.
    ///
    /// # Errors
    /// [`Code::CorruptData`], naming file and offset, or [`Code::Io`].
    pub(crate) fn batches_after(&self, after: RaftIndex, max_bytes: usize) -> Result<Applied, Error> {
        let applied = self.applied();
        let mut found = Applied { batches: Vec::new(), through: after.min(applied) };
        let mut bytes = 0;
        while found.through < applied && (found.batches.is_empty() || bytes < max_bytes) {
            let index = RaftIndex(found.through.0 + 1);
            if let Some(payload) = self.log().payload(index)? {
                bytes += self.accepted(index, payload, &mut found.batches)?;
            }
            found.through = index;
        }
        Ok(found)
    }

    /// Adds the entry's accepted batches to `into`; the bytes that they hold in memory, which is the entry or nothing.
    fn accepted(&self, index: RaftIndex, payload: Bytes, into: &mut Vec<AppliedBatch>) -> Result<usize, Error> {
        let payload_bytes = payload.len();
        let entry = Entry::parse(payload)?;
        let mut appends = Vec::new();
        let mut commands = entry.commands();
        while let Some(command) = commands.next() {
            if let Command::Append(append) = command? {
                appends.push(((commands.position() - append.batch.len()) as u32, append));
            }
        }
        let before = into.len();
        self.read(|state| {
            into.extend(appends.into_iter().filter_map(|(at, append)| {
                let slot = state.partition(append.topic, append.partition)?.slot_at(index, at)?;
                Some(AppliedBatch {
                    index,
                    topic: append.topic,
                    partition: append.partition,
                    base_offset: slot.base_offset,
                    entry_time_ns: entry.time_ns(),
                    batch: append.batch,
                })
            }));
        });
        Ok(if into.len() > before { payload_bytes } else { 0 })
    }

    /// The values of records, for `_raw`: one for each row; `None` for a null value, an offset that is not in the log, or a
    /// record of a batch that does not decode. Each batch is unpacked once, however many of its records are asked for.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// As [`batches_after`](Self::batches_after).
    pub(crate) fn values(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> Result<Vec<Option<Bytes>>, Error> {
        let mut values = vec![None; rows.len()];
        for (slot, wanted) in self.rows_by_batch(topic, rows).into_values() {
            let batch = self.batch(&slot)?;
            // Its records are dead letters, whose reason says that they have no values.
            let Ok(records) = batch.records(MAX_BATCH_CONTENT_BYTES) else { continue };
            let mut wanted = wanted.into_iter().peekable();
            for record in records.map_while(Result::ok) {
                let offset = slot.base_offset.0 + record.offset_delta as u64;
                while let Some((_, row)) = wanted.next_if(|(wanted, _)| wanted.0 == offset) {
                    values[row].clone_from(&record.value);
                }
            }
        }
        Ok(values)
    }

    /// The batches that hold rows, each with the rows' offsets, ascending, and their places in `rows`.
    fn rows_by_batch(&self, topic: TopicId, rows: &[(PartitionId, Offset)]) -> RowsByBatch {
        let mut found = RowsByBatch::new();
        self.read(|state| {
            for (at, (partition, offset)) in rows.iter().enumerate() {
                let slot = state.partition(topic, *partition).and_then(|partition| partition.batch_with(*offset));
                if let Some(slot) = slot {
                    found.entry((slot.index, slot.at)).or_insert_with(|| (*slot, Vec::new())).1.push((*offset, at));
                }
            }
        });
        found.values_mut().for_each(|(_, wanted)| wanted.sort_unstable());
        found
    }

    /// Reads one batch from the log. Blocks on the disk if its entry is no longer in memory.
    pub(crate) fn batch(&self, slot: &BatchSlot) -> Result<Batch, Error> {
        self.batches(std::slice::from_ref(slot)).remove(0)
    }

    /// Reads batches from the log, each with its own result, every entry once. They come ascending by index, whatever their
    /// partitions. Entries are read one after the other, and what is found holds about its own bytes in memory.
    ///
    /// Blocks on the disk.
    pub(crate) fn batches(&self, slots: &[BatchSlot]) -> Vec<Result<Batch, Error>> {
        assert!(slots.is_sorted_by_key(|slot| slot.index), "entries are read in the order of the log");
        slots.chunk_by(|a, b| a.index == b.index).flat_map(|of_entry| self.batches_of_entry(of_entry)).collect()
    }

    fn batches_of_entry(&self, slots: &[BatchSlot]) -> Vec<Result<Batch, Error>> {
        if let Some(cached) = self.log().cached_payload(slots[0].index) {
            return slots.iter().map(|slot| self.batch_in(&cached, slot)).collect();
        }
        let payload = match self.payload_of(&slots[0]) {
            Ok(payload) => payload,
            Err(error) => return vec![Err(error); slots.len()],
        };
        let wanted: usize = slots.iter().map(|slot| slot.len as usize).sum();
        let keep_entry = wanted >= payload.len() / KEEP_ENTRY_DIVISOR;
        let read = |slot| self.bytes_in(&payload, slot).map(|batch| owned_unless(keep_entry, batch));
        slots.iter().map(|slot| Ok(Batch::parse_trusted(read(slot)?)?)).collect()
    }

    fn payload_of(&self, slot: &BatchSlot) -> Result<Bytes, Error> {
        let payload = self.log().payload(slot.index)?;
        payload.ok_or_else(|| self.slot_broken(slot, "its entry holds no commands"))
    }

    /// The batch of `slot` if its entry is in memory.
    pub(crate) fn cached_batch(&self, slot: &BatchSlot) -> Option<Result<Batch, Error>> {
        let payload = self.log().cached_payload(slot.index)?;
        Some(self.batch_in(&payload, slot))
    }

    fn batch_in(&self, payload: &Bytes, slot: &BatchSlot) -> Result<Batch, Error> {
        Ok(Batch::parse_trusted(self.bytes_in(payload, slot)?)?)
    }

    fn bytes_in(&self, payload: &Bytes, slot: &BatchSlot) -> Result<Bytes, Error> {
        let range = slot.at as usize..slot.at as usize + slot.len as usize;
        if range.end > payload.len() {
            return Err(self.slot_broken(slot, "its entry is too short"));
        }
        Ok(payload.slice(range))
    }

    fn slot_broken(&self, slot: &BatchSlot, why: &str) -> Error {
        let message = format!(
            "the batch at offset {} of shard {} cannot be read at index {}: {why}",
            slot.base_offset,
            self.id(),
            slot.index
        );
        Error::new(Code::CorruptData, message)
    }

    /// The term of an applied entry: the leader epoch of its batches.
    pub(crate) fn leader_epoch(&self, index: RaftIndex) -> i32 {
        i32::try_from(self.log().term_of(index).0).unwrap_or(i32::MAX)
    }
}

/// A copy of its own, so that a batch does not hold the entry that it is a small part of.
fn owned_unless(keep_entry: bool, batch: Bytes) -> Bytes {
    if keep_entry { batch } else { Bytes::copy_from_slice(&batch) }
}
