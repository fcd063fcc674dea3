//! What is in topics, asked of whoever leads their shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use stratalog_proto::config::Format;
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId, Term, TopicId, TopicPartition};
use stratalog_query::{PartitionInfo, TopicInfo};
use stratalog_storage::SegmentMeta;
use stratalog_transport::Method;

use super::Broker;
use crate::cluster::route::{Found, Leader, Missed, Question, READ_WAIT};
use crate::meta::partitions_by_shard;
use crate::offsets::{OffsetAt, OffsetFound, end_of_epoch, find_offset};
use crate::rows::TopicRows;
use crate::shard::{ProducerInfo, Shard};
use crate::verify::{VerifiedPartition, verify};

/// Shards that are asked at the same time.
const AT_ONCE: usize = 16;
/// How long the leader may take to confirm that it leads.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);
/// How long another node may take to read all of a partition.
const VERIFY_WAIT: Duration = Duration::from_secs(24 * 3_600);

impl Broker {
    /// All topics as this node knows them, in the order of names.
    pub fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.topics.list()
    }

    /// All topics, in the order of names, with every change that was acknowledged before this call, on whichever node; those
    /// included whose deletion has begun here and is not known to have taken effect.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::Unavailable`]: what has changed is not known, since no majority of the metadata answers.
    pub async fn list_topics(&self) -> Result<Vec<Arc<TopicInfo>>, Error> {
        self.catch_up_with_meta().await?;
        let mut topics = self.meta.topics();
        topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// One topic, as [`list_topics`](Self::list_topics) shows it. A request that is about records
    /// [looks nearer](Self::find_topic), which asks nobody as a rule.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], with the nearest name there is; as [`list_topics`](Self::list_topics).
    pub async fn current_topic(&self, name: &str) -> Result<Arc<TopicInfo>, Error> {
        self.catch_up_with_meta().await?;
        self.meta.named(name).map_or_else(|| self.topics.get(name), Ok)
    }

    /// One topic as [`current_topic`](Self::current_topic) shows it, with its partitions, ascending, and what became of its
    /// records; `None` for the latter if it is of format `raw` and has no rows.
    ///
    /// # Errors
    /// As [`current_topic`](Self::current_topic); as [`partitions`](Self::partitions).
    pub async fn describe_topic(
        &self,
        name: &str,
    ) -> Result<(Arc<TopicInfo>, Vec<PartitionInfo>, Option<TopicRows>), Error> {
        let topic = self.current_topic(name).await?;
        let partitions = self.partitions_of(&topic).await?;
        let rows = self.rows_of(&topic).await?;
        Ok((topic, partitions, rows))
    }

    /// One topic, as far as this node knows.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], with the nearest name there is.
    pub fn topic(&self, name: &str) -> Result<Arc<TopicInfo>, Error> {
        self.topics.get(name)
    }

    /// One topic, also if another node has created it just now.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::NotLeader`], [`Code::Unavailable`]: whether there is one is not known.
    pub async fn find_topic(&self, name: &str) -> Result<Arc<TopicInfo>, Error> {
        match self.topics.get(name) {
            Ok(topic) => Ok(topic),
            Err(_) => {
                self.catch_up_with_meta().await?;
                self.topics.get(name)
            }
        }
    }

    /// As [`find_topic`](Self::find_topic), by id.
    pub async fn find_topic_by_id(&self, id: TopicId) -> Result<Arc<TopicInfo>, Error> {
        if let Some(topic) = self.topics.by_id(id) {
            return Ok(topic);
        }
        self.catch_up_with_meta().await?;
        self.topics.by_id(id).ok_or_else(|| deleted(id))
    }

    /// By id a topic that is not deleted, whatever was begun here: what another node asks about it is not to be denied.
    pub(crate) async fn current_topic_by_id(&self, id: TopicId) -> Result<Arc<TopicInfo>, Error> {
        if let Ok(topic) = self.meta.topic(id) {
            return Ok(topic);
        }
        self.catch_up_with_meta().await?;
        self.meta.topic(id).map_err(|_| deleted(id))
    }

    /// The partitions of a topic, ascending.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::NotLeader`], [`Code::Unavailable`] if a shard of it has no leader that answers.
    pub async fn partitions(&self, name: &str) -> Result<Vec<PartitionInfo>, Error> {
        let topic = self.find_topic(name).await?;
        self.partitions_of(&topic).await
    }

    async fn partitions_of(&self, topic: &TopicInfo) -> Result<Vec<PartitionInfo>, Error> {
        let found = self.ask_all(topic, Question::Partitions).await?;
        let mut partitions: Vec<_> = found.into_iter().filter_map(Found::into_partitions).flatten().collect();
        partitions.sort_unstable_by_key(|info| info.partition);
        Ok(partitions)
    }

    /// An offset of each partition, ascending.
    ///
    /// # Errors
    /// As [`Broker::partitions`]; those of reading the log.
    pub async fn list_offsets(&self, name: &str, at: OffsetAt) -> Result<Vec<(PartitionId, Offset)>, Error> {
        let found = self.find_offsets(name, at).await?;
        Ok(found.into_iter().map(|found| (found.partition, found.offset)).collect())
    }

    /// As [`list_offsets`](Self::list_offsets), with leader epochs.
    ///
    /// # Errors
    /// As [`list_offsets`](Self::list_offsets).
    pub async fn find_offsets(&self, name: &str, at: OffsetAt) -> Result<Vec<OffsetFound>, Error> {
        let topic = self.find_topic(name).await?;
        let found = self.ask_all(&topic, Question::Offsets(at)).await?;
        let mut offsets: Vec<_> = found.into_iter().filter_map(Found::into_offsets).flatten().collect();
        offsets.sort_unstable_by_key(|found| found.partition);
        Ok(offsets)
    }

    /// The newest leader epoch of a partition that is not above `asked`, and the offset at which it ends: the first of the
    /// next one, or the high watermark. Of an epoch that is older than all that is left: the first offset of what is left. As
    /// Kafka's OffsetForLeaderEpoch.
    ///
    /// # Errors
    /// As [`Broker::partitions`]; [`Code::UnknownPartition`]; those of reading the log.
    pub async fn end_offset_of_epoch(
        &self,
        name: &str,
        partition: PartitionId,
        asked: Term,
    ) -> Result<(Term, Offset), Error> {
        let topic = self.find_topic(name).await?;
        let shard = shard_of(&topic, partition)?;
        match self.ask(&topic, shard, &Question::EpochEnd(partition, asked)).await? {
            Found::EpochEnd(epoch, end) => Ok((epoch, end)),
            other => Err(mixed_up(&other)),
        }
    }

    /// The idempotent producers that appended to a partition in the last day, ascending by id.
    ///
    /// # Errors
    /// As [`Broker::partitions`]; [`Code::UnknownPartition`].
    pub async fn producers(&self, name: &str, partition: PartitionId) -> Result<Vec<ProducerInfo>, Error> {
        let topic = self.find_topic(name).await?;
        let shard = shard_of(&topic, partition)?;
        match self.ask(&topic, shard, &Question::Producers(partition)).await? {
            Found::Producers(producers) => Ok(producers),
            other => Err(mixed_up(&other)),
        }
    }

    /// Reads every batch of a partition, from log start to high watermark, and says what of it cannot be read. Dropping the
    /// future ends it soon.
    ///
    /// # Errors
    /// As [`Broker::partitions`]; [`Code::UnknownPartition`]; those of reading the log, but for damage, which is an answer.
    pub async fn verify(&self, name: &str, partition: PartitionId) -> Result<VerifiedPartition, Error> {
        let topic = self.find_topic(name).await?;
        let shard = shard_of(&topic, partition)?;
        match self.ask(&topic, shard, &Question::Verify(partition)).await? {
            Found::Verified(verified) => Ok(verified),
            other => Err(mixed_up(&other)),
        }
    }

    /// The live column segments of a topic, by shard and id.
    ///
    /// # Errors
    /// As [`Broker::partitions`].
    pub async fn segments(&self, name: &str) -> Result<Vec<(ShardId, Arc<SegmentMeta>)>, Error> {
        let topic = self.find_topic(name).await?;
        let shards = shards_of(&topic);
        let found = self.ask_all(&topic, Question::Segments).await?;
        let segments = shards.into_iter().zip(found).flat_map(|(shard, found)| {
            found.into_segments().unwrap_or_default().into_iter().map(move |meta| (shard, meta))
        });
        Ok(segments.collect())
    }

    /// What became of a topic's records; `None` if it has no rows.
    async fn rows_of(&self, topic: &TopicInfo) -> Result<Option<TopicRows>, Error> {
        if topic.config.format == Format::Raw {
            return Ok(None);
        }
        let found = self.ask_all(topic, Question::Rows).await?;
        Ok(Some(found.into_iter().filter_map(Found::into_rows).fold(TopicRows::default(), join)))
    }

    /// Asks the leaders of all shards of a topic, ascending.
    async fn ask_all(&self, topic: &TopicInfo, question: Question) -> Result<Vec<Found>, Error> {
        let question = &question;
        let asked = shards_of(topic).into_iter().map(|shard| self.ask(topic, shard, question));
        // Boxed, since the compiler cannot tell otherwise that what it borrows lives long enough.
        let asked: Vec<_> = asked.map(futures::FutureExt::boxed).collect();
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    /// Asks the leader of a shard.
    async fn ask(&self, topic: &TopicInfo, shard: ShardId, question: &Question) -> Result<Found, Error> {
        let mut tries = self.router.tries(shard, READ_WAIT, true);
        loop {
            let leader = tries.leader().await?;
            let answer = match leader {
                Leader::Here => self.answer_here(topic, shard, question).await.map_err(Missed::from),
                Leader::At(node) => {
                    let wait = if matches!(question, Question::Verify(_)) { VERIFY_WAIT } else { READ_WAIT };
                    let frame = question.frame(shard, topic.id);
                    let asked = self.router.ask_leader(shard, node, Method::Read, frame, wait).await;
                    asked.and_then(|asked| Found::read(question, shard, asked.body))
                }
            };
            if let Some(answer) = tries.settle(leader, answer).await {
                return answer;
            }
        }
    }

    /// Answers for a shard that this node leads.
    ///
    /// # Errors
    /// [`Code::NotLeader`]; [`Code::UnknownTopic`], [`Code::UnknownPartition`]; those of reading the log.
    pub(crate) async fn answer_here(
        &self,
        topic: &TopicInfo,
        shard: ShardId,
        question: &Question,
    ) -> Result<Found, Error> {
        let shard = self.led_shard(shard).await?;
        match question {
            Question::Partitions => Ok(Found::Partitions(partitions_in(topic, &shard))),
            Question::Offsets(at) => {
                let mut offsets = Vec::new();
                for partition in hosted(topic, shard.id()) {
                    offsets.push(find_offset(topic, &shard, partition, *at).await?);
                }
                Ok(Found::Offsets(offsets))
            }
            Question::EpochEnd(partition, asked) => {
                let (epoch, end) = end_of_epoch(topic, &shard, *partition, *asked).await?;
                Ok(Found::EpochEnd(epoch, end))
            }
            Question::Verify(partition) => verify(topic, &shard, *partition).await.map(Found::Verified),
            Question::Segments => Ok(Found::Segments(segments_in(topic, &shard))),
            Question::Rows => self.rows.figures_in(shard.id(), topic).map(Found::Rows),
            Question::Producers(partition) => {
                let tp = TopicPartition { topic: topic.id, partition: *partition };
                Ok(Found::Producers(shard.read(|state| state.producers_of(tp))))
            }
        }
    }

    /// A shard that this node leads, with everything applied that was acknowledged before the call.
    pub(crate) async fn led_shard(&self, id: ShardId) -> Result<Arc<Shard>, Error> {
        let missing = || Error::new(Code::NotLeader, format!("shard {id} has no replica on this node"));
        let shard = self.shard(id).ok_or_else(missing)?;
        // A leader that was cut off, or slept, may not know yet that there is another one.
        let index = shard.group().read_index(CONFIRM_WAIT).await?;
        let mut applied = shard.watch_applied();
        let reached = tokio::time::timeout(CONFIRM_WAIT, applied.wait_for(|applied| *applied >= index)).await;
        let late = || Error::new(Code::Timeout, format!("shard {id} has not applied entry {index} yet; try again"));
        reached.map_err(|_| late())?.map_err(|_| late())?;
        Ok(shard)
    }
}

fn deleted(id: TopicId) -> Error {
    Error::new(Code::UnknownTopic, format!("there is no topic with id {id}: it was deleted"))
}

impl Found {
    fn into_partitions(self) -> Option<Vec<PartitionInfo>> {
        if let Found::Partitions(partitions) = self { Some(partitions) } else { None }
    }

    fn into_offsets(self) -> Option<Vec<OffsetFound>> {
        if let Found::Offsets(offsets) = self { Some(offsets) } else { None }
    }

    fn into_segments(self) -> Option<Vec<Arc<SegmentMeta>>> {
        if let Found::Segments(segments) = self { Some(segments) } else { None }
    }

    fn into_rows(self) -> Option<TopicRows> {
        if let Found::Rows(rows) = self { Some(rows) } else { None }
    }
}

/// The shard of a partition.
///
/// # Errors
/// [`Code::UnknownPartition`].
pub(super) fn shard_of(topic: &TopicInfo, partition: PartitionId) -> Result<ShardId, Error> {
    topic.shards.get(partition.0 as usize).copied().ok_or_else(|| {
        let (name, count) = (&topic.name, topic.partitions);
        let message = format!("topic `{name}` has {count} partitions, and no partition {partition}");
        Error::new(Code::UnknownPartition, message)
    })
}

/// The shards of a topic, ascending.
pub(super) fn shards_of(topic: &TopicInfo) -> BTreeSet<ShardId> {
    topic.shards.iter().copied().collect()
}

/// Adds the figures of a shard to those of others.
fn join(mut sum: TopicRows, shard: TopicRows) -> TopicRows {
    sum.rows += shard.rows;
    sum.dead_rows += shard.dead_rows;
    sum.tail_rows += shard.tail_rows;
    sum.tail_bytes += shard.tail_bytes;
    sum.segments += shard.segments;
    sum.segment_bytes += shard.segment_bytes;
    sum.lag += shard.lag;
    sum.held.extend(shard.held);
    sum
}

fn hosted(topic: &TopicInfo, shard: ShardId) -> Vec<PartitionId> {
    let by_shard: BTreeMap<ShardId, Vec<u32>> = partitions_by_shard(topic);
    by_shard.get(&shard).into_iter().flatten().copied().map(PartitionId).collect()
}

fn partitions_in(topic: &TopicInfo, shard: &Shard) -> Vec<PartitionInfo> {
    let partitions = hosted(topic, shard.id());
    shard.read(|state| {
        let info = |partition: PartitionId| {
            let found = state.partition(topic.id, partition)?;
            Some(PartitionInfo {
                partition,
                shard: shard.id(),
                log_start: found.log_start(),
                high_watermark: found.high_watermark(),
                bytes: found.bytes(),
            })
        };
        partitions.into_iter().filter_map(info).collect()
    })
}

fn segments_in(topic: &TopicInfo, shard: &Shard) -> Vec<Arc<SegmentMeta>> {
    shard.read(|state| {
        let live = state.manifest().topic(topic.id).into_iter().flat_map(|live| live.segments.values());
        live.cloned().collect()
    })
}

fn mixed_up(found: &Found) -> Error {
    Error::new(Code::Internal, format!("a question about a partition was answered with {found:?}"))
}
