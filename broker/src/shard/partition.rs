//! A partition's part of the shard state: which batches hold which offsets.

use std::collections::VecDeque;

use stratalog_proto::batch::BatchHeader;
use stratalog_proto::{Offset, RaftIndex};

/// Where one accepted batch is, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSlot {
    /// Offset of its first record.
    pub(crate) base_offset: Offset,
    /// Records in it.
    pub(crate) records: u32,
    /// Of its Raft entry.
    pub(crate) index: RaftIndex,
    /// Where it begins in the entry, in bytes.
    pub(crate) at: u32,
    /// Bytes of it.
    pub(crate) len: u32,
    /// The newest record timestamp, in milliseconds.
    pub(crate) max_timestamp_ms: i64,
}

impl BatchSlot {
    /// The offset after its last record.
    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.base_offset.0 + u64::from(self.records))
    }
}

/// The batches of a partition from log start on, ascending and without gaps (L2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionState {
    batches: VecDeque<BatchSlot>,
    log_start: Offset,
    high_watermark: Offset,
    bytes: u64,
}

impl PartitionState {
    /// The lowest offset that can be fetched.
    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset that the next record will get; everything below it is committed and applied (L3).
    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Bytes of the batches at or above log start.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The batches, ascending.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &BatchSlot> {
        self.batches.iter()
    }

    /// The batches from the one that holds `offset` on, ascending.
    pub(crate) fn batches_from(&self, offset: Offset) -> impl Iterator<Item = &BatchSlot> {
        let first = self.batches.partition_point(|batch| batch.next_offset() <= offset);
        self.batches.range(first..)
    }

    /// The batch that holds `offset`.
    pub(crate) fn batch_with(&self, offset: Offset) -> Option<&BatchSlot> {
        self.batches_from(offset).next().filter(|batch| batch.base_offset <= offset)
    }

    /// The batch of entry `index` that begins `at` bytes into it; `None` if it was refused, a duplicate, or is gone.
    pub(crate) fn slot_at(&self, index: RaftIndex, at: u32) -> Option<&BatchSlot> {
        let place = self.batches.binary_search_by_key(&(index, at), |batch| (batch.index, batch.at)).ok()?;
        self.batches.get(place)
    }

    /// Gives the next offsets to a batch.
    pub(super) fn append(&mut self, header: &BatchHeader, index: RaftIndex, at: u32, len: u32) -> Offset {
        let base_offset = self.high_watermark;
        let slot = BatchSlot {
            base_offset,
            records: header.record_count as u32,
            index,
            at,
            len,
            max_timestamp_ms: header.max_timestamp_ms,
        };
        assert!(slot.records > 0, "L2: a batch without records has no offsets");
        self.high_watermark = slot.next_offset();
        assert!(self.high_watermark.0 <= i64::MAX as u64, "L2: offsets end at i64::MAX");
        self.bytes += u64::from(len);
        self.batches.push_back(slot);
        base_offset
    }

    /// The lowest offset of a batch above `frontier`; the high watermark if there is none.
    pub(crate) fn first_offset_above(&self, frontier: RaftIndex) -> Offset {
        let first = self.batches.partition_point(|batch| batch.index <= frontier);
        self.batches.get(first).map_or(self.high_watermark, |batch| batch.base_offset)
    }

    /// Moves log start up to `to`, and forgets the batches that lie wholly below it.
    pub(super) fn move_log_start(&mut self, to: Offset) {
        self.log_start = self.log_start.max(to.min(self.high_watermark));
        while let Some(batch) = self.batches.front().filter(|batch| batch.next_offset() <= self.log_start) {
            self.bytes -= u64::from(batch.len);
            self.batches.pop_front();
        }
    }
}
