//! The log becomes replay segments and is let go: under load, across restarts, kills and a full disk.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use stratalog_broker::{Broker, BrokerOptions, FetchRequest, ReadFrom, ReplayOptions};
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Code, Offset, PartitionId};
use stratalog_query::SqlRequest;
use stratalog_storage::LaneOptions;
use stratalog_storage::sabotage::{Bug, plant};
use tempfile::TempDir;

use super::failing_disk::FailingDisk;
use super::{child, count_in, start_after_kill_with};

const FILE_BYTES: u64 = 1 << 20;
const BUDGET: u64 = 4 * FILE_BYTES;

/// Small files and small rolls.
pub(super) fn options(dir: &Path) -> BrokerOptions {
    let lane = LaneOptions { file_bytes: FILE_BYTES, ..LaneOptions::default() };
    let interval = Duration::from_millis(10);
    let replay = ReplayOptions { roll_bytes: 256 << 10, lane_bytes: BUDGET, interval };
    BrokerOptions { lane, replay, shards: 2, ..BrokerOptions::new(dir) }
}

/// As it was before there were replay segments: the log is kept.
fn without_rolling(dir: &Path) -> BrokerOptions {
    let replay = ReplayOptions { roll_bytes: u64::MAX, lane_bytes: u64::MAX, ..ReplayOptions::default() };
    BrokerOptions { replay, ..options(dir) }
}

pub(super) fn raw() -> TopicConfig {
    TopicConfig { format: Format::Raw, ..TopicConfig::default() }
}

/// A record that nothing shrinks, whose bytes say which one it is.
fn blob(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let value: Vec<u8> = (0..bytes).map(|_| next()).collect();
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(seed as i64, Some(&seed.to_be_bytes()), Some(&value), &[]);
    builder.finish()
}

/// What was acknowledged: the batch at each offset.
pub(super) type Model = BTreeMap<(String, PartitionId), Vec<Bytes>>;

/// Produces so many records to each of the partitions, one after the other in each.
pub(super) async fn produce(broker: &Arc<Broker>, model: &mut Model, topic: &str, partitions: u32, records: u64) {
    let producing = (0..partitions).map(|partition| {
        let (broker, topic) = (Arc::clone(broker), topic.to_owned());
        let known = model.get(&(topic.clone(), PartitionId(partition))).map_or(0, Vec::len) as u64;
        tokio::spawn(async move {
            let mut sent = Vec::new();
            for n in known..known + records {
                let batch = blob(n * 1_000 + u64::from(partition), 3_000);
                let produced = broker.produce(&topic, PartitionId(partition), batch.clone()).await.unwrap();
                assert_eq!(produced.base_offset, Offset(n), "{topic} {partition}");
                sent.push(batch);
            }
            ((topic, PartitionId(partition)), sent)
        })
    });
    for produced in futures::future::join_all(producing).await {
        let (key, sent) = produced.unwrap();
        model.entry(key).or_default().extend(sent);
    }
}

/// Everything that can be read of a partition, as it was produced.
async fn read_all(broker: &Broker, topic: &str, partition: PartitionId) -> Vec<Bytes> {
    let mut read = Vec::new();
    let mut next = Offset(0);
    loop {
        let request = FetchRequest {
            topic: topic.to_owned(),
            partitions: vec![(partition, next)],
            max_bytes: 300_000,
            max_wait: Duration::ZERO,
            from: ReadFrom::Leader,
        };
        let fetched = broker.fetch(request).await.unwrap().remove(0);
        let batches: Vec<Bytes> =
            fetched.result.unwrap().iter().flat_map(|several| several.batches()).map(|batch| batch.unwrap()).collect();
        if batches.is_empty() {
            assert_eq!(next, fetched.high_watermark);
            return read;
        }
        for batch in batches {
            let header = Batch::parse(batch.clone()).expect("what is fetched is whole").header().clone();
            assert_eq!(header.base_offset as u64, next.0, "L2: {topic} {partition} is dense");
            next = Offset(next.0 + header.record_count as u64);
            let mut bytes = BytesMut::from(&batch[..]);
            bytes[0..8].fill(0);
            bytes[12..16].copy_from_slice(&sent_epoch());
            read.push(bytes.freeze());
        }
    }
}

