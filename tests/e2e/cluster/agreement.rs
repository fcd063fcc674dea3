//! Whether log, replicas, SQL and search agree with what was noted of writers, and with each other.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use stratalog_client::{Client, ConsumedRecord, ConsumerOptions, QueryOptions, Stop};
use stratalog_proto::v1;

use super::ledger::{Notes, WORDS, Written, number_of};
use super::nodes::Cluster;
use super::segments::check_segments;

/// Records of a partition, in the order of their offsets, from `first` on.
struct Partition {
    first: u64,
    records: Vec<ConsumedRecord>,
}

impl Partition {
    fn at(&self, offset: u64) -> Option<&ConsumedRecord> {
        self.records.get(usize::try_from(offset.checked_sub(self.first)?).ok()?)
    }
}

type LogOf = BTreeMap<u32, Partition>;

/// Reads everything, from everywhere, and panics with what does not agree.
pub(super) fn agree(cluster: &Cluster, written: &Written, notes: &Notes) {
    let log = cluster.runtime.block_on(read_log(&cluster.client(), &written.topic));
    check_log(&log, written, notes);
    for number in cluster.numbers() {
        let client = cluster.client_of(number);
        cluster.runtime.block_on(check_replica(&client, number, &written.topic, &log));
        cluster.runtime.block_on(check_rows(&client, number, &written.topic, &log, notes));
    }
    // Q2: rows that are sealed answer as those that were not. What is sealed is the same everywhere.
    let client = cluster.client();
    cluster.runtime.block_on(client.seal_topic(&written.topic)).expect("the topic can be sealed");
    cluster.runtime.block_on(check_rows(&client, 0, &written.topic, &log, notes));
    let files = check_segments(cluster, &written.topic);
    eprintln!(
        "{}: {} records in the log, {} acknowledged, {} unknown, {} refused; {files}",
        written.topic,
        count(&log),
        notes.acknowledged.len(),
        notes.unknown.len(),
        notes.refused.len()
    );
}

/// Reads everything of a cluster that was restored, and panics where it is not what the first one began with.
pub(super) fn agree_on_prefix(cluster: &Cluster, restored: &Client, topic: &str) -> usize {
    let found = cluster.runtime.block_on(read_log(restored, topic));
    let log = cluster.runtime.block_on(read_log(&cluster.client(), topic));
    for (number, partition) in &found {
        let expected = &log[number];
        assert_eq!(partition.first, expected.first, "log start of partition {number}");
        let differs = partition.records.iter().zip(&expected.records).position(|(found, expected)| found != expected);
        assert_eq!(differs, None, "L2: partition {number}");
        assert!(partition.records.len() <= expected.records.len(), "partition {number} has more than was written");
    }
    cluster.runtime.block_on(check_rows(restored, 0, topic, &found, &Notes::default()));
    count(&found)
}

fn count(log: &LogOf) -> usize {
    log.values().map(|partition| partition.records.len()).sum()
}

fn id_of(record: &ConsumedRecord) -> &str {
    let key = record.key.as_deref().expect("every record has a key");
    std::str::from_utf8(key).expect("keys are text")
}

/// All records of a topic, as whoever leads its shards has them.
async fn read_log(client: &Client, topic: &str) -> LogOf {
    let options = ConsumerOptions { stop: Stop::AtEnd, ..ConsumerOptions::default() };
    let mut consumer = client.consumer(topic, options).await.expect("the topic can be read");
    let mut log = LogOf::new();
    while let Some(records) = consumer.next().await.expect("the topic can be read to its end") {
        for record in records {
            let found = log.entry(record.partition.0);
            let partition = found.or_insert(Partition { first: record.offset.0, records: Vec::new() });
            let next = partition.first + partition.records.len() as u64;
            assert_eq!(record.offset.0, next, "L2: offsets of partition {} are dense", record.partition);
            partition.records.push(record);
        }
    }
    log
}

