//! A partition's part of the shard state: which batches hold which offsets.

use std::collections::VecDeque;

use stratalog_proto::batch::BatchHeader;
use stratalog_proto::{Offset, RaftIndex, Term};
use stratalog_storage::RecRange;

use super::epochs::Epochs;

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

/// Where a batch was found in its entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) index: RaftIndex,
    pub(super) term: Term,
    /// Where the batch begins in the entry, in bytes.
    pub(super) at: u32,
    /// Bytes of it.
    pub(super) len: u32,
}

/// One partition. Its batches above the replay frontier are here, ascending and without gaps (L2); those at or below it
/// are in replay segments. Batches stay here although log start has passed them: every replica makes the same replay
/// segment of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartitionState {
    slots: VecDeque<BatchSlot>,
    log_start: Offset,
    high_watermark: Offset,
    /// The first offset above the topic's row frontier.
    sealed: Offset,
    epochs: Epochs,
    /// Bytes of `slots` at or above log start.
    slot_bytes: u64,
    /// Bytes in replay segments, of ranges that do not end below log start.
    rolled_bytes: u64,
}

/// A partition in numbers, as it is kept.
pub(super) struct Kept {
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
    pub(super) sealed: Offset,
    pub(super) epochs: Epochs,
    pub(super) slots: VecDeque<BatchSlot>,
}

