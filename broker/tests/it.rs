//! The broker as its listeners see it: over a real directory, across restarts and kills.

use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::{Bytes, BytesMut};
use stratalog_broker::{Broker, BrokerOptions, FetchRequest, FetchedPartition, OffsetAt, ReadFrom};
use stratalog_proto::batch::{Batch, BatchBuilder, BatchError, Compression};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Code, Error, Offset, PartitionId, ProducerId, Token};
use stratalog_query::SqlRequest;
use stratalog_storage::LaneOptions;
use tempfile::TempDir;

#[path = "it/backup.rs"]
mod backup;
#[path = "it/cluster.rs"]
mod cluster;
#[path = "it/erasing.rs"]
mod erasing;
#[path = "it/failing_disk.rs"]
mod failing_disk;
#[path = "it/forming.rs"]
mod forming;
#[path = "it/groups.rs"]
mod groups;
#[path = "it/operating.rs"]
mod operating;
#[path = "it/oracle/mod.rs"]
mod oracle;
#[path = "it/repairing.rs"]
mod repairing;
#[path = "it/restarting.rs"]
mod restarting;
#[path = "it/retention.rs"]
mod retention;
#[path = "it/rolling.rs"]
mod rolling;
#[path = "it/routing.rs"]
mod routing;
#[path = "it/scrubbing.rs"]
mod scrubbing;
#[path = "it/zones.rs"]
mod zones;

use failing_disk::FailingDisk;

const P0: PartitionId = PartitionId(0);

fn options(dir: &TempDir) -> BrokerOptions {
    let lane = LaneOptions { file_bytes: 16 << 20, ..LaneOptions::default() };
    BrokerOptions { lane, shards: 2, ..BrokerOptions::new(dir.path()) }
}

async fn start(dir: &TempDir) -> Arc<Broker> {
    Broker::start(options(dir)).await.unwrap()
}

/// Starts after a broker was dropped without being stopped: it takes a moment until its tasks are gone.
async fn start_after_kill(dir: &TempDir) -> Arc<Broker> {
    start_after_kill_with(|| options(dir)).await
}

async fn start_after_kill_with(options: impl Fn() -> BrokerOptions) -> Arc<Broker> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Broker::start(options()).await {
            Err(error) if matches!(error.code, Code::Unavailable | Code::Io) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            started => return started.unwrap(),
        }
    }
}

/// A batch of JSON records `{"n":first}`, `{"n":first+1}`, …, with timestamps of so many milliseconds.
fn batch(first: i64, records: i64, producer: Option<(ProducerId, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::Lz4);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(id, 0, sequence);
    }
    for n in first..first + records {
        builder.push(n, Some(n.to_string().as_bytes()), Some(format!("{{\"n\":{n}}}").as_bytes()), &[]);
    }
    builder.finish()
}

fn from(topic: &str, offset: u64) -> FetchRequest {
    let partitions = vec![(P0, Offset(offset))];
    FetchRequest {
        topic: topic.to_owned(),
        partitions,
        max_bytes: 1 << 20,
        max_wait: Duration::ZERO,
        from: ReadFrom::Leader,
    }
}

async fn fetch_one(broker: &Broker, request: FetchRequest) -> FetchedPartition {
    broker.fetch(request).await.unwrap().remove(0)
}

/// The batches as they were produced: with base offset and leader epoch set back.
fn as_produced(fetched: &FetchedPartition) -> Vec<Bytes> {
    let whole = |batch: Result<Bytes, BatchError>| {
        let batch = batch.expect("what is fetched are whole batches");
        let mut bytes = BytesMut::from(&Batch::parse(batch).expect("as they were produced").bytes()[..]);
        bytes[0..8].fill(0);
        bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
        bytes.freeze()
    };
    fetched.result.as_ref().unwrap().iter().flat_map(|several| several.batches()).map(whole).collect()
}

fn sent(batch: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    bytes.freeze()
}