fn check_log(log: &LogOf, written: &Written, notes: &Notes) {
    for ((partition, offset), id) in &notes.acknowledged {
        let found = log.get(partition).and_then(|partition| partition.at(*offset));
        assert_eq!(found.map(id_of), Some(id.as_str()), "L1: at offset {offset} of partition {partition}");
    }
    let mut seen = BTreeSet::new();
    for record in log.values().flat_map(|partition| &partition.records) {
        let id = id_of(record);
        assert!(seen.insert(id), "record {id} is there twice");
        assert!(!notes.refused.contains(id), "record {id} is there, but was refused");
        let sent = written.record(id);
        let same = (&sent.key, &sent.value, &sent.headers) == (&record.key, &record.value, &record.headers);
        assert!(same, "L2: sent was {sent:?}, and what is there is {record:?}");
    }
    let written = notes.acknowledged.len() + notes.unknown.len();
    assert!(seen.len() <= written, "{} records are there, at most {written} were written", seen.len());
}

/// L2: the replica of a node has what the log has, byte for byte. Where it has none, it asks the leader.
async fn check_replica(client: &Client, number: u64, topic: &str, log: &LogOf) {
    let options = ConsumerOptions { stop: Stop::AtEnd, from_follower: true, ..ConsumerOptions::default() };
    let consumer = client.consumer(topic, options).await;
    let mut consumer = consumer.unwrap_or_else(|error| panic!("node {number}: {error}"));
    let mut records = 0;
    while let Some(read) = consumer.next().await.unwrap_or_else(|error| panic!("node {number}: {error}")) {
        for record in read {
            let (partition, offset) = (record.partition, record.offset);
            let expected = log.get(&partition.0).and_then(|partition| partition.at(offset.0));
            assert_eq!(Some(&record), expected, "L2: record {partition}/{offset} of node {number}, and of the leader");
            records += 1;
        }
    }
    assert_eq!(records, count(log), "node {number} has as many records as its leaders");
}

/// S1, Q1: as asked of one node, every record is a row once, and a search for a word finds it once.
async fn check_rows(client: &Client, number: u64, topic: &str, log: &LogOf, notes: &Notes) {
    let options = QueryOptions { tokens: notes.tokens(), ..QueryOptions::default() };
    let batches = rows(client, number, &format!("SELECT _partition, _offset, id FROM {topic}"), &options).await;
    let mut seen = BTreeSet::new();
    for (partition, offset, id) in batches.iter().flat_map(places) {
        assert!(seen.insert((partition, offset)), "S1: node {number} has row {partition}/{offset} twice");
        let expected = log.get(&partition).and_then(|partition| partition.at(offset));
        assert_eq!(expected.map(id_of), Some(id.as_str()), "node {number}, row {partition}/{offset}");
    }
    let all = log.iter().flat_map(|(at, partition)| partition.records.iter().map(move |record| (*at, record.offset.0)));
    let missing: Vec<_> = all.filter(|place| !seen.contains(place)).collect();
    let examples = &missing[..missing.len().min(10)];
    assert!(missing.is_empty(), "S1: node {number} lacks the rows of {} records, such as {examples:?}", missing.len());
    check_search(client, number, topic, log, &options).await;
}

async fn check_search(client: &Client, number: u64, topic: &str, log: &LogOf, options: &QueryOptions) {
    let word = 3;
    let records = log.values().flat_map(|partition| &partition.records);
    let with_it = records.filter(|record| number_of(id_of(record)) % WORDS == word).count();
    let sql = format!("SELECT count(*) FROM {topic} WHERE MATCH(text, 'word{word}')");
    let batches = rows(client, number, &sql, options).await;
    let counted = batches[0].column(0).as_primitive::<Int64Type>().value(0);
    assert_eq!(counted, with_it as i64, "search for word{word} on node {number}");
    let tokens = options.tokens.iter().map(|token| v1::Token { shard: token.shard.0, index: token.index.0 });
    let request = v1::SearchRequest {
        topic: topic.to_owned(),
        query: format!("text:word{word}"),
        limit: 20,
        tokens: tokens.collect(),
        ..v1::SearchRequest::default()
    };
    let found = client.search(request).await.unwrap_or_else(|error| panic!("search on node {number}: {error}"));
    let (_, batches, _) = found.collect().await.unwrap_or_else(|error| panic!("search on node {number}: {error}"));
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, with_it.min(20), "node {number} finds the newest");
}

async fn rows(client: &Client, number: u64, sql: &str, options: &QueryOptions) -> Vec<RecordBatch> {
    let answered = async { client.sql(sql, options).await?.collect().await };
    answered.await.unwrap_or_else(|error| panic!("node {number}, {sql}: {error}")).1
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
