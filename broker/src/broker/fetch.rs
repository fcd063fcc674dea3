//! Fetch: partitions that other nodes lead are read there.
//!
//! Partitions are grouped by who leads them. With more than one group everybody is first asked what there is now; only if
//! there is nothing anywhere do the groups wait, and the first one with something ends it for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use stratalog_proto::{Code, Error, Offset, PartitionId, ShardId};
use stratalog_query::TopicInfo;
use stratalog_transport::Method;
use tokio::time::Instant;

use super::Broker;
use crate::cluster::route::{Leader, Missed, fetch_frame, fetched};
use crate::fetch::{
    FetchRequest, FetchedBatches, FetchedPartition, MAX_FETCH_BYTES, MAX_FETCH_WAIT, fetch, refuse_repeated,
};

/// How long a fetch looks for a leader, if it would not wait as long for records.
const LEADER_WAIT: Duration = Duration::from_secs(1);
/// The pause before a leader is looked for again.
const PAUSE: Duration = Duration::from_millis(25);
/// How long an answer that is there waits for those of other groups.
const GRACE: Duration = Duration::from_millis(100);
/// What another node may take longer than it was asked to wait.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Partitions that are read in one place.
struct Group {
    /// `None`: nobody leads their shards, as far as is known.
    place: Option<Leader>,
    partitions: Vec<(PartitionId, Offset)>,
}

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

    /// Reads partitions of shards that this node leads; those of others have [`Code::NotLeader`] as their result.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if a partition is named twice.
    pub(crate) async fn fetch_here(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
    ) -> Result<Vec<FetchedPartition>, Error> {
        let leads: BTreeMap<ShardId, bool> =
            self.shards.all().iter().map(|shard| (shard.id(), self.router.leads(shard.id()))).collect();
        let is_led = |partition: PartitionId| {
            // A partition that does not exist is refused by whoever is asked.
            topic.shards.get(partition.0 as usize).is_none_or(|shard| leads.get(shard).copied().unwrap_or(false))
        };
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            request.partitions.iter().partition(|(partition, _)| is_led(*partition));
        let mut fetched = self.fetch_replicas(topic, &FetchRequest { partitions: here, ..request.clone() }).await?;
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

    async fn fetch_around(&self, topic: &TopicInfo, request: &FetchRequest) -> Result<Vec<FetchedPartition>, Error> {
        refuse_repeated(&request.partitions)?;
        let begun = Instant::now();
        let deadline = begun + request.max_wait.min(MAX_FETCH_WAIT);
        let patience = deadline.max(begun + LEADER_WAIT);
        // Shards whose replica here could not answer what the leader may.
        let mut only_leader = BTreeSet::new();
        loop {
            let groups = self.groups(topic, request, &only_leader).await;
            let found = self.gather(topic, request, &groups, deadline).await;
            let failed = self.note_failures(topic, request, &found, &mut only_leader);
            if found.iter().any(has_answer) || !failed || Instant::now() >= patience {
                return Ok(in_order(&request.partitions, found));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What the groups have. Each is asked what there is now, and then waits, until one of them has something or one is not
    /// led where it was asked; the others then have a moment left for their first answer.
    async fn gather(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
        groups: &[Group],
        deadline: Instant,
    ) -> Vec<FetchedPartition> {
        let first = if groups.len() == 1 { deadline } else { Instant::now() };
        let look = |at: usize, until: Instant| async move {
            (at, until, self.fetch_of(topic, request, &groups[at], until).await)
        };
        let mut looks: FuturesUnordered<_> = (0..groups.len()).map(|at| look(at, first)).collect();
        let mut found = vec![None; groups.len()];
        let mut end = None;
        loop {
            let next = match end {
                Some(end) => tokio::time::timeout_at(end, looks.next()).await.unwrap_or(None),
                None => looks.next().await,
            };
            let Some((at, until, partitions)) = next else { break };
            if partitions.iter().any(|partition| has_answer(partition) || is_not_led(partition)) {
                end.get_or_insert_with(|| Instant::now() + GRACE);
            } else if until < deadline {
                looks.push(look(at, deadline));
            }
            found[at] = Some(partitions);
            if end.is_some() && found.iter().all(Option::is_some) {
                break;
            }
        }
        found.into_iter().flatten().flatten().collect()
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
                    self.fetch_replicas(topic, &here).await.map(|found| self.doubt(topic, found)).map_err(Missed::from)
                }
                Some(Leader::At(node)) => {
                    let frame = fetch_frame(topic.id, &group.partitions, max_bytes, max_wait);
                    let asked = self.router.ask(node, Method::Fetch, frame, max_wait + ANSWER_WAIT).await;
                    asked.and_then(fetched)
                }
            };
            answer.unwrap_or_else(|missed| {
                let error = match missed {
                    Missed::Refused(error) => error,
                    // A fetch changes nothing: it may be asked again in either case.
                    Missed::NotDone { why, .. } | Missed::Unknown(why) => Error::new(Code::NotLeader, why),
                };
                group.partitions.iter().map(|(partition, _)| without_answer(*partition, error.clone())).collect()
            })
        }
        .boxed()
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

    /// Partitions by who reads them.
    async fn groups(&self, topic: &TopicInfo, request: &FetchRequest, only_leader: &BTreeSet<ShardId>) -> Vec<Group> {
        let mut places: BTreeMap<ShardId, Option<Leader>> = BTreeMap::new();
        let mut groups: BTreeMap<Option<Leader>, Vec<(PartitionId, Offset)>> = BTreeMap::new();
        for (partition, offset) in &request.partitions {
            let place = match topic.shards.get(partition.0 as usize) {
                // It does not exist, which this node can say as well as any other.
                None => Some(Leader::Here),
                Some(shard) => match places.get(shard) {
                    Some(place) => *place,
                    None => {
                        let follows = request.from_follower && !only_leader.contains(shard);
                        let place = self.place_of(*shard, follows).await;
                        places.insert(*shard, place);
                        place
                    }
                },
            };
            groups.entry(place).or_default().push((*partition, *offset));
        }
        groups.into_iter().map(|(place, partitions)| Group { place, partitions }).collect()
    }

    async fn place_of(&self, shard: ShardId, from_follower: bool) -> Option<Leader> {
        if from_follower && self.shards.get(shard).is_some() {
            return Some(Leader::Here);
        }
        match self.router.known_leader(shard) {
            Some(leader) => Some(leader),
            None => self.router.ask_replicas(shard).await.map(Leader::At),
        }
    }

    /// Remembers where a partition was not read and may be elsewhere; whether there was one.
    fn note_failures(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
        found: &[FetchedPartition],
        only_leader: &mut BTreeSet<ShardId>,
    ) -> bool {
        let mut failed = false;
        for partition in found.iter().filter(|partition| partition.result.is_err()) {
            let Some(shard) = topic.shards.get(partition.partition.0 as usize) else { continue };
            let followed = request.from_follower && self.shards.get(*shard).is_some() && !self.router.leads(*shard);
            if followed && only_leader.insert(*shard) {
                failed = true;
            } else if is_not_led(partition) {
                self.router.forget_leader(*shard);
                failed = true;
            }
        }
        failed
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
