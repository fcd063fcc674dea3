//! Fetch: partitions that other nodes lead are read there.
//!
//! Partitions are grouped by who leads them. With more than one group everybody is first asked what there is now; only if
//! there is nothing anywhere do the groups wait, and the first one with something ends it for all.

mod gather;
mod nearer;
mod places;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId};
use stratalog_query::TopicInfo;
use stratalog_transport::Method;
use tokio::time::Instant;

use super::Broker;
use super::read::shard_of;
use crate::cluster::route::{Leader, Missed, fetch_frame, fetched};
use crate::fetch::{
    FetchRequest, FetchedBatches, FetchedPartition, MAX_FETCH_BYTES, MAX_FETCH_WAIT, ReadFrom, fetch, refuse_repeated,
};
use gather::gather;
pub use nearer::Nearer;
use places::{Failures, Group, Refusals};

/// How long a fetch looks for a leader, if it would not wait as long for records.
const LEADER_WAIT: Duration = Duration::from_secs(1);
/// The pause before a leader is looked for again.
const PAUSE: Duration = Duration::from_millis(25);
/// What another node may take longer than it was asked to wait.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The same for one that is asked only because it is near: the leader answers as well.
const REPLICA_WAIT: Duration = Duration::from_secs(2);

impl Broker {
    /// Reads record batches; waits up to `max_wait` until there is one.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidRequest`] if a partition is named twice. Whatever concerns one partition is in
    /// its result: [`Code::NotLeader`] if nobody leads it.
    pub async fn fetch(&self, request: FetchRequest) -> Result<Vec<FetchedPartition>, Error> {
        let topic = self.find_topic(&request.topic).await?;
        if request.partitions.len() > topic.partitions as usize {
            let message = format!("a fetch names each partition once; `{}` has {}", topic.name, topic.partitions);
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let fetched = match self.router.is_alone() {
            true => fetch(&topic, &self.shards, &self.deadlines, &request).await?,
            false => self.fetch_around(&topic, &request).await?,
        };
        let batches = fetched.iter().filter_map(|partition| partition.result.as_ref().ok()).flatten();
        self.metrics.fetched(batches.map(FetchedBatches::bytes).sum());
        Ok(fetched)
    }

    /// Reads partitions of shards that this node leads, and those of which it has a replica that may answer, which is one
    /// that is up to date ([`ReadFrom::Zone`]); the others have [`Code::NotLeader`] as their result.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if a partition is named twice.
    pub(crate) async fn fetch_here(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
    ) -> Result<Vec<FetchedPartition>, Error> {
        let may_answer = |shard: ShardId| match request.from {
            ReadFrom::Zone => self.is_fresh(shard),
            ReadFrom::Leader | ReadFrom::Replica => self.router.leads(shard),
        };
        let answering: BTreeMap<ShardId, bool> =
            self.shards.all().iter().map(|shard| (shard.id(), may_answer(shard.id()))).collect();
        let is_here = |partition: PartitionId| {
            // A partition that does not exist is refused by whoever is asked.
            topic.shards.get(partition.0 as usize).is_none_or(|shard| answering.get(shard).copied().unwrap_or(false))
        };
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            request.partitions.iter().partition(|(partition, _)| is_here(*partition));
        let here = FetchRequest { partitions: here, ..request.clone() };
        let mut fetched = self.fetch_led_or_followed(topic, &here).await?;
        let not_led = Error::new(Code::NotLeader, "this node does not lead the shard of the partition");
        fetched.extend(elsewhere.into_iter().map(|(partition, _)| without_answer(partition, not_led.clone())));
        Ok(fetched)
    }

    /// Reads partitions of replicas of this node.
    async fn fetch_replicas(&self, topic: &TopicInfo, request: &FetchRequest) -> Result<Vec<FetchedPartition>, Error> {
        let mut fetched = fetch(topic, &self.shards, &self.deadlines, request).await?;
        for partition in &mut fetched {
            // The shard hears of a new topic a moment after the metadata.
            if partition.result.as_ref().is_err_and(|error| error.code == Code::UnknownTopic)
                && self.topics.by_id(topic.id).is_some()
            {
                let message =
                    format!("partition {} of `{}` is not there yet; try again", partition.partition, topic.name);
                partition.result = Err(Error::new(Code::NotLeader, message));
            }
        }
        Ok(fetched)
    }

    /// A leader that was cut off, or slept, may not know of records that another one acknowledged meanwhile: before it says
    /// that an offset lies beyond its end, a majority confirms that it still leads, and it looks again.
    async fn confirm_ends(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
        mut fetched: Vec<FetchedPartition>,
    ) -> Result<Vec<FetchedPartition>, Error> {
        let asked: BTreeMap<PartitionId, Offset> = request.partitions.iter().copied().collect();
        let mut beyond: BTreeMap<ShardId, Vec<(PartitionId, Offset)>> = BTreeMap::new();
        for partition in fetched.iter().filter(|partition| is_out_of_range(partition)) {
            let Some(offset) = asked.get(&partition.partition).filter(|offset| **offset > partition.high_watermark)
            else {
                continue;
            };
            let shard = shard_of(topic, partition.partition)?;
            beyond.entry(shard).or_default().push((partition.partition, *offset));
        }
        let looks = beyond.into_iter().map(|(shard, partitions)| async move {
            let again = FetchRequest { partitions, max_wait: Duration::ZERO, ..request.clone() };
            let looked = match self.led_shard(shard).await {
                Ok(_) => self.fetch_replicas(topic, &again).await,
                Err(error) => Err(Error::new(Code::NotLeader, error.message)),
            };
            looked.unwrap_or_else(|error| all_without(&again.partitions, &error))
        });
        // Boxed, since the compiler cannot tell otherwise that what it borrows lives long enough.
        let looks: Vec<_> = looks.map(FutureExt::boxed).collect();
        for looked in join_all(looks).await.into_iter().flatten() {
            let place = fetched.iter_mut().find(|partition| partition.partition == looked.partition);
            place.into_iter().for_each(|place| *place = looked.clone());
        }
        Ok(fetched)
    }

    async fn fetch_around(&self, topic: &TopicInfo, request: &FetchRequest) -> Result<Vec<FetchedPartition>, Error> {
        refuse_repeated(&request.partitions)?;
        let begun = Instant::now();
        let deadline = begun + request.max_wait.min(MAX_FETCH_WAIT);
        let mut patience = deadline.max(begun + LEADER_WAIT);
        let mut refusals = Refusals::default();
        loop {
            let groups = self.grouped(topic, request, &refusals, patience).await;
            let ask = |at: usize, until| self.fetch_of(topic, request, &groups[at], until);
            let found = gather(groups.len(), deadline, ask).await;
            let found =
                found.into_iter().zip(&groups).flat_map(|(found, group)| found.unwrap_or_else(|| group.silent()));
            let found: Vec<_> = found.collect();
            let failures = self.note_failures(topic, &groups, &found, &mut refusals);
            if failures == Failures::OfReplicas {
                // A shard ends up here once for each of the few replicas that are asked. What they took, which may hang, is
                // not taken from the time to look for its leader.
                patience = patience.max(Instant::now() + LEADER_WAIT);
                continue;
            }
            if found.iter().any(has_answer) || failures == Failures::None || Instant::now() >= patience {
                return Ok(in_order(&request.partitions, found));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks one group, and waits until `deadline` if there is nothing.
    fn fetch_of<'a>(
        &'a self,
        topic: &'a TopicInfo,
        request: &'a FetchRequest,
        group: &'a Group,
        deadline: Instant,
    ) -> BoxFuture<'a, Vec<FetchedPartition>> {
        async move {
            let max_wait = deadline.saturating_duration_since(Instant::now());
            let max_bytes = share(request, group.partitions.len());
            let answer = match group.place {
                None => Err(Missed::NotDone { why: "no node says that it leads it".to_owned(), leader: None }),
                Some(Leader::Here) => {
                    let here =
                        FetchRequest { partitions: group.partitions.clone(), max_bytes, max_wait, ..request.clone() };
                    self.fetch_led_or_followed(topic, &here).await.map_err(Missed::from)
                }
                Some(Leader::At(node)) => {
                    let frame = fetch_frame(topic.id, &group.partitions, group.by_replicas, max_bytes, max_wait);
                    let late = if group.by_replicas { REPLICA_WAIT } else { ANSWER_WAIT };
                    self.router.ask(node, Method::Fetch, frame, max_wait + late).await.and_then(fetched)
                }
            };
            answer.unwrap_or_else(|missed| {
                let error = match missed {
                    // What a replica refuses, the leader may answer.
                    Missed::Refused(error) if group.by_replicas => Error::new(Code::NotLeader, error.message),
                    Missed::Refused(error) => error,
                    // A fetch changes nothing: it may be asked again in either case.
                    Missed::NotDone { why, .. } | Missed::Unknown(why) => Error::new(Code::NotLeader, why),
                };
                all_without(&group.partitions, &error)
            })
        }
        .boxed()
    }

    async fn fetch_led_or_followed(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
    ) -> Result<Vec<FetchedPartition>, Error> {
        let found = self.fetch_replicas(topic, request).await?;
        self.confirm_ends(topic, request, self.doubt(topic, found)).await
    }

    /// What a replica that does not lead cannot answer, the leader may.
    fn doubt(&self, topic: &TopicInfo, mut found: Vec<FetchedPartition>) -> Vec<FetchedPartition> {
        let follows = |partition: PartitionId| {
            topic.shards.get(partition.0 as usize).is_some_and(|shard| !self.router.leads(*shard))
        };
        for partition in &mut found {
            if let Err(error) = &mut partition.result
                && follows(partition.partition)
            {
                error.code = Code::NotLeader;
            }
        }
        found
    }
}

/// A part of the bytes of an answer, for so many of its partitions.
fn share(request: &FetchRequest, partitions: usize) -> usize {
    let all = request.partitions.len().max(1);
    (request.max_bytes.min(MAX_FETCH_BYTES) / all).saturating_mul(partitions).max(1)
}

/// Whether there is something to say at once: batches, or an error that no other node would mend.
fn has_answer(partition: &FetchedPartition) -> bool {
    match &partition.result {
        Ok(batches) => !batches.is_empty(),
        Err(_) => !is_not_led(partition),
    }
}

fn is_not_led(partition: &FetchedPartition) -> bool {
    partition.result.as_ref().is_err_and(|error| error.code == Code::NotLeader)
}

fn is_out_of_range(partition: &FetchedPartition) -> bool {
    partition.result.as_ref().is_err_and(|error| error.code == Code::OffsetOutOfRange)
}

fn all_without(partitions: &[(PartitionId, Offset)], error: &Error) -> Vec<FetchedPartition> {
    partitions.iter().map(|(partition, _)| without_answer(*partition, error.clone())).collect()
}

fn without_answer(partition: PartitionId, error: Error) -> FetchedPartition {
    FetchedPartition { partition, log_start: Offset(0), high_watermark: Offset(0), result: Err(error) }
}

/// One answer for each partition that was asked for, in that order, whatever a peer sent.
fn in_order(asked: &[(PartitionId, Offset)], found: Vec<FetchedPartition>) -> Vec<FetchedPartition> {
    let mut found: BTreeMap<PartitionId, FetchedPartition> =
        found.into_iter().map(|partition| (partition.partition, partition)).collect();
    let missing =
        || Error::new(Code::NotLeader, "the node that leads the shard of the partition did not answer for it");
    let mut answer =
        |partition: &PartitionId| found.remove(partition).unwrap_or_else(|| without_answer(*partition, missing()));
    asked.iter().map(|(partition, _)| answer(partition)).collect()
}
