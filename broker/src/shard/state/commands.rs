//! The commands of topics: appends, and which partitions are hosted.

use std::collections::BTreeMap;

use stratalog_proto::batch::Batch;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::Append;
use stratalog_proto::{Code, Error, PartitionId, RaftIndex, TopicId, TopicPartition, internal};

use super::{At, Effects, ShardState, TopicState, no_partition, not_hosted, topic_id};
use crate::outcome::CommandResult;
use crate::shard::partition::Place;
use crate::shard::producers::Verdict;

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
        let state = hosted.partitions.get_mut(&partition).ok_or_else(|| no_partition(topic, partition))?;
        let len = batch.len();
        let batch = Batch::parse_trusted(batch)?;
        batch.check_dense()?;
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
            self.erasures.remove_topic(topic, self.time_ns);
            effects.removed_topics.push(topic);
        }
        if let Some(gone) = self.manifest.remove_topic(topic) {
            effects.removed.extend(gone.segments.values().cloned());
        }
        effects.removed_recs.extend(self.remove_dead_recs());
        Ok(CommandResult::Done)
    }
}
