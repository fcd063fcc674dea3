//! Batches in the write-ahead log, by their slots.

use bytes::Bytes;
use stratalog_proto::batch::Batch;
use stratalog_proto::{Code, Error};

use crate::shard::{BatchSlot, Shard};

/// Entries as read from the disk stay in memory for batches of at least this part of them; others are copied out.
const KEEP_ENTRY_DIVISOR: usize = 2;

impl Shard {
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
}

/// A copy of its own, so that a batch does not hold the entry that it is a small part of.
fn owned_unless(keep_entry: bool, batch: Bytes) -> Bytes {
    if keep_entry { batch } else { Bytes::copy_from_slice(&batch) }
}
