//! What was written to a cluster, and what became of it.
//!
//! Writers keep a topic busy and note each outcome: acknowledged at an offset, refused, or unknown. At the end each replica is
//! read, and SQL and search are asked, and all have to agree with the notes and with each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use parking_lot::Mutex;
use stratalog_client::{Client, ConsumerOptions, Delivery, OutRecord, ProducerOptions, QueryOptions, SendError, Stop};
use stratalog_proto::{Token, v1};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::nodes::Cluster;

/// Records that a writer sends a second: enough that every moment has some in flight, little enough for two cores.
const RECORDS_A_SECOND: u32 = 400;
/// Some records have each of these words.
const WORDS: u64 = 10;
/// A record may take as long as the longest fault lasts, and the cluster needs to come back.
const DEADLINE: Duration = Duration::from_secs(90);
const PARTITIONS: u32 = 6;

/// Outcomes of all writers.
#[derive(Default)]
struct Notes {
    /// (partition, offset) → the record's id.
    acknowledged: BTreeMap<(u32, u64), String>,
    /// They are certainly not in the log.
    refused: BTreeSet<String>,
    unknown: BTreeSet<String>,
    tokens: HashMap<u32, u64>,
    /// When acknowledgements came.
    times: Vec<Instant>,
}

/// Writers to a topic, until they are told to stop.
pub(super) struct Ledger {
    topic: String,
    notes: Arc<Mutex<Notes>>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Ledger {
    /// Makes the topic, and starts writers that know all nodes.
    pub(super) fn begin(cluster: &Cluster, topic: &str, writers: u32) -> Self {
        let create = ["topic", "create", topic, "--partitions", &PARTITIONS.to_string()];
        cluster.run(&create).ok();
        let (notes, stop) = (Arc::default(), Arc::default());
        let start = |writer| {
            let name = format!("{topic}-{writer}");
            cluster.runtime.spawn(write(
                cluster.client(),
                topic.to_owned(),
                name,
                Arc::clone(&notes),
                Arc::clone(&stop),
            ))
        };
        let writers = (0..writers).map(start).collect();
        Self { topic: topic.to_owned(), notes, stop, writers }
    }

    /// Waits until so many more records were acknowledged.
    pub(super) fn wait_for(&self, cluster: &Cluster, more: usize) {
        let wanted = self.notes.lock().times.len() + more;
        cluster.wait(&format!("{more} more records are acknowledged"), |_| {
            let so_far = self.notes.lock().times.len();
            if so_far >= wanted { Ok(()) } else { Err(format!("{} are missing", wanted - so_far)) }
        });
    }

    /// The longest time without an acknowledgement since `from`, up to now.
    pub(super) fn longest_gap(&self, from: Instant) -> Duration {
        let mut times: Vec<Instant> = self.notes.lock().times.iter().copied().filter(|time| *time >= from).collect();
        times.extend([from, Instant::now()]);
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Stops the writers, waits until the cluster is whole, and compares. Panics with what does not agree.
    pub(super) fn check(mut self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Release);
        for writer in self.writers.drain(..) {
            cluster.runtime.block_on(writer).expect("a writer does not panic");
        }
        cluster.wait_whole();
        let notes = self.notes.lock();
        assert!(notes.acknowledged.len() > 100, "only {} records: the test tested little", notes.acknowledged.len());
        let log = cluster.runtime.block_on(read_log(&cluster.client(), &self.topic));
        check_log(&log, &notes);
        for number in cluster.numbers() {
            let client = cluster.client_of(number);
            cluster.runtime.block_on(check_replica(&client, number, &self.topic, &log));
            cluster.runtime.block_on(check_rows(&client, number, &self.topic, &log, &notes));
        }
        eprintln!(
            "{}: {} records in the log, {} acknowledged, {} unknown, {} refused",
            self.topic,
            log.values().map(Partition::len).sum::<usize>(),
            notes.acknowledged.len(),
            notes.unknown.len(),
            notes.refused.len()
        );
    }
}

/// Ids of a partition, in the order of their offsets, from `first` on.
struct Partition {
    first: u64,
    ids: Vec<String>,
}

impl Partition {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn at(&self, offset: u64) -> Option<&String> {
        self.ids.get(usize::try_from(offset.checked_sub(self.first)?).ok()?)
    }
}

type LogOf = BTreeMap<u32, Partition>;

async fn write(client: Client, topic: String, name: String, notes: Arc<Mutex<Notes>>, stop: Arc<AtomicBool>) {
    let options =
        ProducerOptions { deadline: DEADLINE, linger: Duration::from_millis(2), ..ProducerOptions::default() };
    let producer = client.producer(&topic, options).await.expect("the topic is there");
    let (outcomes, told) = mpsc::unbounded_channel();
    let noting = tokio::spawn(note(told, notes.clone()));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RECORDS_A_SECOND);
    for number in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        ticks.tick().await;
        let id = format!("{name}-{number}");
        let value = format!("{{\"id\":\"{id}\",\"text\":\"the word{} of {id}\"}}", number % WORDS);
        match producer.send(OutRecord::keyed(id.clone(), value)).await {
            Ok(delivery) => outcomes.send((id, delivery)).expect("the task that notes lives longer"),
            // The buffer is full: it was not taken.
            Err(_) => drop(notes.lock().refused.insert(id)),
        }
    }
    drop(outcomes);
    noting.await.expect("noting does not panic");
    let tokens = producer.tokens();
    let mut notes = notes.lock();
    for token in tokens {
        let known = notes.tokens.entry(token.shard.0).or_default();
        *known = (*known).max(token.index.0);
    }
}