fn code<T>(result: Result<T, Error>) -> Code {
    result.err().expect("an error").code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_come_back_byte_for_byte_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let batches = [batch(0, 3, None), batch(3, 1, None), batch(4, 6, None)];
    for (sent, offset) in batches.iter().zip([0, 3, 4]) {
        assert_eq!(broker.produce("t", P0, sent.clone()).await.unwrap().base_offset, Offset(offset));
    }
    let expected: Vec<Bytes> = batches.iter().map(sent).collect();
    assert_eq!(as_produced(&fetch_one(&broker, from("t", 0)).await), expected);
    broker.stop().await;
    drop(broker);

    let broker = start_after_kill(&dir).await;
    let fetched = fetch_one(&broker, from("t", 0)).await;
    assert_eq!((fetched.log_start, fetched.high_watermark), (Offset(0), Offset(10)));
    assert_eq!(as_produced(&fetched), expected);
    assert_eq!(broker.produce("t", P0, batch(10, 1, None)).await.unwrap().base_offset, Offset(10));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_acknowledged_records_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 3, TopicConfig::default()).await.unwrap();
    let produce = |n: u32| {
        let broker = Arc::clone(&broker);
        async move {
            let produced = broker.produce("t", PartitionId(n % 3), batch(i64::from(n), 1, None)).await.unwrap();
            (PartitionId(n % 3), produced.base_offset, n)
        }
    };
    let acknowledged = futures::future::join_all((0..300).map(produce)).await;
    drop(broker);

    let broker = start_after_kill(&dir).await;
    for (partition, offset, n) in acknowledged {
        let request = FetchRequest { partitions: vec![(partition, offset)], max_bytes: 1, ..from("t", 0) };
        let fetched = fetch_one(&broker, request).await;
        assert_eq!(as_produced(&fetched), [sent(&batch(i64::from(n), 1, None))], "{partition} {offset}");
        assert_eq!(fetched.high_watermark, Offset(100));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_after_a_restart_keeps_its_offset() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let (producer, epoch) = broker.init_producer().await.unwrap();
    assert_eq!(epoch, 0);
    for sequence in 0..3 {
        broker.produce("t", P0, batch(0, 2, Some((producer, sequence * 2)))).await.unwrap();
    }
    drop(broker);

    let broker = start_after_kill(&dir).await;
    let again = broker.produce("t", P0, batch(0, 2, Some((producer, 2)))).await.unwrap();
    assert_eq!(again.base_offset, Offset(2));
    assert_eq!(code(broker.produce("t", P0, batch(0, 1, Some((producer, 9)))).await), Code::OutOfOrderSequence);
    assert_eq!(broker.produce("t", P0, batch(0, 1, Some((producer, 6)))).await.unwrap().base_offset, Offset(6));
    assert_ne!(broker.init_producer().await.unwrap().0, producer);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_batches_of_a_producer_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let (producer, _) = broker.init_producer().await.unwrap();
    let produce = |sequence| broker.produce("t", P0, batch(0, 1, Some((producer, sequence))));
    let produced = futures::future::join_all((0..500).map(produce)).await;
    for (sequence, produced) in (0..).zip(produced) {
        assert_eq!(produced.unwrap().base_offset, Offset(sequence));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_refuses_and_writes_nothing_of_what_it_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = BrokerOptions { produce_buffer_bytes: 1, produce_wait: Duration::ZERO, ..options(&dir) };
    let broker = Broker::start(options).await.unwrap();
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let produce = |n| broker.produce("t", P0, batch(n, 1, None));
    let produced = futures::future::join_all((0..50).map(produce)).await;
    let written = produced.iter().filter(|produced| produced.is_ok()).count() as u64;
    assert!(written >= 1);
    for refused in produced.into_iter().filter_map(Result::err) {
        assert_eq!(refused.code, Code::Overloaded);
    }
    assert_eq!(broker.partitions("t").await.unwrap()[0].high_watermark, Offset(written));
    broker.stop().await;
}

/// A test of this binary, in a process of its own.
fn child(test: &str, dir: &TempDir) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture"]).env("STRATALOG_IT_DIR", dir.path());
    command
}

