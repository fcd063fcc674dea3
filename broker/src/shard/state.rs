//! The replicated state of a shard, and how each command changes it.
//!
//! A1: everything here is a function of the state, the index, the term and the entry. No clock, no randomness, no
//! configuration, nothing of what this node has on its disk, no map whose order is not its keys'. The cap on producers is
//! a constant of this version, not a setting.

use std::collections::BTreeMap;

use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Code, Error, PartitionId, RaftIndex, Term, TopicId, TopicPartition};
use stratalog_storage::Manifest;

use super::partition::{BatchSlot, PartitionState};
use super::producers::{MAX_PRODUCERS, ProducerInfo, Producers};
use crate::outcome::CommandResult;
use erasures::Erasures;

mod codec;
mod commands;
mod digest;
mod effects;
mod erasures;
mod groups;
mod passed;
mod rehearse;
mod rolling;
mod rows;
#[cfg(test)]
mod tests;

pub(super) use digest::Sink;
pub(crate) use digest::StateHash;
pub(crate) use effects::{Effects, PendingRec};
pub(crate) use erasures::{Erasure, MAX_PREDICATE_BYTES};
pub(crate) use groups::{
    CommittedOffset, Group, GroupTable, MAX_GROUP_ID_BYTES, MAX_INSTANCE_BYTES, MAX_MEMBERS, MAX_MEMBERSHIP_BYTES,
    MAX_NAME_BYTES, MAX_OFFSET_METADATA_BYTES, MAX_PROTOCOLS, Member, Membership, Phase,
};
pub(crate) use passed::Passed;

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

/// The state of a shard.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardState {
    time_ns: i64,
    topics: BTreeMap<TopicId, TopicState>,
    producers: Producers,
    manifest: Manifest,
    erasures: Erasures,
    groups: GroupTable,
    hashed: Option<StateHash>,
}

