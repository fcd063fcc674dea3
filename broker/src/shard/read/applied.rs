//! Batches in the order in which they were applied: what the materializer makes rows of.

use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::batch::BatchHeader;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, TopicId};
use stratalog_storage::{RecBatchRef, RecMeta};

use super::merge::Merge;

use crate::shard::{Shard, ShardState};

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
    /// The batch as produced; from a replay segment, with base offset and leader epoch filled in.
    pub(crate) batch: Bytes,
}

/// What a step found.
enum Step {
    /// Batches that hold so many bytes in memory.
    Bytes(usize),
    /// Its source went away: it is to be looked up again.
    Moved,
}

impl Shard {
    /// Batches applied above `after`, ascending: at least one if there is one, and those of whole entries up to about
    /// `max_bytes`. Batches that log start has passed, duplicates and refused ones are left out, but count: what is found
    /// refers to its whole entry.
    ///
    /// Blocks on the disk for entries that are no longer in memory: call it from a blocking thread.
    ///
    /// # Errors
    /// [`Code::CorruptData`](stratalog_proto::Code::CorruptData), naming file and offset, or
    /// [`Code::Io`](stratalog_proto::Code::Io).
    pub(crate) fn batches_after(&self, after: RaftIndex, max_bytes: usize) -> Result<Applied, Error> {
        let applied = self.applied();
        let mut found = Applied { batches: Vec::new(), through: after.min(applied) };
        let mut frontier = self.replay_frontier();
        let mut bytes = 0;
        while found.through < applied && (found.batches.is_empty() || bytes < max_bytes) {
            let step = if found.through < frontier {
                self.rolled_step(&mut found, max_bytes - bytes.min(max_bytes))?
            } else {
                self.log_step(&mut found)?
            };
            match step {
                Step::Bytes(held) => bytes += held,
                Step::Moved => frontier = self.replay_frontier(),
            }
        }
        Ok(found)
    }

    /// Adds the batches of the next entry of the log.
    fn log_step(&self, found: &mut Applied) -> Result<Step, Error> {
        let index = RaftIndex(found.through.0 + 1);
        let held = match self.log().payload(index) {
            Ok(Some(payload)) => self.accepted(index, payload, &mut found.batches)?,
            Ok(None) => Step::Bytes(0),
            Err(_) if index <= self.replay_frontier() => Step::Moved,
            Err(error) => return Err(error),
        };
        if matches!(held, Step::Bytes(_)) {
            found.through = index;
        }
        Ok(held)
    }

    /// Adds the entry's accepted batches to `into`. The bytes that they hold in memory are the entry or nothing.
    fn accepted(&self, index: RaftIndex, payload: Bytes, into: &mut Vec<AppliedBatch>) -> Result<Step, Error> {
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
        let rolled = self.read(|state| {
            into.extend(appends.into_iter().filter_map(|(at, append)| {
                let partition = state.partition(append.topic, append.partition)?;
                let slot = partition.slot_at(index, at).filter(|slot| slot.next_offset() > partition.log_start())?;
                Some(AppliedBatch {
                    index,
                    topic: append.topic,
                    partition: append.partition,
                    base_offset: slot.base_offset,
                    entry_time_ns: entry.time_ns(),
                    batch: append.batch,
                })
            }));
            // The slots of a rolled entry are gone: that they were not found says nothing about its batches (S1).
            state.replay_frontier() >= index
        });
        if rolled {
            into.truncate(before);
            return Ok(Step::Moved);
        }
        Ok(Step::Bytes(if into.len() > before { payload_bytes } else { 0 }))
    }

    /// Adds batches of the next replay segments, those of whole entries up to about `max_bytes`.
    fn rolled_step(&self, found: &mut Applied, max_bytes: usize) -> Result<Step, Error> {
        let after = found.through;
        let (segments, end) = self.read(|state| next_segments(state, after));
        match self.rolled_batches(&segments, after, end, max_bytes) {
            Ok(rolled) => {
                let bytes = rolled.batches.iter().map(|batch| batch.batch.len()).sum();
                self.read(|state| {
                    let kept = rolled.batches.into_iter().map(AppliedBatch::from);
                    found.batches.extend(kept.filter(|batch| !batch.is_expired(state)));
                });
                found.through = rolled.through;
                Ok(Step::Bytes(bytes))
            }
            Err(_) if self.read(|state| next_segments(state, after)).0 != segments => Ok(Step::Moved),
            Err(error) => Err(error),
        }
    }

    /// The batches in these segments of entries above `after` and up to `end`: of whole entries, until they exceed
    /// `max_bytes`.
    fn rolled_batches(
        &self,
        segments: &[Arc<RecMeta>],
        after: RaftIndex,
        end: RaftIndex,
        max_bytes: usize,
    ) -> Result<Rolled, Error> {
        let mut merge = Merge::default();
        for meta in segments {
            merge.add(self.recs().reader(meta)?.ordered(after)?)?;
        }
        let mut rolled = Rolled { batches: Vec::new(), through: end };
        let mut bytes = 0;
        while let Some(batch) = merge.next_up_to(end)? {
            if bytes > max_bytes
                && let Some(last) = rolled.batches.last().filter(|last| last.index < batch.index)
            {
                rolled.through = last.index;
                break;
            }
            bytes += batch.batch.len();
            rolled.batches.push(batch);
        }
        Ok(rolled)
    }
}

/// Batches of replay segments, as [`Applied`].
struct Rolled {
    batches: Vec<RecBatchRef>,
    through: RaftIndex,
}

impl AppliedBatch {
    /// Whether log start has passed it, or its partition is gone.
    fn is_expired(&self, state: &ShardState) -> bool {
        let Some(partition) = state.partition(self.topic, self.partition) else { return true };
        let end = BatchHeader::read(&self.batch).map(|header| self.base_offset.0 + header.record_count as u64);
        end.is_ok_and(|end| Offset(end) <= partition.log_start())
    }
}

impl From<RecBatchRef> for AppliedBatch {
    fn from(found: RecBatchRef) -> Self {
        let RecBatchRef { topic, partition, base_offset, index, entry_time_ns, batch, .. } = found;
        Self { index, topic, partition, base_offset, entry_time_ns, batch }
    }
}

/// The replay segments that hold the next entries above `after`, and the last of those entries: all segments with entries
/// up to there are among them. Without any, there is nothing up to the replay frontier.
fn next_segments(state: &ShardState, after: RaftIndex) -> (Vec<Arc<RecMeta>>, RaftIndex) {
    let above = state.manifest().recs_after(after);
    let Some(first) = above.first() else { return (Vec::new(), state.replay_frontier().max(after)) };
    (above.iter().filter(|meta| meta.after < first.through).cloned().collect(), first.through)
}