/// The child of the next test: says what was acknowledged, until it is killed.
#[test]
#[ignore = "run by l1_acknowledged_records_survive_a_sigkill_under_load, in a process of its own"]
fn child_under_load() {
    let Some(dir) = std::env::var_os("STRATALOG_IT_DIR") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = Broker::start(BrokerOptions { shards: 2, ..BrokerOptions::new(dir) }).await.unwrap();
        broker.create_topic("t", 4, TopicConfig::default()).await.unwrap();
        let produce = async |partition: u32| {
            for n in (i64::from(partition)..).step_by(4) {
                let produced = broker.produce("t", PartitionId(partition), batch(n, 1, None)).await.unwrap();
                println!("acknowledged {partition} {} {n}", produced.base_offset);
            }
        };
        futures::future::join_all((0..4).map(produce)).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_acknowledged_records_survive_a_sigkill_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut killed = child("child_under_load", &dir).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(killed.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acknowledged = Vec::new();
    for line in lines {
        // The harness may have written something before on the same line.
        let Some((_, fields)) = line.split_once("acknowledged ") else { continue };
        let fields: Vec<u64> = fields.split(' ').map_while(|field| field.parse().ok()).collect();
        let [partition, offset, n] = fields[..] else { continue };
        acknowledged.push((PartitionId(partition as u32), Offset(offset), n as i64));
        if acknowledged.len() == 400 {
            killed.kill().unwrap();
        }
    }
    killed.wait().unwrap();
    assert!(acknowledged.len() >= 400, "only {} were acknowledged", acknowledged.len());

    let broker = Broker::start(BrokerOptions { shards: 2, ..BrokerOptions::new(dir.path()) }).await.unwrap();
    for (partition, offset, n) in acknowledged {
        let request = FetchRequest { partitions: vec![(partition, offset)], max_bytes: 1, ..from("t", 0) };
        let fetched = fetch_one(&broker, request).await;
        assert_eq!(as_produced(&fetched), [sent(&batch(n, 1, None))], "partition {partition}, offset {offset}");
    }
    broker.stop().await;
}

/// The child of the next test: a broker whose disk fails at a sync.
#[test]
#[ignore = "run by an_io_error_in_the_log_stops_the_process, in a process of its own"]
fn child_with_a_failing_disk() {
    let Some(dir) = std::env::var_os("STRATALOG_IT_DIR") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(FailingDisk::default());
        let broker = Broker::start(BrokerOptions { disk: disk.clone(), ..BrokerOptions::new(dir) }).await.unwrap();
        broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        broker.produce("t", P0, batch(0, 1, None)).await.unwrap();
        disk.fail_from_now_on();
        let acknowledged = broker.produce("t", P0, batch(1, 1, None)).await;
        println!("L1 BROKEN: {acknowledged:?}");
    });
}

#[test]
fn an_io_error_in_the_log_stops_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let child = child("child_with_a_failing_disk", &dir).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(6), "it aborts\n{out}\n{err}");
    assert!(err.contains("stratalog stops: ") && err.contains("cannot be made durable"), "{err}");
    assert!(!out.contains("L1 BROKEN"), "{out}");
}

/// The child of the next test: a broker whose disk fails while nobody writes.
#[test]
#[ignore = "run by l1_a_disk_that_fails_under_an_idle_node_stops_the_process, in a process of its own"]
fn child_that_is_idle_when_its_disk_fails() {
    let Some(dir) = std::env::var_os("STRATALOG_IT_DIR") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(FailingDisk::default());
        // Long enough that the disk fails before the lane, which is idle then, syncs for the last time.
        let lane = LaneOptions { mark_after: Duration::from_secs(5), ..LaneOptions::default() };
        let options = BrokerOptions { disk: disk.clone(), lane, ..BrokerOptions::new(dir) };
        let broker = Broker::start(options).await.unwrap();
        broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        broker.produce("t", P0, batch(0, 1, None)).await.unwrap();
        disk.fail_from_now_on();
        tokio::time::sleep(Duration::from_secs(60)).await;
        println!("it goes on without a disk");
    });
}

