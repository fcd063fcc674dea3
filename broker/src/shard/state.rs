//! The replicated state of a shard, and how each command changes it.
//!
//! A1: everything here is a function of the state, the index and the entry. No clock, no randomness, no configuration,
//! no map whose order is not its keys'. The cap on producers is a constant of this version, not a setting.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::batch::Batch;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::entry::{Append, Command, Entry};
use stratalog_proto::{Code, Error, PartitionId, RaftIndex, SegmentId, TopicId, TopicPartition, internal};
use stratalog_storage::{Manifest, SealRejected, SegmentMeta, TopicManifest};

use super::partition::PartitionState;
use super::producers::{MAX_PRODUCERS, Producers, Verdict};
use crate::outcome::{CommandResult, Results};

/// The most partitions of one topic in one shard.
const MAX_PARTITIONS: usize = 100_000;

/// A topic that the shard hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicState {
    /// Its settings, as of the last PutTopic.
    pub(crate) config: TopicConfig,
    partitions: BTreeMap<PartitionId, PartitionState>,
}

impl TopicState {
    /// The partitions that the shard hosts, ascending.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (PartitionId, &PartitionState)> {
        self.partitions.iter().map(|(id, state)| (*id, state))
    }
}

/// What an entry did.
#[derive(Debug, PartialEq)]
pub(crate) struct Effects {
    /// One for each command.
    pub(crate) results: Results,
    /// Segments that are no longer in the manifest: their files may go when the last reader lets go.
    pub(crate) removed: Vec<Arc<SegmentMeta>>,
}

/// The state of a shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardState {
    time_ns: i64,
    topics: BTreeMap<TopicId, TopicState>,
    producers: Producers,
    manifest: Manifest,
}

impl ShardState {
    /// A shard without topics.
    pub(crate) fn new() -> Self {
        Self::with_producer_cap(MAX_PRODUCERS)
    }

    pub(super) fn with_producer_cap(cap: usize) -> Self {
        Self {
            time_ns: i64::MIN,
            topics: BTreeMap::new(),
            producers: Producers::new(cap),
            manifest: Manifest::default(),
        }
    }