/// The leader epoch of a batch as it is produced.
fn sent_epoch() -> [u8; 4] {
    blob(0, 1)[12..16].try_into().unwrap()
}

pub(super) async fn check(broker: &Broker, model: &Model) {
    for ((topic, partition), sent) in model {
        let read = read_all(broker, topic, *partition).await;
        assert_eq!(read.len(), sent.len(), "{topic} {partition}");
        let differs = read.iter().zip(sent).position(|(read, sent)| read != sent);
        assert_eq!(differs, None, "{topic} {partition}");
    }
}

/// A figure of the metrics; those of all shards added up.
fn figure(broker: &Broker, name: &str) -> u64 {
    let text = broker.metrics();
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_the_log_is_short(broker: &Broker) {
    until("a short log", || figure(broker, "stratalog_lane_files_bytes") <= BUDGET).await;
}

/// The names of files below a directory that end like this.
pub(super) fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_stay_byte_for_byte_while_the_log_below_them_is_rolled_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(dir.path())).await.unwrap();
    broker.create_topic("a", 3, raw()).await.unwrap();
    broker.create_topic("b", 2, raw()).await.unwrap();
    let mut model = Model::new();
    for _ in 0..4 {
        produce(&broker, &mut model, "a", 3, 200).await;
        produce(&broker, &mut model, "b", 2, 100).await;
        check(&broker, &model).await;
    }
    until_the_log_is_short(&broker).await;
    assert!(figure(&broker, "stratalog_lane_first_file") > 1, "the first file is free");
    assert!(figure(&broker, "stratalog_lane_recycled_files_total") > 0);
    check(&broker, &model).await;
    until("the first file goes", || files(dir.path(), "00000000000000000001.log").is_empty()).await;
    assert!(!files(dir.path(), ".rec").is_empty());
    until("one state file a group", || files(&dir.path().join("shards"), ".state").len() <= 3).await;
    broker.stop().await;
    drop(broker);

    let broker = start_after_kill_with(|| options(dir.path())).await;
    check(&broker, &model).await;
    produce(&broker, &mut model, "a", 3, 50).await;
    check(&broker, &model).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_written_without_rolling_upgrades() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(without_rolling(dir.path())).await.unwrap();
    broker.create_topic("t", 3, raw()).await.unwrap();
    let mut model = Model::new();
    produce(&broker, &mut model, "t", 3, 900).await;
    assert_eq!(figure(&broker, "stratalog_lane_first_file"), 1);
    broker.stop().await;
    drop(broker);
    for group in 0..3 {
        let states = dir.path().join("shards").join(format!("{group:04}")).join("state");
        std::fs::remove_dir(&states).expect("there are no state files");
    }

    let broker = start_after_kill_with(|| options(dir.path())).await;
    check(&broker, &model).await;
    until_the_log_is_short(&broker).await;
    check(&broker, &model).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_are_deleted_in_the_middle_of_a_roll_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(dir.path())).await.unwrap();
    broker.create_topic("kept", 2, raw()).await.unwrap();
    let mut model = Model::new();
    for round in 0..6 {
        let gone = format!("gone-{round}");
        broker.create_topic(&gone, 2, raw()).await.unwrap();
        produce(&broker, &mut model, &gone, 2, 150).await;
        produce(&broker, &mut model, "kept", 2, 20).await;
        broker.delete_topic(&gone).await.unwrap();
        model.retain(|(topic, _), _| *topic != gone);
    }
    until_the_log_is_short(&broker).await;
    check(&broker, &model).await;
    broker.stop().await;
    drop(broker);

    let broker = start_after_kill_with(|| options(dir.path())).await;
    check(&broker, &model).await;
    broker.delete_topic("kept").await.unwrap();
    until("no replay segment", || files(dir.path(), ".rec").is_empty()).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_drops_leaves_the_replay_segments_too() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(dir.path())).await.unwrap();
    broker.create_topic("rows", 2, TopicConfig::default()).await.unwrap();
    let rows = |first: i64| {
        let mut builder = BatchBuilder::new(Compression::None);
        for n in first..first + 40 {
            let value = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(200));
            builder.push(n, None, Some(value.as_bytes()), &[]);
        }
        builder.finish()
    };
    let mut tokens = Vec::new();
    for n in 0..400 {
        tokens.push(broker.produce("rows", PartitionId(n % 2), rows(i64::from(n) * 40)).await.unwrap().token);
    }
    until("replay segments", || !files(dir.path(), ".rec").is_empty()).await;
    until_the_log_is_short(&broker).await;
    assert_eq!(broker.drop_before("rows", i64::MAX, false).await.unwrap().rows, 16_000);
    // What was not rolled before the drop is rolled after it, and is dead at once.
    let more = broker.produce("rows", PartitionId(0), rows(0)).await.unwrap();
    until("few replay segments", || figure(&broker, "stratalog_replay_segments") == 0).await;
    until("no files of them", || files(dir.path(), ".rec").is_empty()).await;
    let log_start = broker.partitions("rows").await.unwrap()[0].log_start;
    assert_eq!(log_start, Offset(8_000));
    broker.stop().await;
    drop(broker);

    let broker = start_after_kill_with(|| options(dir.path())).await;
    let counted = count_in(&broker, "rows", vec![more.token]).await;
    assert_eq!(counted, 40);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_a_lost_replay_segment_ends_the_queries_of_its_topic_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(dir.path())).await.unwrap();
    for topic in ["hurt", "whole"] {
        broker.create_topic(topic, 1, TopicConfig::default()).await.unwrap();
    }
    let mut model = Model::new();
    produce(&broker, &mut model, "hurt", 1, 200).await;
    until("a replay segment", || !files(dir.path(), ".rec").is_empty()).await;
    let lost = files(dir.path(), ".rec");
    produce(&broker, &mut model, "whole", 1, 200).await;
    broker.stop().await;
    drop(broker);
    lost.iter().for_each(|path| std::fs::remove_file(path).unwrap());

    let broker = start_after_kill_with(|| options(dir.path())).await;
    assert_eq!(figure(&broker, "stratalog_rows_held_topics"), 1);
    let asked = Instant::now();
    let request = SqlRequest { sql: "SELECT count(*) FROM hurt".to_owned(), ..SqlRequest::default() };
    let refused = broker.engine().sql(request).await.map(|_| ()).unwrap_err();
    assert!(asked.elapsed() < Duration::from_secs(20), "a query does not wait for what is lost");
    let names = ["replay segment", "offsets 0.."].iter().all(|part| refused.message.contains(part));
    assert!(names, "it says what cannot be read: {refused}");
    assert_eq!(count_in(&broker, "whole", vec![]).await, 200);
    model.remove(&("hurt".to_owned(), PartitionId(0))).unwrap();
    produce(&broker, &mut model, "whole", 1, 20).await;
    check(&broker, &model).await;
    broker.produce("hurt", PartitionId(0), blob(0, 100)).await.expect("its records are as safe as those of others");
    broker.delete_topic("hurt").await.unwrap();
    until("a node without damage", || figure(&broker, "stratalog_rows_held_topics") == 0).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_rolling_and_not_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let options = || BrokerOptions { disk: disk.clone(), ..options(dir.path()) };
    let broker = Broker::start(options()).await.unwrap();
    broker.create_topic("t", 2, raw()).await.unwrap();
    disk.segments_are_full(true);
    let mut model = Model::new();
    produce(&broker, &mut model, "t", 2, 900).await;
    until("a roll that fails", || figure(&broker, "stratalog_roll_failures_total") > 1).await;
    assert_eq!(figure(&broker, "stratalog_replay_frontier"), 0);
    check(&broker, &model).await;

    disk.segments_are_full(false);
    until_the_log_is_short(&broker).await;
    produce(&broker, &mut model, "t", 2, 100).await;
    check(&broker, &model).await;
    broker.stop().await;
    drop(broker);
    let broker = start_after_kill_with(options).await;
    check(&broker, &model).await;
    broker.stop().await;
}

