//! The commands of rows: which column segments are live, and what became of the offsets that have no row in one (S1).

use std::collections::BTreeMap;

use stratalog_proto::config::Format;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, SegmentId, TopicId, internal};
use stratalog_storage::sabotage::{Bug, planted};
use stratalog_storage::{MergeRejected, SealRejected};

use super::{Effects, ShardState, TopicState, no_partition, not_hosted, topic_id};
use crate::outcome::CommandResult;
use crate::shard::partition::PartitionState;

/// Offsets by partition.
type Ends = BTreeMap<PartitionId, Offset>;

impl ShardState {
    /// Moves a row frontier, and with it where each partition is sealed to.
    ///
    /// # Errors
    /// [`Code::Conflict`] if it was built on another frontier (S2), or of other rows than there are (S1).
    pub(super) fn seal(
        &mut self,
        index: RaftIndex,
        seal: &internal::Seal,
        effects: &mut Effects,
    ) -> Result<CommandResult, Error> {
        if seal.next >= index.0 {
            let message = format!("L4: a seal at index {index} cannot move a row frontier to {}", seal.next);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let topic = topic_id(&seal.topic)?;
        let is_next = self.manifest.topic(topic).is_some_and(|live| live.row_frontier == RaftIndex(seal.expect));
        let ends = if is_next { self.sealed_ends(topic, seal)? } else { Ends::new() };
        self.manifest.seal(seal).map_err(seal_refused)?;
        if let Some(hosted) = self.topics.get_mut(&topic) {
            for (id, end) in ends {
                hosted.partitions.get_mut(&id).expect("a seal ends in partitions that are hosted").seal(end);
            }
        }
        self.rows_changed(topic, effects);
        Ok(CommandResult::Done)
    }

    /// The first offset above `seal.next` of each partition that may have any between the frontiers.
    ///
    /// # Errors
    /// [`Code::Conflict`]: the seal was built of other rows than there are (S1), or does not say of which.
    fn sealed_ends(&self, topic: TopicId, seal: &internal::Seal) -> Result<Ends, Error> {
        let Some(hosted) = self.topics.get(&topic) else { return Ok(Ends::new()) };
        let said: Ends = seal.ends.iter().map(|end| (PartitionId(end.partition), Offset(end.value))).collect();
        let next = RaftIndex(seal.next);
        let in_log = next >= self.replay_frontier();
        let ends = if in_log { ends_in_log(hosted, next, &said) } else { ends_behind_log(hosted, said) };
        let ends = ends.and_then(|ends| check_rows(hosted, &ends, seal).map(|()| ends));
        ends.map_err(|why| {
            let message = format!("S1: a seal of topic {topic} from {} to {next} {why}", seal.expect);
            Error::new(Code::Conflict, message)
        })
    }

    /// Removes column segments from the manifest.
    pub(super) fn drop_segments(
        &mut self,
        drop: &internal::Drop,
        effects: &mut Effects,
    ) -> Result<CommandResult, Error> {
        let topic = topic_id(&drop.topic)?;
        let malformed = || Error::new(Code::CorruptData, "a segment id of a drop does not have 16 bytes");
        let ids: Option<Vec<SegmentId>> = drop.segments.iter().map(|id| SegmentId::from_slice(id)).collect();
        let dropped = self.manifest.drop_segments(topic, &ids.ok_or_else(malformed)?);
        if !dropped.is_empty() {
            effects.removed.extend(dropped.iter().cloned());
            self.move_log_starts(topic);
            self.log_starts_moved(topic, effects);
            self.rows_changed(topic, effects);
        }
        Ok(CommandResult::Dropped(dropped))
    }

    /// Puts column segments in the place of others.
    ///
    /// # Errors
    /// [`Code::Conflict`] if an input is not live (S2), if the rows of both sides do not agree (S1), or if rows were left
    /// out that log start has not passed, or that nobody asked to erase.
    pub(super) fn merge(&mut self, merge: &internal::Merge, effects: &mut Effects) -> Result<CommandResult, Error> {
        let topic = topic_id(&merge.topic)?;
        self.check_left_out(topic, merge)?;
        effects.removed.extend(self.manifest.merge(merge).map_err(merge_refused)?);
        if merge.trimmed > 0 || merge.erased > 0 {
            self.move_log_starts(topic);
            self.log_starts_moved(topic, effects);
        }
        self.rows_changed(topic, effects);
        Ok(CommandResult::Done)
    }

    /// Whether the rows that a merge leaves out may go.
    fn check_left_out(&self, topic: TopicId, merge: &internal::Merge) -> Result<(), Error> {
        let hosted = self.topics.get(&topic).ok_or_else(|| not_hosted(topic))?;
        let refused = |why: String| Err(Error::new(Code::Conflict, format!("S1: a merge of topic {topic} {why}")));
        for said in &merge.log_starts {
            let present = hosted.partitions.get(&PartitionId(said.partition)).map(|partition| partition.log_start());
            if present.is_none_or(|present| present < Offset(said.value)) {
                let (partition, said) = (said.partition, said.value);
                return refused(format!(
                    "was built on log start {said} of partition {partition}, and it is {present:?}"
                ));
            }
        }
        if merge.trimmed > 0 && merge.log_starts.is_empty() {
            return refused("leaves out rows below log start, and does not say of which partition".to_owned());
        }
        if merge.erased > 0 && !self.erasures.is_running(topic) {
            return refused(format!("leaves out {} erased rows, and no erasure of it is under way", merge.erased));
        }
        Ok(())
    }

    /// Moves log start of partitions forward, to at most their high watermark. What nobody can read any more leaves the
    /// manifest.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], [`Code::UnknownPartition`]: no log start has moved.
    pub(super) fn delete_records(
        &mut self,
        delete: &internal::DeleteRecords,
        effects: &mut Effects,
    ) -> Result<CommandResult, Error> {
        let topic = topic_id(&delete.topic)?;
        let hosted = self.topics.get_mut(&topic).ok_or_else(|| not_hosted(topic))?;
        let before: Ends = delete.before.iter().map(|of| (PartitionId(of.partition), Offset(of.value))).collect();
        if let Some(unknown) = before.keys().find(|id| !hosted.partitions.contains_key(id)) {
            return Err(no_partition(topic, *unknown));
        }
        for (id, to) in &before {
            hosted.partitions.get_mut(id).expect("it is hosted").move_log_start(*to);
        }
        let log_starts = before.keys().map(|id| (*id, hosted.partitions[id].log_start())).collect();
        let known = effects.removed.len();
        self.log_starts_moved(topic, effects);
        self.rows_changed(topic, effects);
        Ok(CommandResult::RecordsDeleted { log_starts, dropped: effects.removed[known..].to_vec() })
    }

    /// Moves log start of each partition to the lowest offset that still has a live row. Topics without rows keep theirs.
    fn move_log_starts(&mut self, topic: TopicId) {
        let (Some(hosted), Some(live)) = (self.topics.get_mut(&topic), self.manifest.topic(topic)) else { return };
        if hosted.config.format == Format::Raw {
            return;
        }
        let mut lowest = Ends::new();
        for range in live.segments.values().flat_map(|meta| &meta.ranges) {
            lowest.entry(range.partition).and_modify(|first| *first = range.first.min(*first)).or_insert(range.first);
        }
        for (id, partition) in &mut hosted.partitions {
            let in_tail = partition.sealed();
            partition.move_log_start(lowest.get(id).map_or(in_tail, |sealed| in_tail.min(*sealed)));
        }
    }

    /// Bytes are counted anew, and replay segments go that nobody can read any more.
    fn log_starts_moved(&mut self, topic: TopicId, effects: &mut Effects) {
        self.recount(topic);
        effects.removed_recs.extend(self.remove_dead_recs());
    }

    /// Column segments go whose rows all lie below log start. Then what is known of the topic's offsets has to add up.
    fn rows_changed(&mut self, topic: TopicId, effects: &mut Effects) {
        let Some(hosted) = self.topics.get(&topic) else { return };
        let log_start =
            |id: PartitionId| hosted.partitions.get(&id).map_or(Offset(0), |partition| partition.log_start());
        effects.removed.extend(self.manifest.drop_passed(topic, log_start));
        let hides = planted(Bug::SealWithoutCompare) || planted(Bug::MergeWithoutCompare);
        debug_assert!(
            hides || self.unaccounted(topic) == 0,
            "S1: every sealed offset of topic {topic} is accounted for"
        );
    }

    /// Offsets below where the partitions of a topic are sealed, less those of which the manifest knows what became of
    /// them: 0 (S1).
    pub(crate) fn unaccounted(&self, topic: TopicId) -> i128 {
        let sealed =
            self.topics.get(&topic).map_or(0, |hosted| offsets(hosted.partitions.values().map(|p| p.sealed())));
        sealed - self.manifest.topic(topic).map_or(0, |live| i128::from(live.accounted()))
    }
}

fn offsets(ends: impl Iterator<Item = Offset>) -> i128 {
    ends.map(|end| i128::from(end.0)).sum()
}

/// S1: what a seal has in rows and counts as rowless is what lies between where partitions are sealed and `ends`.
fn check_rows(hosted: &TopicState, ends: &Ends, seal: &internal::Seal) -> Result<(), String> {
    let sealed = ends.keys().map(|id| hosted.partitions[id].sealed());
    let between = offsets(ends.values().copied()) - offsets(sealed);
    let rows: i128 = seal.segments.iter().map(|meta| i128::from(meta.rows)).sum();
    let rowless: i128 = seal.rowless.iter().map(|count| i128::from(count.value)).sum();
    if rows + rowless == between {
        return Ok(());
    }
    Err(format!("has {rows} rows and {rowless} offsets without one, and there are {between} offsets"))
}

/// While every batch above `next` is in the state, the batches say where a seal ends, and what it says itself has to
/// agree. A seal of release 0.1 says nothing.
fn ends_in_log(hosted: &TopicState, next: RaftIndex, said: &Ends) -> Result<Ends, String> {
    let known = |(id, state): (PartitionId, &PartitionState)| {
        let end = state.first_offset_above(next);
        let agrees = said.is_empty() || said.get(&id).copied().unwrap_or(state.sealed()) == end;
        agrees.then_some((id, end)).ok_or_else(|| match said.get(&id) {
            Some(said) => format!("cannot end at offset {said} of partition {id}: the log says {end}"),
            None => format!("leaves out partition {id}, which has offsets up to {end} there"),
        })
    };
    match said.keys().find(|id| !hosted.partitions.contains_key(id)) {
        Some(id) => Err(format!("ends in partition {id}, which is not here")),
        None => hosted.partitions().map(known).collect(),
    }
}

/// Behind the replay frontier only the seal itself says where it ends.
fn ends_behind_log(hosted: &TopicState, said: Ends) -> Result<Ends, String> {
    let possible = |(id, end): &(&PartitionId, &Offset)| {
        hosted.partitions.get(id).is_some_and(|state| (state.sealed()..=state.rolled()).contains(end))
    };
    match said.iter().find(|end| !possible(end)) {
        _ if said.is_empty() => Err("does not say at which offsets it ends, and the log no longer does".to_owned()),
        Some((id, end)) => Err(format!("cannot end at offset {end} of partition {id}")),
        None => Ok(said),
    }
}

fn seal_refused(rejected: SealRejected) -> Error {
    match rejected {
        SealRejected::Malformed(error) => error,
        other => Error::new(Code::Conflict, other.to_string()),
    }
}

fn merge_refused(rejected: MergeRejected) -> Error {
    match rejected {
        MergeRejected::Malformed(error) => error,
        other => Error::new(Code::Conflict, other.to_string()),
    }
}
