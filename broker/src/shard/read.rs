//! Reading batches back from the log: what the materializer, fetch and `_raw` use.

use std::collections::BTreeMap;

use bytes::Bytes;
use stratalog_proto::batch::Batch;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, TopicId};

use super::partition::BatchSlot;
use super::runtime::Shard;

type RowsByBatch = BTreeMap<(RaftIndex, u32), (BatchSlot, Vec<(Offset, usize)>)>;

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
    /// Batches applied above `after`, ascending: at least one if there is one, and whole entries up to about
    /// `max_bytes`. Batches that log start has passed, duplicates and refused ones are left out.
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

    /// Adds the entry's accepted batches to `into`; the bytes of what was added.
    fn accepted(&self, index: RaftIndex, payload: Bytes, into: &mut Vec<AppliedBatch>) -> Result<usize, Error> {
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
        Ok(into[before..].iter().map(|batch| batch.batch.len()).sum())
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
        self.batch_in(&self.payload_of(slot)?, slot)
    }

    fn payload_of(&self, slot: &BatchSlot) -> Result<Bytes, Error> {
        let payload = self.log().payload(slot.index)?;
        payload.ok_or_else(|| self.slot_broken(slot, "its entry holds no commands"))
    }

    /// Reads batches from the log, an entry that holds several of them once. Blocks on the disk.
    pub(crate) fn batches(&self, slots: &[BatchSlot]) -> Result<Vec<Batch>, Error> {
        let mut last: Option<(RaftIndex, Bytes)> = None;
        let read = |slot: &BatchSlot| {
            let payload = match &last {
                Some((index, payload)) if *index == slot.index => payload.clone(),
                _ => self.payload_of(slot)?,
            };
            last = Some((slot.index, payload.clone()));
            self.batch_in(&payload, slot)
        };
        slots.iter().map(read).collect()
    }

    /// The batch of `slot` if its entry is in memory.
    pub(crate) fn cached_batch(&self, slot: &BatchSlot) -> Option<Result<Batch, Error>> {
        let payload = self.log().cached_payload(slot.index)?;
        Some(self.batch_in(&payload, slot))
    }

    fn batch_in(&self, payload: &Bytes, slot: &BatchSlot) -> Result<Batch, Error> {
        let range = slot.at as usize..slot.at as usize + slot.len as usize;
        if range.end > payload.len() {
            return Err(self.slot_broken(slot, "its entry is too short"));
        }
        Ok(Batch::parse_trusted(payload.slice(range))?)
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
