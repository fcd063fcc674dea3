//! What to read of each partition, decided under the state locks.

use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, PartitionId, TopicPartition};
use stratalog_query::TopicInfo;
use stratalog_storage::RecMeta;

use crate::shard::{BatchSlot, PartitionState, Shard, ShardState, Source, leader_epoch};
use crate::shards::Shards;

/// What to read of each partition: together about `max_bytes`, and at least one batch of each that has one. What a
/// partition leaves of its share is shared out again among those that have more.
pub(super) fn plan(
    topic: &TopicInfo,
    shards: &Shards,
    wanted: &[(PartitionId, Offset)],
    max_bytes: usize,
) -> Vec<Plan> {
    let mut plans: Vec<Plan> = wanted.iter().map(|(p, offset)| Plan::new(topic, shards, *p, *offset)).collect();
    let mut open: Vec<&mut Plan> = plans.iter_mut().collect();
    let mut rest = max_bytes;
    while rest > 0 && !open.is_empty() {
        let share = rest / open.len();
        open.retain_mut(|plan| {
            let added = plan.extend(topic, share, rest);
            rest = rest.saturating_sub(added);
            added > 0
        });
    }
    plans
}

/// What is to be read of one partition.
pub(super) struct Plan {
    pub(super) tp: TopicPartition,
    pub(super) shard: Option<Arc<Shard>>,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
    /// The offset to go on from.
    next: Offset,
    pub(super) parts: Result<Parts, Error>,
}

/// Where the batches of one partition are, ascending and without gaps: first in replay segments, then in the log.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) recs: Vec<RecPart>,
    pub(super) slots: Vec<SlotPart>,
}

/// Batches of a replay segment, as many as fit.
pub(super) struct RecPart {
    pub(super) meta: Arc<RecMeta>,
    /// The first offset wanted.
    pub(super) from: Offset,
    /// Where the segment's batches of the partition end.
    pub(super) end: Offset,
    /// Bytes of all its batches of the partition.
    bytes: usize,
    /// Bytes to read.
    pub(super) max_bytes: usize,
}

/// A batch in the log.
pub(super) struct SlotPart {
    pub(super) slot: BatchSlot,
    pub(super) leader_epoch: i32,
}

impl Plan {
    /// Nothing yet, or why nothing can be read.
    pub(super) fn new(topic: &TopicInfo, shards: &Shards, partition: PartitionId, next: Offset) -> Self {
        let shard = topic.shards.get(partition.0 as usize).and_then(|id| shards.get(*id));
        let tp = TopicPartition { topic: topic.id, partition };
        let zero = Offset(0);
        let mut plan = Self { tp, shard, log_start: zero, high_watermark: zero, next, parts: Ok(Parts::default()) };
        if let Err(error) = plan.locate(topic) {
            plan.parts = Err(error);
        }
        plan
    }

    /// Whether there is something to say at once: batches, or an error.
    pub(super) fn has_answer(&self) -> bool {
        self.parts.as_ref().map_or(true, |parts| !parts.is_empty())
    }

    /// What is to be read of replay segments.
    pub(super) fn recs(&self) -> &[RecPart] {
        self.parts.as_ref().map_or(&[], |parts| &parts.recs)
    }

    /// What is to be read of the log, after that.
    pub(super) fn slots(&self) -> &[SlotPart] {
        self.parts.as_ref().map_or(&[], |parts| &parts.slots)
    }

    /// Where the first batch is, and an offset in it.
    pub(super) fn first(&self) -> Option<(Source, Offset)> {
        let rec = self.recs().first().map(|part| (Source::Rec(Arc::clone(&part.meta)), part.from));
        rec.or_else(|| self.slots().first().map(|part| (Source::Log(part.slot), part.slot.base_offset)))
    }

    fn locate(&mut self, topic: &TopicInfo) -> Result<(), Error> {
        let partition = self.tp.partition;
        let unknown = || {
            let message =
                format!("topic `{}` has {} partitions, and no partition {partition}", topic.name, topic.partitions);
            Error::new(Code::UnknownPartition, message)
        };
        let shard = self.shard.clone().ok_or_else(unknown)?;
        let ends = shard.read(|state| {
            state.partition(topic.id, partition).map(|found| (found.log_start(), found.high_watermark()))
        });
        let gone = || Error::new(Code::UnknownTopic, format!("topic `{}` was deleted", topic.name));
        (self.log_start, self.high_watermark) = ends.ok_or_else(gone)?;
        if self.next < self.log_start || self.next > self.high_watermark {
            return Err(out_of_range(topic, self, self.next));
        }
        Ok(())
    }

