//! Rolling: batches leave the state for replay segments, and segments that nobody can read any more leave the manifest.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, TopicId, internal};
use stratalog_storage::{ErasedOffsets, RecMeta, RecRange, RollRejected};

use super::{Effects, PendingRec, ShardState, TopicState};
use crate::outcome::CommandResult;
use crate::shard::partition::BatchSlot;

/// What partitions have in a range of the log, or in the segments of one.
type Ranges = BTreeMap<(TopicId, PartitionId), RecRange>;

impl ShardState {
    /// Moves the replay frontier: the batches up to it leave the state, and the segments that hold them come into the
    /// manifest. Those that log start has passed already leave it at once.
    ///
    /// # Errors
    /// [`Code::Conflict`] if it was built on another frontier, or of other batches than there are (S2): build it again.
    pub(super) fn roll(
        &mut self,
        index: RaftIndex,
        roll: &internal::Roll,
        effects: &mut Effects,
    ) -> Result<CommandResult, Error> {
        if roll.next >= index.0 {
            let message = format!("L4: a roll at index {index} cannot move the replay frontier to {}", roll.next);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let metas: Vec<RecMeta> = roll.segments.iter().map(RecMeta::try_from).collect::<Result<_, _>>()?;
        if RaftIndex(roll.expect) == self.replay_frontier() {
            self.check_ranges(roll, &metas)?;
        }
        self.manifest.roll(roll).map_err(refused)?;
        let through = RaftIndex(roll.next);
        let mut rolled: Vec<PendingRec> = metas.into_iter().map(|meta| self.take_out(meta, through)).collect();
        let removed = self.remove_dead_recs();
        rolled.retain(|rec| removed.iter().all(|gone| gone.id != rec.meta.id));
        effects.rolled.extend(rolled);
        effects.removed_recs.extend(removed);
        Ok(CommandResult::Done)
    }

    /// S2: the segments of a roll hold exactly the batches of its range.
    fn check_ranges(&self, roll: &internal::Roll, metas: &[RecMeta]) -> Result<(), Error> {
        let (after, through) = (RaftIndex(roll.expect), RaftIndex(roll.next));
        let conflict = |what: String| {
            let message = format!("S2: a roll from {after} to {through} {what}; it has to be built again");
            Err(Error::new(Code::Conflict, message))
        };
        if let Some(other) = metas.iter().find(|meta| (meta.after, meta.through) != (after, through)) {
            return conflict(format!("has segment {} of {} to {}", other.id, other.after, other.through));
        }
        let mut held = Ranges::new();
        for (topic, range) in metas.iter().flat_map(RecMeta::ranges) {
            if held.insert((topic, range.partition), *range).is_some() {
                return conflict(format!("has partition {} of topic {topic} twice", range.partition));
            }
        }
        let there = self.ranges_between(after, through);
        match held.keys().chain(there.keys()).find(|at| held.get(at) != there.get(at)) {
            None => Ok(()),
            Some(at @ (topic, partition)) => {
                let (held, there) = (held.get(at), there.get(at));
                conflict(format!("holds {held:?} of partition {partition} of topic {topic}, and the log {there:?}"))
            }
        }
    }

    /// What replay segments of the entries above `after` and up to `through` have to hold.
    fn ranges_between(&self, after: RaftIndex, through: RaftIndex) -> Ranges {
        let partitions = self.topics().flat_map(|(id, topic)| topic.partitions().map(move |(p, state)| (id, p, state)));
        let ranges = partitions.filter_map(|(topic, partition, state)| {
            let range = range_of(partition, state.batches_between(after, through))?;
            Some(((topic, partition), range))
        });
        ranges.collect()
    }

    /// Takes the batches of a segment out of the state.
    fn take_out(&mut self, meta: RecMeta, through: RaftIndex) -> PendingRec {
        let mut batches = Vec::new();
        for (topic, range) in meta.ranges() {
            let id = range.partition;
            let partition = self.topics.get_mut(&topic).and_then(|hosted| hosted.partitions.get_mut(&id));
            let partition = partition.expect("S2: the segments of a roll hold what the state has");
            batches.extend(partition.roll(through).into_iter().map(|slot| (topic, id, slot)));
            partition.count_rolled(range);
        }
        PendingRec { meta: Arc::new(meta), batches, replaces: None, erased: Arc::default() }
    }

    /// Replaces a segment by one without the partitions whose batches there are all below log start, and without the
    /// records that are erased.
    ///
    /// # Errors
    /// [`Code::Conflict`] if the segment is not live, or if something that can be read would be lost (S2).
    pub(super) fn repack(&mut self, repack: &internal::Repack, effects: &mut Effects) -> Result<CommandResult, Error> {
        let add = repack.add.as_ref().filter(|add| !add.topics.is_empty()).map(RecMeta::try_from).transpose()?;
        let whole = self.manifest.recs().iter().find(|meta| meta.id.as_bytes()[..] == repack.remove[..]).cloned();
        if let Some(whole) = &whole {
            self.check_repack(whole, add.as_ref())?;
        }
        let erased = Arc::new(ErasedOffsets::from_proto(&repack.erased)?);
        let replaced = self.manifest.repack(repack).map_err(refused)?;
        erased.iter().for_each(|((topic, _), _)| self.recount(topic));
        match add {
            Some(meta) => {
                let meta = Arc::new(meta);
                effects.rolled.push(PendingRec { meta, batches: Vec::new(), replaces: Some(replaced), erased });
            }
            None => effects.removed_recs.push(replaced),
        }
        Ok(CommandResult::Done)
    }

    /// L1: what a repack leaves out of a segment cannot be read any more.
    fn check_repack(&self, whole: &RecMeta, part: Option<&RecMeta>) -> Result<(), Error> {
        let left_out = |topic, range: &RecRange| part.is_none_or(|part| part.range(topic, range.partition).is_none());
        let lost = |(topic, range): &(TopicId, &RecRange)| {
            left_out(*topic, range) && range.next > log_start(&self.topics, *topic, range.partition)
        };
        match whole.ranges().find(lost) {
            None => Ok(()),
            Some((topic, range)) => {
                let message = format!(
                    "L1: a repack of replay segment {} leaves out offsets {} to {} of partition {} of topic {topic}, \
                     which log start has not passed",
                    whole.id, range.first, range.next, range.partition
                );
                Err(Error::new(Code::Conflict, message))
            }
        }
    }

    /// Removes the segments whose batches are all below log start, or of topics that are gone.
    pub(super) fn remove_dead_recs(&mut self) -> Vec<Arc<RecMeta>> {
        let topics = &self.topics;
        self.manifest.remove_recs(|topic, partition| log_start(topics, topic, partition))
    }

    /// Counts the bytes of all partitions of a topic anew: log start has moved.
    pub(super) fn recount(&mut self, topic: TopicId) {
        let Some(hosted) = self.topics.get_mut(&topic) else { return };
        hosted.partitions.values_mut().for_each(|partition| partition.recount());
        let live = self.manifest.recs_of(topic).iter().filter_map(|meta| meta.topic(topic));
        for range in live.flat_map(|of| &of.ranges) {
            if let Some(partition) = hosted.partitions.get_mut(&range.partition) {
                partition.count_rolled(range);
            }
        }
    }
}

/// Where a partition begins; behind all offsets if it is gone.
fn log_start(topics: &BTreeMap<TopicId, TopicState>, topic: TopicId, partition: PartitionId) -> Offset {
    let hosted = topics.get(&topic).and_then(|topic| topic.partitions.get(&partition));
    hosted.map_or(Offset(u64::MAX), |state| state.log_start())
}

/// The batches of a partition as a range of a segment; `None` if there are none.
fn range_of<'a>(partition: PartitionId, mut batches: impl Iterator<Item = &'a BatchSlot>) -> Option<RecRange> {
    let first = batches.next()?;
    let range = RecRange {
        partition,
        first: first.base_offset,
        next: first.next_offset(),
        bytes: u64::from(first.len),
        max_timestamp_ms: first.max_timestamp_ms,
    };
    Some(batches.fold(range, |range, batch| RecRange {
        next: batch.next_offset(),
        bytes: range.bytes + u64::from(batch.len),
        max_timestamp_ms: range.max_timestamp_ms.max(batch.max_timestamp_ms),
        ..range
    }))
}

fn refused(rejected: RollRejected) -> Error {
    match rejected {
        RollRejected::Malformed(error) => error,
        other => Error::new(Code::Conflict, other.to_string()),
    }
}