/// Where an entry is in the log.
#[derive(Clone, Copy, Debug)]
struct At {
    index: RaftIndex,
    term: Term,
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
            erasures: Erasures::default(),
            groups: GroupTable::default(),
            hashed: None,
        }
    }

    /// The newest entry time, in nanoseconds; `i64::MIN` before the first entry.
    pub(crate) fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// The live segments and the frontiers.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The batches of entries at or below it are in replay segments.
    pub(crate) fn replay_frontier(&self) -> RaftIndex {
        self.manifest.replay_frontier()
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

    /// Whether it hosts at least these partitions of a topic, with these settings.
    pub(crate) fn hosts(&self, topic: TopicId, config: &TopicConfig, partitions: &[u32]) -> bool {
        self.topics.get(&topic).is_some_and(|hosted| {
            let all = || partitions.iter().all(|partition| hosted.partitions.contains_key(&PartitionId(*partition)));
            hosted.config == *config && all()
        })
    }

    /// The offsets that the entries up to `index` gave to all partitions of a topic. `None` if that is not known any
    /// more: below the replay frontier it is only known at the topic's row frontier.
    pub(crate) fn offsets_through(&self, topic: TopicId, index: RaftIndex) -> Option<u64> {
        let Some(hosted) = self.topics.get(&topic) else { return Some(0) };
        let in_log = index >= self.replay_frontier();
        let row_frontier = self.manifest.topic(topic).map(|live| live.row_frontier);
        if !in_log && row_frontier != Some(index) {
            return None;
        }
        let end = |state: &PartitionState| if in_log { state.first_offset_above(index) } else { state.sealed() };
        Some(hosted.partitions.values().map(|state| end(state).0).sum())
    }

    /// The batches of entries above `after` and up to `through` that are above the replay frontier, by topic, partition and
    /// offset. What a replay segment of that range has to hold, whether log start has passed it or not.
    pub(crate) fn batches_between(
        &self,
        after: RaftIndex,
        through: RaftIndex,
    ) -> Vec<(TopicId, PartitionId, BatchSlot)> {
        let partitions =
            self.topics().flat_map(|(topic, hosted)| hosted.partitions().map(move |(p, state)| (topic, p, state)));
        let batches = partitions.flat_map(|(topic, partition, state)| {
            state.batches_between(after, through).map(move |slot| (topic, partition, *slot))
        });
        batches.collect()
    }

    /// The consumer groups that live in the shard.
    pub(crate) fn groups(&self) -> &GroupTable {
        &self.groups
    }

    /// The idempotent producers of a partition, ascending by id.
    pub(crate) fn producers_of(&self, tp: TopicPartition) -> Vec<ProducerInfo> {
        self.producers.of(tp, self.time_ns)
    }

    /// The (producer, partition) pairs that are remembered.
    pub(crate) fn producers(&self) -> usize {
        self.producers.len()
    }

    /// Applies one entry. A command that is refused changes nothing.
    ///
    /// # Errors
    /// The entry cannot be applied by this version, is not an entry, or shows that this replica is not what the others are
    /// (A1): the replica has to stop.
    pub(crate) fn apply(&mut self, index: RaftIndex, term: Term, entry: &Entry) -> Result<Effects, Error> {
        self.time_ns = self.time_ns.max(entry.time_ns());
        self.producers.sweep(index, self.time_ns);
        let mut effects = Effects::default();
        effects.results.reserve(entry.len());
        let mut commands = entry.commands();
        while let Some(command) = commands.next() {
            let end = commands.position();
            let command = command?;
            let is_check = matches!(command, Command::CheckState(_));
            match self.command(At { index, term }, end, command, &mut effects) {
                Err(error) if is_check || error.code == Code::NewerVersion => return Err(error),
                result => effects.results.push(result),
            }
        }
        effects.appended.sort_unstable();
        effects.appended.dedup();
        effects.hashed = self.take_hash(index);
        Ok(effects)
    }

    /// Applies one command; `end` is where it ends in the entry.
    fn command(&mut self, at: At, end: usize, command: Command, effects: &mut Effects) -> Result<CommandResult, Error> {
        match command {
            Command::Append(append) => self.append(at, end, append, effects),
            Command::Seal(seal) => self.seal(at.index, &seal, effects),
            Command::Drop(drop) => self.drop_segments(&drop, effects),
            Command::PutTopic(put) => self.put_topic(at.index, &put),
            Command::RemoveTopic(remove) => self.remove_topic(topic_id(&remove.topic)?, effects),
            Command::Roll(roll) => self.roll(at.index, &roll, effects),
            Command::Repack(repack) => self.repack(&repack, effects),
            Command::CheckState(check) => self.check(&check),
            Command::Barrier(_) => Ok(CommandResult::Done),
            Command::Merge(merge) => self.merge(&merge, effects),
            Command::DeleteRecords(delete) => self.delete_records(&delete, effects),
            Command::Erase(erase) => self.erase(at, &erase),
            Command::EraseDone(done) => self.erase_done(&done),
            Command::GroupState(change) => self.groups.change(&change, self.time_ns),
            Command::CommitOffsets(commit) => self.groups.commit(&commit, self.time_ns),
            Command::DeleteGroup(delete) => self.groups.delete(&delete.group),
            Command::DeleteOffsets(delete) => self.groups.delete_offsets(&delete),
            Command::ExpireOffsets(expire) => self.groups.expire(&expire),
            Command::CreateTopic(_)
            | Command::AlterTopic(_)
            | Command::DeleteTopic(_)
            | Command::AllocateProducerIds(_)
            | Command::InitCluster(_)
            | Command::PutNode(_)
            | Command::SetNodeState(_)
            | Command::RemoveNode(_)
            | Command::CreateShards(_)
            | Command::ChangeReplicas(_)
            | Command::ReplicaChanged(_)
            | Command::RaiseLevel(_)
            | Command::AssignSlots(_) => {
                Err(Error::new(Code::InvalidRequest, "a command of the metadata group was proposed to a shard"))
            }
        }
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

fn no_partition(topic: TopicId, partition: PartitionId) -> Error {
    let message = format!("this shard does not host partition {partition} of topic {topic}");
    Error::new(Code::UnknownPartition, message)
}
