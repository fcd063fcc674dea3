//! When faults are over: everybody reads everything, from every node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stratalog_client::{Client, ClientError, ConsumedRecord, ConsumerOptions, QueryOptions, Stop};
use stratalog_proto::v1::ClusterStatus;
use stratalog_proto::{PartitionId, Token, v1};

use super::record::{digest, runs};
use super::{Shared, WORDS, operator, producer, reader, told};
use crate::failure::Failure;
use crate::history::{CopyEnd, CopyPart, Line, Outcome, Process, Role, Source, When};

/// How long one node may take to give everything.
const READ_WITHIN: Duration = Duration::from_secs(300);
/// Values in a line.
const CHUNK: usize = 4_096;
/// The process that sends the last records.
const LAST: u32 = 0;

/// A partition when all is over. What comes later, of sends that nobody heard of again, is not copied: copies are read one after
/// the other, and would differ.
#[derive(Clone, Copy)]
struct Place {
    shard: u32,
    /// Where its log begins.
    start: u64,
    /// One past its last record.
    end: u64,
}

/// What of a topic lies where.
struct Places {
    partitions: BTreeMap<u32, Place>,
    /// Shard → nodes with a whole replica.
    replicas: BTreeMap<u32, BTreeSet<u64>>,
}

/// Sends one more record to each partition, and notes what each node has: its replica, rows, hits, metadata. `status` is that of
/// the whole cluster, `addresses` are those of its nodes.
///
/// # Errors
/// If the cluster cannot even be asked. What a single node does not give is noted as such.
pub(crate) async fn finish(
    shared: &Shared,
    processes: &[Process],
    addresses: &BTreeMap<u64, String>,
    status: &ClusterStatus,
) -> Result<(), Failure> {
    let all: Vec<&str> = addresses.values().map(String::as_str).collect();
    let client = Client::connect(&all.join(",")).await?;
    producer::send_last(shared, LAST, &client).await?;
    let places = Places::of(shared, &client, status).await?;
    let mut nodes = Vec::new();
    for (node, address) in addresses {
        nodes.push((*node, Client::connect_only(address).await?));
    }
    for (node, client) in &nodes {
        copy_replica(shared, *node, client, &places).await;
    }
    let tokens = shared.known.lock().acknowledged().1;
    for (node, client) in &nodes {
        copy_rows(shared, *node, client, &places, Source::Sql, &tokens).await;
    }
    // Q2: what is searched lies in column segments by now, what was counted mostly in the tail.
    client.seal_topic(&shared.load.topic).await?;
    for (node, client) in &nodes {
        copy_rows(shared, *node, client, &places, Source::Search, &tokens).await;
    }
    let of_node = |(node, client): &(u64, Client)| {
        let operator =
            processes.iter().find(|process| process.role == Role::Operator && process.node == Some(*node))?;
        Some((operator.clone(), client.clone()))
    };
    operator::read_last(shared, &nodes.iter().filter_map(of_node).collect::<Vec<_>>()).await;
    Ok(())
}

impl Places {
    async fn of(shared: &Shared, client: &Client, status: &ClusterStatus) -> Result<Self, Failure> {
        let described = client.describe_topic(&shared.load.topic).await?;
        let place = |found: &v1::Partition| {
            let place = Place { shard: found.shard, start: found.log_start, end: found.high_watermark };
            (found.partition, place)
        };
        let whole = |shard: &v1::ClusterShard| {
            let voters =
                shard.replicas.iter().filter(|replica| replica.role == "voter" && replica.missing_segments == 0);
            (shard.shard, voters.map(|replica| replica.node).collect())
        };
        Ok(Self {
            partitions: described.partitions.iter().map(place).collect(),
            replicas: status.shards.iter().map(whole).collect(),
        })
    }

    /// Partitions of which a node has a replica.
    fn on(&self, node: u64) -> Vec<u32> {
        let is_here = |shard: &u32| self.replicas.get(shard).is_some_and(|nodes| nodes.contains(&node));
        self.partitions.iter().filter(|(_, place)| is_here(&place.shard)).map(|(partition, _)| *partition).collect()
    }

    fn start(&self, partition: u32) -> u64 {
        self.partitions.get(&partition).map_or(0, |place| place.start)
    }

    fn is_before_the_end(&self, partition: u32, offset: u64) -> bool {
        self.partitions.get(&partition).is_some_and(|place| offset < place.end)
    }
}

/// Notes that a source was read to its end, or why not.
fn note_ends(
    shared: &Shared,
    source: Source,
    node: u64,
    at: When,
    partitions: &BTreeMap<u32, u64>,
    places: &Places,
    failed: Option<&str>,
) {
    for (partition, next) in partitions {
        let outcome = failed.map_or(Outcome::Ok(*next), |why| Outcome::Info(why.to_owned()));
        let (partition, from) = (*partition, places.start(*partition));
        shared.note(&Line::CopyEnd(CopyEnd { source, node, partition, at, from, outcome }));
    }
}