    /// The newest entry time, in nanoseconds; `i64::MIN` before the first entry.
    pub(crate) fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// The live segments and row frontiers.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The topics that the shard hosts, ascending by id.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (TopicId, &TopicState)> {
        self.topics.iter().map(|(id, state)| (*id, state))
    }

    /// One topic.
    pub(crate) fn topic(&self, topic: TopicId) -> Option<&TopicState> {
        self.topics.get(&topic)
    }

    /// One partition.
    pub(crate) fn partition(&self, topic: TopicId, partition: PartitionId) -> Option<&PartitionState> {
        self.topics.get(&topic)?.partitions.get(&partition)
    }

    /// The (producer, partition) pairs that are remembered.
    pub(crate) fn producers(&self) -> usize {
        self.producers.len()
    }

    /// Applies one entry. A command that is refused changes nothing.
    ///
    /// # Errors
    /// The entry cannot be applied by this version, or is not an entry: the replica has to stop.
    pub(crate) fn apply(&mut self, index: RaftIndex, entry: &Entry) -> Result<Effects, Error> {
        self.time_ns = self.time_ns.max(entry.time_ns());
        self.producers.sweep(index, self.time_ns);
        let mut effects = Effects { results: Vec::with_capacity(entry.len()), removed: Vec::new() };
        let mut commands = entry.commands();
        while let Some(command) = commands.next() {
            let end = commands.position();
            let result = self.command(index, end, command?, &mut effects.removed);
            match result {
                Err(error) if error.code == Code::NewerVersion => return Err(error),
                result => effects.results.push(result),
            }
        }
        Ok(effects)
    }

    /// Applies one command; `end` is where it ends in the entry.
    fn command(
        &mut self,
        index: RaftIndex,
        end: usize,
        command: Command,
        removed: &mut Vec<Arc<SegmentMeta>>,
    ) -> Result<CommandResult, Error> {
        match command {
            Command::Append(append) => self.append(index, end, append),
            Command::Seal(seal) => self.seal(index, &seal),
            Command::Drop(drop) => {
                let dropped = self.drop_segments(&drop)?;
                removed.extend(dropped.iter().cloned());
                Ok(CommandResult::Dropped(dropped))
            }
            Command::PutTopic(put) => self.put_topic(index, &put),
            Command::RemoveTopic(remove) => {
                removed.extend(self.remove_topic(topic_id(&remove.topic)?));
                Ok(CommandResult::Done)
            }
            Command::Roll(_) | Command::Repack(_) | Command::CheckState(_) => {
                Err(Error::new(Code::NotBuilt, "replay segments are not built yet"))
            }
            Command::CreateTopic(_)
            | Command::AlterTopic(_)
            | Command::DeleteTopic(_)
            | Command::AllocateProducerIds(_) => {
                Err(Error::new(Code::InvalidRequest, "a command of the metadata group was proposed to a shard"))
            }
        }
    }

    fn append(&mut self, index: RaftIndex, end: usize, append: Append) -> Result<CommandResult, Error> {
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
        let place = |bytes: usize| u32::try_from(bytes).expect("an entry is smaller than 4 GiB");
        let base_offset = state.append(header, index, place(end - len), place(len));
        self.producers.remember(tp, header, self.time_ns, base_offset);
        Ok(CommandResult::Appended { base_offset, duplicate: false })
    }

    fn seal(&mut self, index: RaftIndex, seal: &internal::Seal) -> Result<CommandResult, Error> {
        if seal.next >= index.0 {
            let message = format!("L4: a seal at index {index} cannot move a row frontier to {}", seal.next);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        self.manifest.seal(seal).map_err(refused)?;
        Ok(CommandResult::Done)
    }

    fn drop_segments(&mut self, drop: &internal::Drop) -> Result<Vec<Arc<SegmentMeta>>, Error> {
        let topic = topic_id(&drop.topic)?;
        let malformed = || Error::new(Code::CorruptData, "a segment id of a drop does not have 16 bytes");
        let ids: Option<Vec<SegmentId>> = drop.segments.iter().map(|id| SegmentId::from_slice(id)).collect();
        let dropped = self.manifest.drop_segments(topic, &ids.ok_or_else(malformed)?);
        if !dropped.is_empty() {
            self.move_log_starts(topic);
        }
        Ok(dropped)
    }

    /// Moves log start of each partition to the lowest offset that still has a live row. Topics without rows keep theirs.
    fn move_log_starts(&mut self, topic: TopicId) {
        let (Some(hosted), Some(live)) = (self.topics.get_mut(&topic), self.manifest.topic(topic)) else { return };
        if hosted.config.format == Format::Raw {
            return;
        }
        for (id, partition) in &mut hosted.partitions {
            let in_tail = partition.first_offset_above(live.row_frontier);
            partition.move_log_start(live.lowest_offset(*id).map_or(in_tail, |sealed| sealed.min(in_tail)));
        }
    }

    fn put_topic(&mut self, index: RaftIndex, put: &internal::PutTopic) -> Result<CommandResult, Error> {
        let topic = topic_id(&put.topic)?;
        let config = put.config.as_ref().ok_or_else(|| Error::new(Code::CorruptData, "PutTopic without settings"))?;
        let config = TopicConfig::from_internal(config)?;
        if put.partitions.len() > MAX_PARTITIONS {
            let message = format!("a shard hosts at most {MAX_PARTITIONS} partitions of a topic");
            return Err(Error::new(Code::InvalidRequest, message));
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

    fn remove_topic(&mut self, topic: TopicId) -> Vec<Arc<SegmentMeta>> {
        if self.topics.remove(&topic).is_some() {
            self.producers.remove_topic(topic);
        }
        let segments = |gone: Arc<TopicManifest>| gone.segments.values().cloned().collect();
        self.manifest.remove_topic(topic).map(segments).unwrap_or_default()
    }
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, Error> {
    let malformed = || Error::new(Code::CorruptData, "the topic id of a command does not have 16 bytes");
    TopicId::from_slice(bytes).ok_or_else(malformed)
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

#[cfg(test)]
mod tests;