#[test]
fn l1_a_disk_that_fails_under_an_idle_node_stops_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let child = child("child_that_is_idle_when_its_disk_fails", &dir).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(6), "it aborts\n{out}\n{err}");
    assert!(err.contains("the log of this node cannot be made durable") && err.contains("injected"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_records_are_refused_and_segments_can_be_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FailingDisk::default());
    let (produce_wait, produce_timeout) = (Duration::from_millis(300), Duration::from_secs(20));
    let options = BrokerOptions { disk: disk.clone(), produce_wait, produce_timeout, ..options(&dir) };
    let broker = Broker::start(options).await.unwrap();
    broker.create_topic("rows", 1, TopicConfig::default()).await.unwrap();
    let raw = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    broker.create_topic("blobs", 64, raw).await.unwrap();
    broker.produce("rows", P0, batch(0, 10, None)).await.unwrap();
    disk.is_full_from_now_on();

    // 38 MiB for the 16 MiB of one log file.
    let blob = |partition| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(0, None, Some(&[7; 600 << 10]), &[]);
        broker.produce("blobs", PartitionId(partition), builder.finish())
    };
    let answers = futures::future::join_all((0..64).map(blob)).await;
    let refused: Vec<Code> = answers.iter().filter_map(|answer| Some(answer.as_ref().err()?.code)).collect();
    assert!(refused.iter().all(|code| *code == Code::StorageFull), "{refused:?}");
    assert!(refused.len() >= 38 && refused.len() < 64, "{} were refused", refused.len());

    assert_eq!(broker.drop_before("rows", i64::MAX, false).await.unwrap().rows, 10, "a Seal and a Drop have room");
    broker.delete_topic("blobs").await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_by_the_directory_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    let error = Broker::start(options(&dir)).await.err().expect("the directory is in use");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains(&dir.path().display().to_string()), "{error}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_waits_for_the_next_record_and_no_longer_than_asked() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let empty = fetch_one(&broker, FetchRequest { max_wait: Duration::from_millis(20), ..from("t", 0) }).await;
    assert_eq!(empty.result.unwrap(), []);
    let waiting = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { fetch_one(&broker, FetchRequest { max_wait: Duration::from_secs(60), ..from("t", 0) }).await }
    });
    tokio::task::yield_now().await;
    broker.produce("t", P0, batch(0, 1, None)).await.unwrap();
    assert_eq!(as_produced(&waiting.await.unwrap()).len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_keeps_to_batches_offsets_and_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    for first in [0, 10, 20] {
        broker.produce("t", P0, batch(first, 10, None)).await.unwrap();
    }
    let inside = fetch_one(&broker, from("t", 15)).await;
    assert_eq!(inside.result.as_ref().unwrap().len(), 2, "the whole batch around the offset, and the next");
    let header = &inside.result.as_ref().unwrap()[0].head;
    assert_eq!(i64::from_be_bytes(header[0..8].try_into().unwrap()), 10);
    let one = fetch_one(&broker, FetchRequest { max_bytes: 1, ..from("t", 0) }).await;
    assert_eq!(one.result.unwrap().len(), 1, "the first batch is always there");
    assert_eq!(fetch_one(&broker, from("t", 30)).await.result.unwrap(), []);
    assert_eq!(code(fetch_one(&broker, from("t", 31)).await.result), Code::OffsetOutOfRange);
    let unknown = FetchRequest { partitions: vec![(PartitionId(7), Offset(0))], ..from("t", 0) };
    assert_eq!(code(fetch_one(&broker, unknown).await.result), Code::UnknownPartition);
    assert_eq!(code(broker.fetch(from("u", 0)).await), Code::UnknownTopic);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    broker.produce("t", P0, batch(100, 10, None)).await.unwrap();
    broker.produce("t", P0, batch(200, 10, None)).await.unwrap();
    let ms = 1_000_000;
    for (at, expected) in [
        (OffsetAt::Earliest, 0),
        (OffsetAt::Latest, 20),
        (OffsetAt::Time(0), 0),
        (OffsetAt::Time(104 * ms), 4),
        (OffsetAt::Time(104 * ms + 1), 5),
        (OffsetAt::Time(150 * ms), 10),
        (OffsetAt::Time(500 * ms), 20),
    ] {
        assert_eq!(broker.list_offsets("t", at).await.unwrap(), [(P0, Offset(expected))], "{at:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_change_and_a_name_created_again_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    let first = broker.create_topic("t", 0, TopicConfig::default()).await.unwrap();
    assert_eq!(first.partitions, 4);
    assert_eq!(code(broker.create_topic("t", 1, TopicConfig::default()).await), Code::TopicExists);
    assert_eq!(code(broker.create_topic("../t", 1, TopicConfig::default()).await), Code::InvalidTopicName);
    let settings = [("max.message.bytes".to_owned(), "1024".to_owned())];
    assert_eq!(broker.alter_topic("t", &settings).await.unwrap().config.max_message_bytes, 1_024);
    let large = batch(0, 1_000, None);
    assert_eq!(code(broker.produce("t", P0, large.clone()).await), Code::MessageTooLarge);
    broker.produce("t", P0, batch(0, 5, None)).await.unwrap();
    broker.delete_topic("t").await.unwrap();
    assert_eq!(code(broker.produce("t", P0, batch(0, 1, None)).await), Code::UnknownTopic);
    let second = broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(broker.partitions("t").await.unwrap()[0].high_watermark, Offset(0));
    broker.stop().await;
    drop(broker);

    let broker = start_after_kill(&dir).await;
    assert_eq!(broker.topics(), [second]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_batches_and_unknown_partitions_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("orders", 1, TopicConfig::default()).await.unwrap();
    let mut damaged = BytesMut::from(&batch(0, 1, None)[..]);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(code(broker.produce("orders", P0, damaged.freeze()).await), Code::CorruptBatch);
    assert_eq!(code(broker.produce("orders", PartitionId(1), batch(0, 1, None)).await), Code::UnknownPartition);
    let error = broker.produce("order", P0, batch(0, 1, None)).await.unwrap_err();
    assert!(error.code == Code::UnknownTopic && error.message.contains("`orders`"), "{error}");
    assert_eq!(broker.partitions("orders").await.unwrap()[0].high_watermark, Offset(0));
    broker.stop().await;
    assert_eq!(code(broker.produce("orders", P0, batch(0, 1, None)).await), Code::Unavailable);
    assert_eq!(code(broker.ready().map(|_| ())), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_was_produced() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    broker.produce("t", P0, batch(0, 7, None)).await.unwrap();
    let text = broker.metrics();
    assert!(text.contains("stratalog_produced_records_total 7"), "{text}");
    assert!(text.contains("stratalog_leader{shard=\"0\"} 1"), "{text}");
    broker.stop().await;
}

async fn count(broker: &Broker, tokens: Vec<Token>) -> i64 {
    count_in(broker, "t", tokens).await
}

async fn count_in(broker: &Broker, topic: &str, tokens: Vec<Token>) -> i64 {
    let request = SqlRequest { sql: format!("SELECT count(*) FROM {topic}"), tokens, ..SqlRequest::default() };
    let mut answer = broker.engine().sql(request).await.unwrap();
    let mut total = 0;
    while let Some(rows) = answer.next().await {
        total += rows.unwrap().column(0).as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
    }
    total
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_follow_records_through_seal_drop_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let hour_ms = 3_600_000;
    broker.produce("t", P0, batch(0, 10, None)).await.unwrap();
    let last = broker.produce("t", P0, batch(hour_ms, 5, None)).await.unwrap();
    assert_eq!(count(&broker, vec![last.token]).await, 15);
    let end_of_first_hour = hour_ms * 1_000_000;
    let plan = broker.drop_before("t", end_of_first_hour, true).await.unwrap();
    let segments = broker.segments("t").await.unwrap().len();
    assert_eq!((plan.rows, plan.tail_rows, segments), (0, 10, 0), "a dry run seals nothing");
    assert_eq!(count(&broker, vec![]).await, 15);
    assert_eq!(broker.drop_before("t", end_of_first_hour, false).await.unwrap().rows, 10);
    assert_eq!(count(&broker, vec![]).await, 5);
    let log_start = async |broker: &Broker| broker.partitions("t").await.unwrap()[0].log_start;
    assert_eq!(log_start(&broker).await, Offset(10), "the log begins at the lowest offset with a live row");
    drop(broker);

    let broker = start_after_kill(&dir).await;
    assert_eq!((log_start(&broker).await, count(&broker, vec![]).await), (Offset(10), 5));
    assert_eq!(code(fetch_one(&broker, from("t", 9)).await.result), Code::OffsetOutOfRange);
    let next = broker.produce("t", P0, batch(hour_ms, 1, None)).await.unwrap();
    assert_eq!(count(&broker, vec![next.token]).await, 6);
    broker.stop().await;
}
