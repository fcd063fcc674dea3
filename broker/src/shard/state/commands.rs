//! The commands of topics: appends, seals, drops, and which partitions are hosted.

use std::collections::BTreeMap;

use stratalog_proto::batch::Batch;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::entry::Append;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, SegmentId, TopicId, TopicPartition, internal};
use stratalog_storage::SealRejected;

use super::{At, Effects, ShardState, TopicState, topic_id};
use crate::outcome::CommandResult;
use crate::shard::partition::{PartitionState, Place};
use crate::shard::producers::Verdict;

/// Offsets by partition.
type Ends = BTreeMap<PartitionId, Offset>;

/// The most partitions of one topic in one shard.
const MAX_PARTITIONS: usize = 100_000;

impl ShardState {
    /// Appends a batch, which ends `end` bytes into its entry, unless it is there already.
    pub(super) fn append(
        &mut self,
        at: At,
        end: usize,
        append: Append,
        effects: &mut Effects,
    ) -> Result<CommandResult, Error> {
        let Append { topic, partition, batch } = append;
        let tp = TopicPartition { topic, partition };
        let hosted = self.topics.get_mut(&topic).ok_or_else(|| not_hosted(topic))?;
        let state = hosted.partitions.get_mut(&partition).ok_or_else(|| no_partition(tp))?;
        let len = batch.len();
        let batch = Batch::parse_trusted(batch)?;
        let header = batch.header();
        if let Verdict::Duplicate(base_offset) = self.producers.check(tp, header, self.time_ns)? {
            return Ok(CommandResult::Appended { base_offset, duplicate: true });
        }
        let small = |bytes: usize| u32::try_from(bytes).expect("an entry is smaller than 4 GiB");
        let place = Place { index: at.index, term: at.term, at: small(end - len), len: small(len) };
        let base_offset = state.append(header, place);
        self.producers.remember(tp, header, self.time_ns, base_offset);
        effects.appended.push(tp);
        Ok(CommandResult::Appended { base_offset, duplicate: false })
    }

    /// Moves a row frontier, and with it where each partition is sealed to.
    pub(super) fn seal(&mut self, index: RaftIndex, seal: &internal::Seal) -> Result<CommandResult, Error> {
        if seal.next >= index.0 {
            let message = format!("L4: a seal at index {index} cannot move a row frontier to {}", seal.next);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let topic = topic_id(&seal.topic)?;
        let is_next = self.manifest.topic(topic).is_some_and(|live| live.row_frontier == RaftIndex(seal.expect));
        let ends = if is_next { self.sealed_ends(topic, seal)? } else { Ends::new() };
        self.manifest.seal(seal).map_err(refused)?;
        if let Some(hosted) = self.topics.get_mut(&topic) {
            for (id, end) in ends {
                hosted.partitions.get_mut(&id).expect("a seal ends in partitions that are hosted").seal(end);
            }
        }
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
            self.move_log_starts(topic);
            self.recount(topic);
            effects.removed_recs.extend(self.remove_dead_recs());
        }
        effects.removed.extend(dropped.iter().cloned());
        Ok(CommandResult::Dropped(dropped))
    }

    /// Moves log start of each partition to the lowest offset that still has a live row. Topics without rows keep theirs.
    fn move_log_starts(&mut self, topic: TopicId) {
        let (Some(hosted), Some(live)) = (self.topics.get_mut(&topic), self.manifest.topic(topic)) else { return };
        if hosted.config.format == Format::Raw {
            return;
        }
        let mut lowest: BTreeMap<PartitionId, Offset> = BTreeMap::new();
        for range in live.segments.values().flat_map(|meta| &meta.ranges) {
            lowest.entry(range.partition).and_modify(|first| *first = range.first.min(*first)).or_insert(range.first);
        }
        for (id, partition) in &mut hosted.partitions {
            let in_tail = partition.sealed();
            partition.move_log_start(lowest.get(id).map_or(in_tail, |sealed| in_tail.min(*sealed)));
        }
    }

    pub(super) fn put_topic(&mut self, index: RaftIndex, put: &internal::PutTopic) -> Result<CommandResult, Error> {
        let topic = topic_id(&put.topic)?;
        let config = put.config.as_ref().ok_or_else(|| Error::new(Code::CorruptData, "PutTopic without settings"))?;
        let config = TopicConfig::from_internal(config)?;
        if put.partitions.len() > MAX_PARTITIONS {
            let message = format!("a shard hosts at most {MAX_PARTITIONS} partitions of a topic");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        if !self.topics.contains_key(&topic) && !self.manifest.recs_of(topic).is_empty() {
            let message = format!("topic {topic} was removed from this shard, and ids are not used again");
            return Err(Error::new(Code::Conflict, message));
        }
        let fresh = || TopicState { config: config.clone(), partitions: BTreeMap::new() };
        let hosted = self.topics.entry(topic).or_insert_with(fresh);
        hosted.config = config.clone();
        for &partition in &put.partitions {
            hosted.partitions.entry(PartitionId(partition)).or_default();
        }
        self.manifest.put_topic(topic, index);
        Ok(CommandResult::Done)
    }

    /// Forgets a topic.
    pub(super) fn remove_topic(&mut self, topic: TopicId, effects: &mut Effects) -> Result<CommandResult, Error> {
        if self.topics.remove(&topic).is_some() {
            self.producers.remove_topic(topic);
            effects.removed_topics.push(topic);
        }
        if let Some(gone) = self.manifest.remove_topic(topic) {
            effects.removed.extend(gone.segments.values().cloned());
        }
        effects.removed_recs.extend(self.remove_dead_recs());
        Ok(CommandResult::Done)
    }
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

fn not_hosted(topic: TopicId) -> Error {
    let message = format!("this shard does not host topic {topic}: it was deleted, or is not yet created here");
    Error::new(Code::UnknownTopic, message)
}

fn no_partition(tp: TopicPartition) -> Error {
    let message = format!("this shard does not host partition {} of topic {}", tp.partition, tp.topic);
    Error::new(Code::UnknownPartition, message)
}

fn refused(rejected: SealRejected) -> Error {
    match rejected {
        SealRejected::Malformed(error) => error,
        other => Error::new(Code::Conflict, other.to_string()),
    }
}