async fn note(mut told: mpsc::UnboundedReceiver<(String, Delivery)>, notes: Arc<Mutex<Notes>>) {
    while let Some((id, delivery)) = told.recv().await {
        let outcome = delivery.await;
        let mut notes = notes.lock();
        match outcome {
            Ok(ack) => {
                notes.times.push(Instant::now());
                let before = notes.acknowledged.insert((ack.partition.0, ack.offset.0), id.clone());
                assert_eq!(before, None, "L2: offset {} of partition {} was given twice", ack.offset, ack.partition);
            }
            Err(SendError::Failed { .. }) => drop(notes.refused.insert(id)),
            Err(SendError::Unknown { .. }) => drop(notes.unknown.insert(id)),
        }
    }
}

async fn read_log(client: &Client, topic: &str) -> LogOf {
    let options = ConsumerOptions { stop: Stop::AtEnd, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(topic, options).await.expect("the topic can be read");
    let mut log = LogOf::new();
    while let Some(records) = consumer.next().await.expect("the topic can be read to its end") {
        for record in records {
            let found = log.entry(record.partition.0);
            let partition = found.or_insert(Partition { first: record.offset.0, ids: Vec::new() });
            let next = partition.first + partition.len() as u64;
            assert_eq!(record.offset.0, next, "L2: offsets of partition {} are dense", record.partition);
            let key = record.key.expect("every record has a key");
            partition.ids.push(String::from_utf8(key.to_vec()).expect("keys are text"));
        }
    }
    log
}

fn check_log(log: &LogOf, notes: &Notes) {
    for ((partition, offset), id) in &notes.acknowledged {
        let found = log.get(partition).and_then(|partition| partition.at(*offset));
        assert_eq!(found, Some(id), "L1: at offset {offset} of partition {partition}");
    }
    let mut seen = BTreeSet::new();
    for id in log.values().flat_map(|partition| &partition.ids) {
        assert!(seen.insert(id), "record {id} is there twice");
        assert!(!notes.refused.contains(id), "record {id} is there, but was refused");
    }
    let written = notes.acknowledged.len() + notes.unknown.len();
    assert!(seen.len() <= written, "{} records are there, at most {written} were written", seen.len());
}

/// The replica of a node has what the log has, byte for byte. Where it has none, it asks the leader.
async fn check_replica(client: &Client, number: u64, topic: &str, log: &LogOf) {
    let options = ConsumerOptions { stop: Stop::AtEnd, from_follower: true, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(topic, options).await.expect("the topic can be read");
    let mut records = 0;
    while let Some(read) = consumer.next().await.unwrap_or_else(|error| panic!("node {number}: {error}")) {
        for record in read {
            let expected = log.get(&record.partition.0).and_then(|partition| partition.at(record.offset.0));
            let (partition, offset) = (record.partition, record.offset);
            let expected = expected.unwrap_or_else(|| panic!("node {number} has offset {offset} of {partition}"));
            assert_eq!(record.key.as_deref(), Some(expected.as_bytes()), "node {number}, {partition}/{offset}");
            records += 1;
        }
    }
    assert_eq!(records, log.values().map(Partition::len).sum::<usize>(), "node {number} has all of it");
}

/// S1, Q1: as asked of one node, every record is a row once, and a search for a word finds it once.
async fn check_rows(client: &Client, number: u64, topic: &str, log: &LogOf, notes: &Notes) {
    let tokens = notes.tokens.iter().map(|(shard, index)| token(*shard, *index)).collect::<Vec<_>>();
    let options = QueryOptions { tokens: tokens.clone(), ..QueryOptions::default() };
    let sql = format!("SELECT _partition, _offset, id FROM {topic}");
    let rows = client.sql(&sql, &options).await.unwrap_or_else(|error| panic!("node {number}: {error}"));
    let (_, batches, _) = rows.collect().await.unwrap_or_else(|error| panic!("node {number}: {error}"));
    let mut seen = BTreeSet::new();
    for (partition, offset, id) in batches.iter().flat_map(places) {
        assert!(seen.insert((partition, offset)), "S1: node {number} has row {partition}/{offset} twice");
        let expected = log.get(&partition).and_then(|partition| partition.at(offset));
        assert_eq!(expected, Some(&id), "node {number}, row {partition}/{offset}");
    }
    let records: usize = log.values().map(Partition::len).sum();
    assert_eq!(seen.len(), records, "S1: node {number} has a row for each record");
    check_search(client, number, topic, log, tokens).await;
}

async fn check_search(client: &Client, number: u64, topic: &str, log: &LogOf, tokens: Vec<Token>) {
    let ids = || log.values().flat_map(|partition| &partition.ids);
    let word = 3;
    let with_it = ids().filter(|id| {
        let last = id.rsplit('-').next().and_then(|last| last.parse::<u64>().ok());
        last.expect("ids end with a number") % WORDS == word
    });
    let sql = format!("SELECT count(*) FROM {topic} WHERE MATCH(text, 'word{word}')");
    let options = QueryOptions { tokens: tokens.clone(), ..QueryOptions::default() };
    let counted = client.sql(&sql, &options).await.unwrap_or_else(|error| panic!("node {number}: {error}"));
    let (_, batches, _) = counted.collect().await.unwrap_or_else(|error| panic!("node {number}: {error}"));
    let count = batches[0].column(0).as_primitive::<Int64Type>().value(0);
    assert_eq!(count, with_it.count() as i64, "search on node {number}");
    let request = v1::SearchRequest {
        topic: topic.to_owned(),
        query: format!("text:word{word}"),
        limit: 20,
        tokens: tokens.iter().map(|token| v1::Token { shard: token.shard.0, index: token.index.0 }).collect(),
        ..v1::SearchRequest::default()
    };
    let found = client.search(request).await.unwrap_or_else(|error| panic!("node {number}: {error}"));
    let (_, batches, _) = found.collect().await.unwrap_or_else(|error| panic!("node {number}: {error}"));
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 20, "node {number} finds the newest");
}

fn token(shard: u32, index: u64) -> Token {
    Token { shard: stratalog_proto::ShardId(shard), index: stratalog_proto::RaftIndex(index) }
}

/// Partition, offset and id of each row.
fn places(batch: &RecordBatch) -> impl Iterator<Item = (u32, u64, String)> {
    let partitions = batch.column(0).as_primitive::<Int32Type>().clone();
    let offsets = batch.column(1).as_primitive::<Int64Type>().clone();
    let ids = arrow::compute::cast(batch.column(2), &arrow::datatypes::DataType::Utf8).expect("ids are text");
    (0..batch.num_rows()).map(move |row| {
        let partition = u32::try_from(partitions.value(row)).expect("partitions count from 0");
        let offset = u64::try_from(offsets.value(row)).expect("offsets count from 0");
        (partition, offset, ids.as_string::<i32>().value(row).to_owned())
    })
}