/// Everything that a node's own replicas have, up to the high watermarks.
async fn copy_replica(shared: &Shared, node: u64, client: &Client, places: &Places) {
    let partitions = places.on(node);
    if partitions.is_empty() {
        return;
    }
    let mut next: BTreeMap<u32, u64> =
        partitions.iter().map(|partition| (*partition, places.start(*partition))).collect();
    let options = ConsumerOptions {
        partitions: Some(partitions.into_iter().map(PartitionId).collect()),
        stop: Stop::AtEnd,
        from_follower: true,
        ..ConsumerOptions::default()
    };
    let reading = async {
        let mut consumer = client.consumer(&shared.load.topic, options).await?;
        while let Some(records) = consumer.next().await? {
            let before_the_end =
                |record: &ConsumedRecord| places.is_before_the_end(record.partition.0, record.offset.0);
            let records: Vec<_> = records.into_iter().filter(before_the_end).collect();
            note_records(shared, node, &records, &mut next);
        }
        Ok::<_, ClientError>(())
    };
    let (at, read) = shared.timed(tokio::time::timeout(READ_WITHIN, reading)).await;
    let failed = why_not(read);
    note_ends(shared, Source::Replica, node, at, &next, places, failed.as_deref());
}

fn note_records(shared: &Shared, node: u64, records: &[ConsumedRecord], next: &mut BTreeMap<u32, u64>) {
    let mut digests = records.iter().map(digest);
    let mut epochs = records.iter().map(|record| record.producer.map_or(-1, |producer| producer.epoch));
    for run in runs(records, shared.load.padding) {
        let digests: Vec<u32> = digests.by_ref().take(run.values.len()).collect();
        let epochs: Vec<i16> = epochs.by_ref().take(run.values.len()).collect();
        next.insert(run.partition, run.first + run.values.len() as u64);
        shared.note(&Line::Copy(CopyPart {
            source: Source::Replica,
            node,
            partition: run.partition,
            first: run.first,
            values: run.values,
            word: None,
            digests,
            epochs,
            altered: run.altered,
        }));
    }
}

/// Every row as a node answers SQL, or every hit of every word.
async fn copy_rows(shared: &Shared, node: u64, client: &Client, places: &Places, source: Source, tokens: &[Token]) {
    let topic = &shared.load.topic;
    let all = format!("SELECT _partition, _offset, id FROM {topic}");
    let questions: Vec<(Option<u64>, String)> = match source {
        Source::Search => {
            (0..WORDS).map(|word| (Some(word), format!("{all} WHERE MATCH(text, 'word{word}')"))).collect()
        }
        _ => vec![(None, all)],
    };
    let mut next: BTreeMap<u32, u64> = places.partitions.keys().map(|partition| (*partition, 0)).collect();
    let reading = async {
        for (word, sql) in &questions {
            let mut rows = read_rows(client, sql, tokens).await?;
            rows.retain(|(partition, offset, _)| places.is_before_the_end(*partition, *offset));
            note_rows(shared, source, node, *word, rows, &mut next);
        }
        Ok::<_, ClientError>(())
    };
    let (at, read) = shared.timed(tokio::time::timeout(READ_WITHIN, reading)).await;
    note_ends(shared, source, node, at, &next, places, why_not(read).as_deref());
}

async fn read_rows(client: &Client, sql: &str, tokens: &[Token]) -> Result<Vec<(u32, u64, u64)>, ClientError> {
    let options = QueryOptions { tokens: tokens.to_vec(), timeout: Some(READ_WITHIN), ..QueryOptions::default() };
    let mut answer = client.sql(sql, &options).await?;
    let mut rows = Vec::new();
    while let Some(batch) = answer.next().await? {
        rows.extend(reader::rows(&batch));
    }
    rows.sort_unstable();
    Ok(rows)
}

/// Rows in the order of their places, in lines of consecutive offsets.
fn note_rows(
    shared: &Shared,
    source: Source,
    node: u64,
    word: Option<u64>,
    rows: Vec<(u32, u64, u64)>,
    next: &mut BTreeMap<u32, u64>,
) {
    let goes_on = |one: &(u32, u64, u64), other: &(u32, u64, u64)| one.0 == other.0 && one.1 + 1 == other.1;
    for run in rows.chunk_by(goes_on).flat_map(|run| run.chunks(CHUNK)) {
        let (partition, first, _) = run[0];
        let values: Vec<u64> = run.iter().map(|(_, _, value)| *value).collect();
        let end = first + values.len() as u64;
        next.entry(partition).and_modify(|next| *next = end.max(*next)).or_insert(end);
        let part = CopyPart {
            source,
            node,
            partition,
            first,
            values,
            word,
            digests: Vec::new(),
            epochs: Vec::new(),
            altered: Vec::new(),
        };
        shared.note(&Line::Copy(part));
    }
}

fn why_not(read: Result<Result<(), ClientError>, tokio::time::error::Elapsed>) -> Option<String> {
    match read {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(told(&error)),
        Err(_) => Some(format!("it took longer than {READ_WITHIN:?}")),
    }
}
