//! Reading what a request asks for: topic by topic, and with one patience for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, FuturesUnordered, StreamExt};
use kafka_protocol::messages::BrokerId;
use stratalog_broker::{FetchRequest, FetchedBatches, FetchedPartition, ReadFrom};
use stratalog_proto::{Error, Offset, PartitionId, TopicId};
use stratalog_query::TopicInfo;
use tokio::time::Instant;

use super::{Client, Limits, Named, Node, Topic, ahead};
use crate::kafka::errors;

/// Pauses while there is something, and less than a client wants.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// Topics that are looked at, at the same time, for one request.
const AT_ONCE: usize = 64;

/// What was found for a topic of the request.
pub(super) enum Found {
    /// What became of its partitions, those of the request that it has.
    Topic {
        /// How many it has.
        partitions: u32,
        /// In the order of their numbers.
        read: Vec<Read>,
    },
    Not(Error),
}

/// What became of a partition.
#[derive(Clone)]
pub(super) struct Read {
    pub(super) partition: PartitionId,
    /// -1: it is not known.
    pub(super) log_start: i64,
    pub(super) high_watermark: i64,
    pub(super) outcome: Outcome,
}

#[derive(Clone)]
pub(super) enum Outcome {
    Batches(Vec<FetchedBatches>),
    /// By Kafka's number.
    Refused(i16),
    /// The client has records that are not in the log: of the epoch of its last one, or the newest before that, this is the end.
    Diverges {
        epoch: i32,
        end: i64,
    },
    /// The client should rather read there.
    Nearer(BrokerId),
}

impl Read {
    /// One that was not read.
    pub(super) fn without_records(partition: PartitionId, outcome: Outcome) -> Self {
        Self { partition, log_start: -1, high_watermark: -1, outcome }
    }

    fn batches(&self) -> &[FetchedBatches] {
        if let Outcome::Batches(batches) = &self.outcome { batches } else { &[] }
    }
}

impl From<FetchedPartition> for Read {
    fn from(fetched: FetchedPartition) -> Self {
        let (Offset(log_start), Offset(high_watermark)) = (fetched.log_start, fetched.high_watermark);
        let outcome =
            fetched.result.map_or_else(|error| Outcome::Refused(errors::of_fetch(error.code)), Outcome::Batches);
        let partition = fetched.partition;
        Self { partition, log_start: log_start as i64, high_watermark: high_watermark as i64, outcome }
    }
}

impl Found {
    /// Bytes of records.
    pub(super) fn bytes(&self) -> usize {
        self.partitions().flat_map(Read::batches).map(FetchedBatches::bytes).sum()
    }

    /// Lets go of the records.
    pub(super) fn without_records(&mut self) {
        let Found::Topic { read, .. } = self else { return };
        for partition in read {
            if let Outcome::Batches(batches) = &mut partition.outcome {
                batches.clear();
            }
        }
    }

    fn partitions(&self) -> impl Iterator<Item = &Read> {
        let read: &[Read] = match self {
            Found::Topic { read, .. } => read,
            Found::Not(_) => &[],
        };
        read.iter()
    }

    /// Whether it is worth saying at once.
    fn ends_waiting(&self) -> bool {
        matches!(self, Found::Not(_))
            || self.bytes() > 0
            || self.partitions().any(|partition| !matches!(partition.outcome, Outcome::Batches(_)))
    }
}

/// What there is of each topic, in their order: at once if it is enough, else as soon as it is, or when the patience of the
/// client ends. `rack`: the zone of the client, or empty; in that of this node it is answered by a replica there, if one is up to
/// date.
pub(super) async fn gather(node: &Node, client: &Client, limits: Limits, rack: &str, asked: &[Topic]) -> Vec<Found> {
    let deadline = Instant::now() + limits.max_wait;
    let looks: Vec<_> = asked.iter().map(|topic| find(node, rack, topic).boxed()).collect();
    let topics: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    let is_here = !rack.is_empty() && node.shared.broker.layout().zone() == rack;
    let from = if is_here { ReadFrom::Zone } else { ReadFrom::Leader };
    let reading = Reading { node, client, max_bytes: limits.max_bytes, from, asked, topics };
    // Who is told something else than records does not wait for these.
    let deadline = if reading.topics.iter().any(Sought::has_answer) { Instant::now() } else { deadline };
    let mut pause = PAUSES.0;
    loop {
        let found = reading.look(deadline).await;
        let bytes: usize = found.iter().map(Found::bytes).sum();
        let only_less =
            bytes > 0 && bytes < limits.min_bytes && found.iter().all(|found| !matches!(found, Found::Not(_)));
        if !only_less || Instant::now() >= deadline || client.leaving.is_cancelled() {
            return found;
        }
        // There is something, and the client would rather have more at once.
        let until = deadline.min(Instant::now() + pause);
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = client.leaving.cancelled() => {}
        }
        pause = PAUSES.1.min(2 * pause);
    }
}

