//! Batches in the order in which they were applied: what the materializer makes rows of.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Every batch at or below this index is included, but for those that cannot be read and what follows them.
    pub(crate) through: RaftIndex,
    /// At most one of each topic, at or below `through`: the topic's batches in entries below it are included, no others.
    pub(crate) unreadable: Vec<Unreadable>,
}

/// A batch that cannot be read where the state says that it is (L5).
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    pub(crate) topic: TopicId,
    /// Of its entry.
    pub(crate) index: RaftIndex,
    /// Names the file, and the offsets as far as they are known.
    pub(crate) error: Error,
}

/// The topics whose batches are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'a> {
    /// All that the shard hosts, but for these.
    AllBut(&'a BTreeSet<TopicId>),
    /// This one.
    Only(TopicId),
    /// This one, and also of it what its row frontier has passed.
    AlsoSealed(TopicId),
}

impl Wanted<'_> {
    pub(crate) fn has(self, topic: TopicId) -> bool {
        match self {
            Wanted::AllBut(others) => !others.contains(&topic),
            Wanted::Only(only) | Wanted::AlsoSealed(only) => topic == only,
        }
    }

    /// Batches of a topic in entries up to here are needed no more. `None` if it is not hosted.
    fn needed_after(self, state: &ShardState, topic: TopicId) -> Option<RaftIndex> {
        state.topic(topic)?;
        match self {
            Wanted::AlsoSealed(_) => Some(RaftIndex(0)),
            _ => Some(state.manifest().topic(topic).map_or(RaftIndex(0), |live| live.row_frontier)),
        }
    }
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
    /// refers to its whole entry. Batches in replay segments at or below their topic's row frontier are read only where they are
    /// wanted.
    ///
    /// What cannot be read holds up its own topic only: it is in [`Applied::unreadable`].
    ///
    /// Blocks on the disk for entries that are no longer in memory: call it from a blocking thread.
    pub(crate) fn batches_after(&self, after: RaftIndex, wanted: Wanted<'_>, max_bytes: usize) -> Applied {
        let applied = self.applied();
        let mut found = Applied { batches: Vec::new(), through: after.min(applied), unreadable: Vec::new() };
        let mut frontier = self.replay_frontier();
        let mut bytes = 0;
        while found.through < applied && (found.batches.is_empty() || bytes < max_bytes) {
            let step = if found.through < frontier {
                self.rolled_step(&mut found, wanted, max_bytes - bytes.min(max_bytes))
            } else {
                self.log_step(&mut found, wanted)
            };
            match step {
                Step::Bytes(held) => bytes += held,
                Step::Moved => frontier = self.replay_frontier(),
            }
        }
        found
    }

    /// Adds the batches of the next entry of the log.
    fn log_step(&self, found: &mut Applied, wanted: Wanted<'_>) -> Step {
        let index = RaftIndex(found.through.0 + 1);
        let accepted = match self.log().payload(index) {
            Ok(Some(payload)) => self.accepted(index, payload, wanted, found),
            Ok(None) => Ok(Step::Bytes(0)),
            Err(error) => Err(error),
        };
        let step = accepted.unwrap_or_else(|error| self.entry_lost(index, wanted, &error, found));
        if matches!(step, Step::Bytes(_)) {
            found.through = index;
        }
        step
    }

    /// Adds the entry's accepted batches. The bytes that they hold in memory are the entry or nothing.
    fn accepted(
        &self,
        index: RaftIndex,
        payload: Bytes,
        wanted: Wanted<'_>,
        found: &mut Applied,
    ) -> Result<Step, Error> {
        let payload_bytes = payload.len();
        let entry = Entry::parse(payload)?;
        let mut appends = Vec::new();
        let mut commands = entry.commands();
        while let Some(command) = commands.next() {
            let Command::Append(append) = command? else { continue };
            if found.goes_on_with(append.topic, wanted) {
                appends.push(((commands.position() - append.batch.len()) as u32, append));
            }
        }
        let before = found.batches.len();
        let rolled = self.read(|state| {
            found.batches.extend(appends.into_iter().filter_map(|(at, append)| {
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
            found.batches.truncate(before);
            return Ok(Step::Moved);
        }
        Ok(Step::Bytes(if found.batches.len() > before { payload_bytes } else { 0 }))
    }

    /// Goes on without the topics that have a batch in an entry which cannot be read, unless it was rolled meanwhile.
    fn entry_lost(&self, index: RaftIndex, wanted: Wanted<'_>, error: &Error, found: &mut Applied) -> Step {
        let before = RaftIndex(index.0 - 1);
        self.read(|state| {
            if state.replay_frontier() >= index {
                return Step::Moved;
            }
            let lost = state.topics().filter(|(topic, hosted)| {
                wanted.needed_after(state, *topic).is_some_and(|after| after < index)
                    && found.goes_on_with(*topic, wanted)
                    && hosted.partitions().any(|(_, state)| state.batches_between(before, index).next().is_some())
            });
            let lost: Vec<_> = lost.map(|(topic, _)| Unreadable { topic, index, error: error.clone() }).collect();
            found.unreadable.extend(lost);
            Step::Bytes(0)
        })
    }

    /// Adds batches of the next replay segments, those of whole entries up to about `max_bytes`.
    fn rolled_step(&self, found: &mut Applied, wanted: Wanted<'_>, max_bytes: usize) -> Step {
        let after = found.through;
        let needed = |state: &ShardState, topic| {
            found.goes_on_with(topic, wanted).then(|| wanted.needed_after(state, topic)).flatten()
        };
        let (segments, end) = self.read(|state| next_segments(state, after, needed));
        let rolled = self.rolled_batches(&segments, after, end, max_bytes);
        if !rolled.unreadable.is_empty() && self.read(|state| next_segments(state, after, needed)).0 != segments {
            return Step::Moved;
        }
        let bytes = rolled.batches.iter().map(|batch| batch.batch.len()).sum();
        self.read(|state| {
            let kept = rolled.batches.into_iter().map(AppliedBatch::from);
            found.batches.extend(kept.filter(|batch| !batch.is_expired(state)));
        });
        found.unreadable.extend(rolled.unreadable);
        found.through = rolled.through;
        Step::Bytes(bytes)
    }

    /// The batches in these segments of entries above `after` and up to `end`: of whole entries, until they exceed
    /// `max_bytes`.
    fn rolled_batches(&self, segments: &[Needed], after: RaftIndex, end: RaftIndex, max_bytes: usize) -> Rolled {
        let (mut merge, from) = (Merge::default(), RaftIndex(after.0 + 1));
        for Needed { meta, topics } in segments {
            let of = |topic| topics.get(&topic).map(|above| after.max(*above));
            let cursor = self.recs().reader(meta).and_then(|reader| Ok(reader.ordered_of(of)?));
            let topics: Vec<TopicId> = topics.keys().copied().collect();
            match cursor {
                Ok(cursor) => merge.add(cursor, topics, from),
                Err(error) => merge.leave_out(&topics, from, &error),
            }
        }
        let mut rolled = Rolled { batches: Vec::new(), through: end, unreadable: Vec::new() };
        let mut bytes = 0;
        while let Some(batch) = merge.next_up_to(end) {
            if bytes > max_bytes
                && let Some(last) = rolled.batches.last().filter(|last| last.index < batch.index)
            {
                rolled.through = last.index;
                break;
            }
            bytes += batch.batch.len();
            rolled.batches.push(batch);
        }
        rolled.unreadable = merge.into_unreadable();
        rolled.settle();
        rolled
    }
}

impl Applied {
    /// Whether batches of a topic are still asked for: it is wanted, and nothing of it was unreadable so far.
    fn goes_on_with(&self, topic: TopicId, wanted: Wanted<'_>) -> bool {
        wanted.has(topic) && self.unreadable.iter().all(|lost| lost.topic != topic)
    }
}

/// Batches of replay segments, as [`Applied`].
struct Rolled {
    batches: Vec<RecBatchRef>,
    through: RaftIndex,
    unreadable: Vec<Unreadable>,
}

impl Rolled {
    /// Forgets damage that was met ahead, which is met again, and takes out what came of an entry together with damage.
    fn settle(&mut self) {
        let through = self.through;
        self.unreadable.retain(|lost| lost.index <= through);
        let lost: BTreeMap<TopicId, RaftIndex> = self.unreadable.iter().map(|lost| (lost.topic, lost.index)).collect();
        self.batches.retain(|batch| lost.get(&batch.topic).is_none_or(|index| batch.index < *index));
    }
}

impl AppliedBatch {
    /// Whether log start has passed it, or its partition is gone.
    fn is_expired(&self, state: &ShardState) -> bool {
        let Some(partition) = state.partition(self.topic, self.partition) else { return true };
        let end = BatchHeader::read(&self.batch).map(|header| self.base_offset.0 + u64::from(header.offset_count()));
        end.is_ok_and(|end| Offset(end) <= partition.log_start())
    }
}

impl From<RecBatchRef> for AppliedBatch {
    fn from(found: RecBatchRef) -> Self {
        let RecBatchRef { topic, partition, base_offset, index, entry_time_ns, batch, .. } = found;
        Self { index, topic, partition, base_offset, entry_time_ns, batch }
    }
}

/// A replay segment, and the topics that are to be read of it, each with the index above which it is.
#[derive(PartialEq)]
struct Needed {
    meta: Arc<RecMeta>,
    topics: BTreeMap<TopicId, RaftIndex>,
}

impl Needed {
    fn of(
        state: &ShardState,
        meta: &Arc<RecMeta>,
        needed: impl Fn(&ShardState, TopicId) -> Option<RaftIndex>,
    ) -> Option<Self> {
        let wanted = meta.topics.iter().filter_map(|of| Some((of.topic, needed(state, of.topic)?)));
        let topics: BTreeMap<_, _> = wanted.filter(|(_, after)| *after < meta.through).collect();
        (!topics.is_empty()).then(|| Self { meta: Arc::clone(meta), topics })
    }
}

/// The replay segments that hold the next entries above `after` that are `needed`, and the last of those entries: all segments with
/// needed entries up to there are among them. Without any, nothing up to the replay frontier is needed.
fn next_segments(
    state: &ShardState,
    after: RaftIndex,
    needed: impl Fn(&ShardState, TopicId) -> Option<RaftIndex>,
) -> (Vec<Needed>, RaftIndex) {
    let above = state.manifest().recs_after(after);
    let first = above.iter().find_map(|meta| Needed::of(state, meta, &needed));
    let Some(end) = first.map(|first| first.meta.through) else {
        return (Vec::new(), state.replay_frontier().max(after));
    };
    let up_to_there = above.iter().filter(|meta| meta.after < end);
    (up_to_there.filter_map(|meta| Needed::of(state, meta, &needed)).collect(), end)
}