    /// Adds batches of up to `share` bytes, or one that fits `rest`; the first of all is always added. The bytes that were
    /// added; those of a replay segment are an estimate.
    pub(super) fn extend(&mut self, topic: &TopicInfo, share: usize, rest: usize) -> usize {
        let (Ok(parts), Some(shard)) = (&mut self.parts, &self.shard) else { return 0 };
        if self.next >= self.high_watermark {
            return 0;
        }
        let (tp, next) = (self.tp, &mut self.next);
        let high_watermark = &mut self.high_watermark;
        let added = shard.read(|state| {
            let Some(partition) = state.partition(tp.topic, tp.partition) else { return 0 };
            // A replay segment that is new since the last look may reach beyond what was the high watermark then.
            *high_watermark = partition.high_watermark();
            let added = parts.add_recs(state, tp, next, partition.rolled(), share);
            added + parts.add_slots(partition, next, share.saturating_sub(added), rest)
        });
        if self.parts.as_ref().is_ok_and(Parts::is_empty) {
            self.parts = Err(self.lost(topic));
        }
        added
    }

    /// Why there is no batch at an offset that was there a moment ago.
    fn lost(&mut self, topic: &TopicInfo) -> Error {
        let message = format!(
            "L2: no batch holds offset {} of partition {} of `{}`, between its log start {} and high watermark {}",
            self.next, self.tp.partition, topic.name, self.log_start, self.high_watermark
        );
        self.locate(topic).err().unwrap_or_else(|| Error::new(Code::CorruptData, message))
    }
}

impl RecPart {
    /// The batches of the replay segment that holds an offset, from there on; none of their bytes yet.
    fn at(state: &ShardState, tp: TopicPartition, from: Offset) -> Option<Self> {
        let meta = state.manifest().rec_with(tp.topic, tp.partition, from)?;
        let range = meta.range(tp.topic, tp.partition)?;
        let bytes = usize::try_from(range.bytes).unwrap_or(usize::MAX).max(1);
        Some(Self { meta: Arc::clone(meta), from, end: range.next, bytes, max_bytes: 0 })
    }

    /// Whether all of its batches are read: else it is only known once they are where they end.
    fn is_whole(&self) -> bool {
        self.max_bytes >= self.bytes
    }
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.recs.is_empty() && self.slots.is_empty()
    }

    /// Adds batches of replay segments from `next` up to `rolled`; about as many bytes as `share`, and at least one batch
    /// if there is nothing yet.
    fn add_recs(
        &mut self,
        state: &ShardState,
        tp: TopicPartition,
        next: &mut Offset,
        rolled: Offset,
        share: usize,
    ) -> usize {
        let mut added = 0;
        // What was rolled since the last look follows batches that are read from the log: the next fetch reads it.
        while self.slots.is_empty() && *next < rolled && (added < share || self.is_empty()) {
            if self.recs.last().is_none_or(RecPart::is_whole) {
                let Some(part) = RecPart::at(state, tp, *next) else { break };
                self.recs.push(part);
            }
            let part = self.recs.last_mut().expect("one was just added");
            let more = (part.bytes - part.max_bytes).min((share - added).max(1));
            part.max_bytes += more;
            added += more;
            if part.is_whole() {
                *next = part.end;
            }
        }
        added
    }

    /// Adds batches of the log that follow at `next`.
    fn add_slots(&mut self, partition: &PartitionState, next: &mut Offset, share: usize, rest: usize) -> usize {
        let mut bytes = 0;
        for slot in partition.batches_from(*next) {
            // Where replay segments are read first, their batches may end short of the log's: an answer has no holes.
            let follows = slot.base_offset <= *next;
            let limit = if bytes == 0 && self.recs.is_empty() { rest } else { share };
            let fits = self.is_empty() || bytes + slot.len as usize <= limit;
            if !follows || !fits {
                break;
            }
            bytes += slot.len as usize;
            *next = slot.next_offset();
            let term = partition.epoch_of(slot.base_offset).unwrap_or_default();
            self.slots.push(SlotPart { slot: *slot, leader_epoch: leader_epoch(term) });
        }
        bytes
    }
}

fn out_of_range(topic: &TopicInfo, plan: &Plan, offset: Offset) -> Error {
    let message = format!(
        "offset {offset} of partition {} of `{}` cannot be read: it holds offsets {} to {}",
        plan.tp.partition, topic.name, plan.log_start, plan.high_watermark
    );
    Error::new(Code::OffsetOutOfRange, message)
}