/// A topic of the request, before it is read.
struct Sought {
    topic: Result<Arc<TopicInfo>, Error>,
    /// Of partitions that are not to be read.
    ahead: BTreeMap<PartitionId, Read>,
}

impl Sought {
    fn has_answer(&self) -> bool {
        !self.ahead.is_empty()
    }
}

async fn find(node: &Node, rack: &str, asked: &Topic) -> Sought {
    let broker = &node.shared.broker;
    let topic = match &asked.name {
        Named::Name(name) => broker.find_topic(name).await,
        Named::Id(id) => broker.find_topic_by_id(TopicId(uuid::Uuid::from_u128(*id))).await,
    };
    let ahead = match &topic {
        Ok(topic) => ahead::look(node, rack, topic, &asked.partitions).await,
        Err(_) => BTreeMap::new(),
    };
    Sought { topic, ahead }
}

/// A request whose topics were found, or not.
struct Reading<'a> {
    node: &'a Node,
    client: &'a Client,
    max_bytes: usize,
    from: ReadFrom,
    asked: &'a [Topic],
    topics: Vec<Sought>,
}

impl Reading<'_> {
    /// What there is now; if that is nothing, what comes first until the deadline.
    async fn look(&self, deadline: Instant) -> Vec<Found> {
        let is_alone = self.topics.len() == 1;
        let first = if is_alone { deadline } else { Instant::now() };
        let reads: Vec<_> = (0..self.topics.len()).map(|at| self.read(at, first)).collect();
        let mut found: Vec<Found> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        if is_alone || found.iter().any(Found::ends_waiting) {
            return found;
        }
        let wait = |at| self.read(at, deadline).map(move |found| (at, found));
        let mut waiting: FuturesUnordered<_> = (0..self.topics.len()).map(wait).collect();
        while let Some((at, topic)) = waiting.next().await {
            let ends = topic.ends_waiting();
            found[at] = topic;
            if ends {
                break;
            }
        }
        found
    }

    /// Reads one topic, and waits until `deadline` if there is nothing.
    fn read(&self, at: usize, deadline: Instant) -> BoxFuture<'_, Found> {
        async move {
            let (sought, wanted) = (&self.topics[at], &self.asked[at].partitions);
            let topic = match &sought.topic {
                Ok(topic) => topic,
                Err(error) => return Found::Not(error.clone()),
            };
            // What is not there, or was never, is told apart when the answer is written.
            let partitions = wanted.iter().filter_map(|partition| {
                let index = u32::try_from(partition.index).ok().filter(|index| *index < topic.partitions)?;
                let offset = u64::try_from(partition.offset).ok()?;
                let partition = PartitionId(index);
                (!sought.ahead.contains_key(&partition)).then_some((partition, Offset(offset)))
            });
            let partitions: Vec<_> = partitions.collect();
            if partitions.is_empty() && sought.has_answer() {
                return Found::Topic { partitions: topic.partitions, read: sought.ahead.values().cloned().collect() };
            }
            // No more than the answer takes of it.
            let most = wanted.iter().fold(0_usize, |sum, partition| sum.saturating_add(partition.max_bytes));
            let request = FetchRequest {
                topic: topic.name.clone(),
                partitions,
                max_bytes: (self.max_bytes / self.topics.len()).min(most).max(1),
                max_wait: deadline.saturating_duration_since(Instant::now()),
                from: self.from,
            };
            let fetched = tokio::select! {
                fetched = self.node.shared.broker.fetch(request) => fetched,
                // Nobody waits.
                () = self.client.leaving.cancelled() => Ok(Vec::new()),
            };
            match fetched {
                Ok(fetched) => {
                    let fetched = fetched.into_iter().map(Read::from);
                    let mut read: Vec<Read> = sought.ahead.values().cloned().chain(fetched).collect();
                    read.sort_by_key(|partition| partition.partition);
                    Found::Topic { partitions: topic.partitions, read }
                }
                Err(error) => Found::Not(error),
            }
        }
        .boxed()
    }
}