impl PartitionState {
    /// A partition that was kept, none of it counted in replay segments yet, in a shard with this replay frontier.
    ///
    /// # Errors
    /// What contradicts itself in it.
    pub(super) fn restore(kept: Kept, frontier: RaftIndex) -> Result<Self, &'static str> {
        let Kept { log_start, high_watermark, sealed, epochs, slots } = kept;
        let most = Offset(i64::MAX as u64);
        let mut next = slots.front().map_or(high_watermark, |first| first.base_offset);
        let mut place = (frontier, u32::MAX);
        for slot in &slots {
            if slot.base_offset != next || slot.base_offset > most || slot.records == 0 {
                return Err("L2: the offsets of its batches are not dense");
            }
            if (slot.index, slot.at) <= place {
                return Err("its batches do not ascend, or are not above the replay frontier");
            }
            (next, place) = (slot.next_offset(), (slot.index, slot.at));
        }
        let first = slots.front().map(|slot| slot.base_offset);
        let checks = [
            (next != high_watermark || high_watermark > most, "L2: its batches do not end at its high watermark"),
            (log_start > high_watermark || sealed > high_watermark, "it begins or is sealed above its high watermark"),
            (epochs.iter().any(|(_, first)| first >= high_watermark), "an epoch begins above its high watermark"),
            (first.is_some_and(|first| epochs.of(first).is_none()), "a batch is of no epoch"),
        ];
        if let Some((_, what)) = checks.iter().find(|(wrong, _)| *wrong) {
            return Err(what);
        }
        let mut restored = Self { slots, log_start, high_watermark, sealed, epochs, slot_bytes: 0, rolled_bytes: 0 };
        restored.recount();
        Ok(restored)
    }

    /// The lowest offset that can be fetched.
    pub(crate) fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset that the next record will get; everything below it is committed and applied (L3).
    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The first offset above the row frontier of the topic: every row below it is in column segments, or expired.
    pub(crate) fn sealed(&self) -> Offset {
        self.sealed
    }

    /// The lowest offset whose batch is above the replay frontier: offsets below it are in replay segments. The high
    /// watermark if all are.
    pub(crate) fn rolled(&self) -> Offset {
        self.slots.front().map_or(self.high_watermark, |first| first.base_offset)
    }

    /// Bytes of the batches at or above log start. A replay segment in which log start lies counts whole.
    pub(crate) fn bytes(&self) -> u64 {
        self.slot_bytes + self.rolled_bytes
    }

    /// The batches above the replay frontier, ascending.
    pub(crate) fn batches(&self) -> impl ExactSizeIterator<Item = &BatchSlot> {
        self.slots.iter()
    }

    /// The batches above the replay frontier, from the one that holds `offset` on, ascending.
    pub(crate) fn batches_from(&self, offset: Offset) -> impl Iterator<Item = &BatchSlot> {
        let first = self.slots.partition_point(|batch| batch.next_offset() <= offset);
        self.slots.range(first..)
    }

    /// The batches of entries above `after` and up to `through`, as far as they are above the replay frontier; ascending.
    pub(crate) fn batches_between(&self, after: RaftIndex, through: RaftIndex) -> impl Iterator<Item = &BatchSlot> {
        let first = self.slots.partition_point(|batch| batch.index <= after);
        let end = self.slots.partition_point(|batch| batch.index <= through).max(first);
        self.slots.range(first..end)
    }

    /// The batch above the replay frontier that holds `offset`.
    pub(crate) fn batch_with(&self, offset: Offset) -> Option<&BatchSlot> {
        self.batches_from(offset).next().filter(|batch| batch.base_offset <= offset)
    }

    /// The batch of entry `index` that begins `at` bytes into it; `None` if it was refused, a duplicate, or is not above
    /// the replay frontier.
    pub(crate) fn slot_at(&self, index: RaftIndex, at: u32) -> Option<&BatchSlot> {
        let place = self.slots.binary_search_by_key(&(index, at), |batch| (batch.index, batch.at)).ok()?;
        self.slots.get(place)
    }

    /// The leader epoch of a record: the term of its entry. `None` above the high watermark, and for offsets in replay
    /// segments whose epoch is no longer remembered; the segments have it.
    pub(crate) fn epoch_of(&self, offset: Offset) -> Option<Term> {
        self.epochs.of(offset).filter(|_| offset < self.high_watermark)
    }

    /// The newest epoch not above `asked` and the offset at which it ends; `None` if none so old is remembered.
    pub(crate) fn end_of_epoch(&self, asked: Term) -> Option<(Term, Offset)> {
        self.epochs.end_of(asked, self.high_watermark)
    }

    /// The oldest epoch that is remembered and the first offset known to be of it.
    pub(crate) fn oldest_epoch(&self) -> Option<(Term, Offset)> {
        self.epochs().next()
    }

    /// The epochs that are remembered, each with its first offset; both ascending.
    pub(super) fn epochs(&self) -> impl ExactSizeIterator<Item = (Term, Offset)> {
        self.epochs.iter()
    }

    /// The lowest offset of a batch above `index`, which is not below the replay frontier; the high watermark if there is
    /// none.
    pub(super) fn first_offset_above(&self, index: RaftIndex) -> Offset {
        let first = self.slots.partition_point(|batch| batch.index <= index);
        self.slots.get(first).map_or(self.high_watermark, |batch| batch.base_offset)
    }

    /// Gives the next offsets to a batch.
    pub(super) fn append(&mut self, header: &BatchHeader, place: Place) -> Offset {
        let base_offset = self.high_watermark;
        let slot = BatchSlot {
            base_offset,
            records: header.offset_count(),
            index: place.index,
            at: place.at,
            len: place.len,
            max_timestamp_ms: header.max_timestamp_ms,
        };
        assert!(slot.records > 0, "L2: a batch without records has no offsets");
        self.high_watermark = slot.next_offset();
        assert!(self.high_watermark.0 <= i64::MAX as u64, "L2: offsets end at i64::MAX");
        self.epochs.append(place.term, base_offset, self.rolled());
        self.slot_bytes += u64::from(slot.len);
        self.slots.push_back(slot);
        base_offset
    }

    /// Moves the end of what is sealed up to `to`.
    pub(super) fn seal(&mut self, to: Offset) {
        assert!((self.sealed..=self.high_watermark).contains(&to), "S1: a seal ends at an offset that was assigned");
        self.sealed = to;
    }

    /// Moves log start up to `to`. Batches below it stay until they are rolled.
    pub(super) fn move_log_start(&mut self, to: Offset) {
        let to = self.log_start.max(to.min(self.high_watermark));
        let passed = self.batches_from(self.log_start).take_while(|batch| batch.next_offset() <= to);
        self.slot_bytes -= passed.map(|batch| u64::from(batch.len)).sum::<u64>();
        self.log_start = to;
        self.epochs.forget_below(self.rolled().min(to));
    }

    /// Takes out the batches of entries up to `through`: they are in a replay segment now.
    pub(super) fn roll(&mut self, through: RaftIndex) -> Vec<BatchSlot> {
        let count = self.slots.partition_point(|batch| batch.index <= through);
        let rolled: Vec<BatchSlot> = self.slots.drain(..count).collect();
        // A partition that was busy once does not hold on to the memory of it.
        self.slots.shrink_to(2 * self.slots.len());
        let live = rolled.iter().filter(|batch| batch.next_offset() > self.log_start);
        self.slot_bytes -= live.map(|batch| u64::from(batch.len)).sum::<u64>();
        self.epochs.forget_below(self.rolled().min(self.log_start));
        rolled
    }

    /// Counts a range of it in a replay segment, unless log start has passed all of that.
    pub(super) fn count_rolled(&mut self, range: &RecRange) {
        if range.next > self.log_start {
            self.rolled_bytes += range.bytes;
        }
    }

    /// Counts the batches that are here anew, and none in replay segments.
    pub(super) fn recount(&mut self) {
        self.slot_bytes = self.batches_from(self.log_start).map(|batch| u64::from(batch.len)).sum();
        self.rolled_bytes = 0;
    }
}