/// The children of the next tests: they say what was acknowledged, until they are killed.
#[test]
#[ignore = "run by l4_records_survive_kills_amid_rolls_and_snapshots, in a process of its own"]
fn child_that_rolls() {
    let Some(dir) = std::env::var_os("STRATALOG_IT_DIR") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if std::env::var_os("STRATALOG_IT_SABOTAGE").is_some() {
            plant(Some(Bug::PurgeBeforeRoll));
        }
        let broker = Broker::start(options(Path::new(&dir))).await.unwrap();
        if broker.topic("t").is_err() {
            broker.create_topic("t", 3, raw()).await.unwrap();
        }
        let produce = async |info: stratalog_query::PartitionInfo| {
            for n in info.high_watermark.0.. {
                let batch = blob(n * 1_000 + u64::from(info.partition.0), 3_000);
                let produced = broker.produce("t", info.partition, batch).await.unwrap();
                println!("acknowledged {} {}", info.partition, produced.base_offset);
            }
        };
        futures::future::join_all(broker.partitions("t").await.unwrap().into_iter().map(produce)).await;
    });
}

/// Runs the child until so many records were acknowledged, then kills it; how many there are in each partition.
fn run_and_kill(dir: &TempDir, acknowledgements: usize, sabotage: bool) -> BTreeMap<PartitionId, u64> {
    let mut command = child("rolling::child_that_rolls", dir);
    if sabotage {
        command.env("STRATALOG_IT_SABOTAGE", "1");
    }
    let mut killed = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(killed.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut records, mut acknowledged) = (BTreeMap::new(), 0);
    for line in lines {
        let Some((_, fields)) = line.split_once("acknowledged ") else { continue };
        let fields: Vec<u64> = fields.split(' ').map_while(|field| field.parse().ok()).collect();
        let [partition, offset] = fields[..] else { continue };
        let records = records.entry(PartitionId(partition as u32)).or_insert(0);
        *records = (offset + 1).max(*records);
        acknowledged += 1;
        if acknowledged == acknowledgements {
            killed.kill().unwrap();
        }
    }
    killed.wait().unwrap();
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_records_survive_kills_amid_rolls_and_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    // Kills at other places each time: some in a build, some between Roll and snapshot, some before the log is let go.
    for records in [150, 400, 90, 700, 333, 521] {
        acknowledged.extend(run_and_kill(&dir, records, false));
        let broker = Broker::start(without_rolling(dir.path())).await.unwrap();
        for (partition, records) in &acknowledged {
            let read = read_all(&broker, "t", *partition).await;
            assert!(read.len() as u64 >= *records, "partition {partition} has {} of {records}", read.len());
            for (n, read) in (0..).zip(read) {
                assert!(read == blob(n * 1_000 + u64::from(partition.0), 3_000), "partition {partition}, offset {n}");
            }
        }
        assert_eq!(figure(&broker, "stratalog_replay_segments_missing"), 0);
        broker.stop().await;
        drop(broker);
        wait_for_the_lock(&dir).await;
    }
    let broker = Broker::start(options(dir.path())).await.unwrap();
    assert!(figure(&broker, "stratalog_snapshot_frontier") > 0);
    broker.stop().await;
}

#[test]
fn l4_a_log_that_is_purged_before_it_is_rolled_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    run_and_kill(&dir, 1_500, true);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = runtime.block_on(Broker::start(options(dir.path())));
    assert_eq!(started.err().map(|error| error.code), Some(Code::CorruptData));
    // The groups that had begun end with it, before their directory goes: a vote that cannot be saved would end the process.
    drop(runtime);
}

async fn wait_for_the_lock(dir: &TempDir) {
    start_after_kill_with(|| without_rolling(dir.path())).await.stop().await;
    let lock = || std::fs::File::open(dir.path().join("LOCK")).unwrap().try_lock().is_ok();
    until("the lock of the directory", lock).await;
}
