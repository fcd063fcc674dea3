//! Records are erased for good: their bytes are in no file, what is left is where it was, and a crash ends nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_broker::{Broker, BrokerOptions, ErasureInfo, ErasureState, FetchRequest, ReadFrom, ReplayOptions};
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Code, JobId, Offset, PartitionId};
use stratalog_query::SqlRequest;
use stratalog_storage::LaneOptions;
use tempfile::TempDir;

use super::{count_in, start_after_kill_with};

/// What is to be forgotten.
const SECRET: &str = "ada.lovelace@example.org";

fn options(dir: &Path) -> BrokerOptions {
    let lane = LaneOptions { file_bytes: 1 << 20, ..LaneOptions::default() };
    let replay = ReplayOptions { interval: Duration::from_millis(10), ..ReplayOptions::default() };
    BrokerOptions { lane, replay, shards: 2, ..BrokerOptions::new(dir) }
}

async fn start(dir: &TempDir) -> Arc<Broker> {
    start_after_kill_with(|| options(dir.path())).await
}

/// A record of somebody: every third is the one to be forgotten.
fn value(n: u64) -> String {
    let user = if n.is_multiple_of(3) { SECRET.to_owned() } else { format!("user-{n}@example.org") };
    format!("{{\"n\":{n},\"user\":\"{user}\"}}")
}

/// A batch of five records.
fn batch(first: u64, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    (first..first + 5).for_each(|n| builder.push(1_700_000_000_000 + n as i64, None, Some(value(n).as_bytes()), &[]));
    builder.finish()
}

/// Batches of five in two partitions; the record at an offset has its number.
async fn produce(broker: &Broker, topic: &str, offsets: std::ops::Range<u64>, compression: Compression) {
    for first in offsets.step_by(5) {
        for partition in [0, 1].map(PartitionId) {
            let produced = broker.produce(topic, partition, batch(first, compression)).await.unwrap();
            assert_eq!(produced.base_offset, Offset(first));
        }
    }
}

/// The offsets and values of a partition, as a consumer gets them.
async fn consume(broker: &Broker, topic: &str, partition: u32) -> Vec<(u64, Bytes)> {
    let (mut found, mut next) = (Vec::new(), Offset(0));
    loop {
        let partitions = vec![(PartitionId(partition), next)];
        let request = FetchRequest {
            topic: topic.to_owned(),
            partitions,
            max_bytes: 1 << 20,
            max_wait: Duration::ZERO,
            from: ReadFrom::Leader,
        };
        let fetched = broker.fetch(request).await.unwrap().remove(0);
        if next < fetched.log_start {
            // The lowest records are erased.
            next = fetched.log_start;
            continue;
        }
        for batch in fetched.result.unwrap().iter().flat_map(|several| several.batches()) {
            let batch = Batch::parse(batch.unwrap()).unwrap();
            let base = batch.header().base_offset as u64;
            for record in batch.records(1 << 20).unwrap() {
                let record = record.unwrap();
                found.push((base + record.offset_delta as u64, record.value.unwrap()));
            }
            next = Offset(base + u64::from(batch.offset_count()));
        }
        if next == fetched.high_watermark {
            return found;
        }
    }
}

fn expected(offsets: std::ops::Range<u64>, is_left: impl Fn(u64) -> bool) -> Vec<(u64, Bytes)> {
    offsets.filter(|n| is_left(*n)).map(|n| (n, Bytes::from(value(n)))).collect()
}

/// The files below a directory that hold these bytes.
fn files_with(dir: &Path, wanted: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(wanted.len()).any(|window| window == wanted)
        {
            found.push(path);
        }
    }
    found
}

/// Waits until a job has ended in every shard.
async fn ended(broker: &Broker, job: JobId) -> Vec<ErasureInfo> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let of_job: Vec<_> = broker.erasures().into_iter().filter(|info| info.job == job).collect();
        let is_over =
            |info: &ErasureInfo| matches!(info.state, ErasureState::Done { .. } | ErasureState::Failed { .. });
        if !of_job.is_empty() && of_job.iter().all(is_over) {
            return of_job;
        }
        assert!(Instant::now() < deadline, "it does not end: {of_job:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the state that names the condition is not on the disk any more, soon after the end.
async fn forgotten(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !files_with(dir, SECRET.as_bytes()).is_empty() {
        assert!(Instant::now() < deadline, "it is still in {:?}", files_with(dir, SECRET.as_bytes()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn erase(broker: &Broker, topic: &str) -> JobId {
    broker.erase(topic, &format!("user = '{SECRET}'")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erased_records_are_in_no_file_and_the_others_are_where_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    for topic in ["plain", "other"] {
        broker.create_topic(topic, 2, TopicConfig::default()).await.unwrap();
        produce(&broker, topic, 0..30, Compression::None).await;
    }
    assert!(!files_with(dir.path(), SECRET.as_bytes()).is_empty());
    let job = erase(&broker, "plain").await;
    let ends = ended(&broker, job).await;
    assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
    let sum = |count: fn(&ErasureInfo) -> u64| ends.iter().map(count).sum::<u64>();
    assert_eq!((sum(|info| info.rows), sum(|info| info.records)), (20, 20));
    assert!(ends.iter().all(|info| info.predicate.is_empty()));
    assert_eq!(count_in(&broker, "other", vec![]).await, 60, "nothing is erased of another topic");
    let job = erase(&broker, "other").await;
    ended(&broker, job).await;
    forgotten(dir.path()).await;

    // New records of the same user are no concern of a job that ended.
    produce(&broker, "plain", 30..45, Compression::Zstd).await;
    let check = async |broker: Arc<Broker>| {
        let broker = &*broker;
        for partition in [0, 1] {
            let left = |n: u64| n >= 30 || !n.is_multiple_of(3);
            assert_eq!(consume(broker, "plain", partition).await, expected(0..45, left));
            let verified = broker.verify("plain", PartitionId(partition)).await.unwrap();
            assert_eq!((verified.damaged, verified.records), (0, 35));
        }
        assert_eq!(count_in(broker, "plain", vec![]).await, 70);
    };
    check(Arc::clone(&broker)).await;
    broker.stop().await;
    drop(broker);
    check(start(&dir).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_covers_what_was_there_when_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
    produce(&broker, "t", 0..30, Compression::Lz4).await;
    broker.seal_topic("t").await.unwrap();
    produce(&broker, "t", 30..60, Compression::Zstd).await;
    let job = erase(&broker, "t").await;
    produce(&broker, "t", 60..90, Compression::Gzip).await;
    ended(&broker, job).await;
    for partition in [0, 1] {
        let left = |n: u64| n >= 60 || !n.is_multiple_of(3);
        assert_eq!(consume(&broker, "t", partition).await, expected(0..90, left));
    }
    assert_eq!(count_in(&broker, "t", vec![]).await, 140);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_cut_short_is_gone_on_with() {
    for pause_ms in [0, 15, 40, 80, 160, 320] {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(&dir).await;
        broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
        produce(&broker, "t", 0..60, Compression::None).await;
        let job = erase(&broker, "t").await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        drop(broker);

        let broker = start(&dir).await;
        let ends = ended(&broker, job).await;
        assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
        forgotten(dir.path()).await;
        for partition in [0, 1] {
            let left = |n: u64| !n.is_multiple_of(3);
            assert_eq!(consume(&broker, "t", partition).await, expected(0..60, left));
        }
        assert_eq!(count_in(&broker, "t", vec![]).await, 80);
        broker.stop().await;
    }
}

/// The statement is answered with the job.
async fn delete(broker: &Broker, condition: &str) -> Result<JobId, stratalog_proto::Error> {
    let request = SqlRequest { sql: format!("DELETE FROM t WHERE {condition}"), ..SqlRequest::default() };
    let mut answer = broker.engine().sql(request).await?;
    let rows = answer.next().await.unwrap()?;
    let job = arrow::util::display::array_value_to_string(rows.column(0), 0).unwrap();
    Ok(broker.erasures().iter().find(|info| info.job.to_string() == job).unwrap().job)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_statement_erases_and_says_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
    produce(&broker, "t", 0..10, Compression::None).await;
    let job = delete(&broker, &format!("user = '{SECRET}' AND _partition = 1")).await.unwrap();
    ended(&broker, job).await;
    assert_eq!((consume(&broker, "t", 0).await.len(), consume(&broker, "t", 1).await.len()), (10, 6));
    // Whole batches.
    let job = delete(&broker, "_offset < 5").await.unwrap();
    ended(&broker, job).await;
    assert_eq!(consume(&broker, "t", 0).await, expected(0..10, |n| n >= 5));
    assert_eq!(count_in(&broker, "t", vec![]).await, 8);
    for refused in ["_raw = 'x'", "nobody IS NULL", "_time < now()", "n IN (SELECT n FROM t)", "count(*) > 1"] {
        assert!(delete(&broker, refused).await.is_err(), "{refused}");
    }
    // What cannot be computed shows only when it is read.
    let job = broker.erase("t", "100 / (n - 7) = 1").await.unwrap();
    let ends = ended(&broker, job).await;
    let errors: Vec<_> = ends.iter().filter_map(|info| info.error.as_deref()).collect();
    assert!(!errors.is_empty(), "{ends:#?}");
    assert!(errors.iter().all(|error| error.starts_with("InvalidSql: the condition")), "no value is told: {errors:?}");
    broker.stop().await;
}

/// A batch of one record, of a user with this id.
fn of_user(id: &str) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(1_700_000_000_000, None, Some(format!("{{\"user\":{{\"id\":{id}}}}}").as_bytes()), &[]);
    builder.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_ends_where_integers_became_text() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    for id in ["17", "18", "17"] {
        broker.produce("t", PartitionId(0), of_user(id)).await.unwrap();
    }
    broker.seal_topic("t").await.unwrap();
    let job = delete(&broker, "user.id = 17").await.unwrap();
    broker.produce("t", PartitionId(0), of_user("\"ada\"")).await.unwrap();
    let ends = ended(&broker, job).await;
    assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
    broker.produce("t", PartitionId(0), of_user("17")).await.unwrap();
    let job = delete(&broker, "user.id = 17").await.unwrap();
    let ends = ended(&broker, job).await;
    assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
    let left: Vec<u64> = consume(&broker, "t", 0).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(left, [1, 3]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_raw_topic_are_not_erased_by_a_condition() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    let raw = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    broker.create_topic("r", 1, raw).await.unwrap();
    assert_eq!(broker.erase("r", "_offset = 1").await.unwrap_err().code, Code::InvalidRequest);
    assert_eq!(broker.erase("nobody", "_offset = 1").await.unwrap_err().code, Code::UnknownTopic);
    assert!(broker.erasures().is_empty());
    broker.stop().await;
}

/// A batch of records with these timestamps, in milliseconds since the epoch, and values.
fn batch_of(records: impl IntoIterator<Item = (i64, String)>, compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    records.into_iter().for_each(|(at_ms, value)| builder.push(at_ms, None, Some(value.as_bytes()), &[]));
    builder.finish()
}

const NOW_MS: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_does_not_depend_on_what_was_written_later() {
    for round in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let broker = start(&dir).await;
        broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
        let ages = (0..100).map(|age| (NOW_MS, format!("{{\"age\":{age}}}")));
        broker.produce("t", PartitionId(0), batch_of(ages, Compression::None)).await.unwrap();
        if round % 2 == 0 {
            broker.seal_topic("t").await.unwrap();
        }
        let job = broker.erase("t", "age > 42").await.unwrap();
        // The column becomes text: as text, "5" is more than "42", and "unknown" is no number.
        let later = ["\"unknown\"", "43", "1.5"].map(|age| (NOW_MS, format!("{{\"age\":{age}}}")));
        broker.produce("t", PartitionId(0), batch_of(later, Compression::None)).await.unwrap();
        broker.seal_topic("t").await.unwrap();
        broker.merge_topic("t").await.unwrap();
        let ends = ended(&broker, job).await;
        assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
        assert_eq!(ends.iter().map(|info| info.rows).sum::<u64>(), 57);
        let left: Vec<_> = consume(&broker, "t", 0).await.into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(left, (0..=42).chain(100..103).collect::<Vec<_>>());
        assert_eq!(count_in(&broker, "t", vec![]).await, 46);
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_records_are_erased_in_steps_that_fit_a_small_log() {
    let dir = tempfile::tempdir().unwrap();
    let small = || {
        let mut options = options(dir.path());
        options.lane.file_bytes = 64 << 10;
        options
    };
    let broker = start_after_kill_with(small).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let total = 200_000_u64;
    for first in (0..total).step_by(10_000) {
        let records = (first..first + 10_000).map(|n| (NOW_MS, format!("{{\"odd\":{}}}", n % 2)));
        broker.produce("t", PartitionId(0), batch_of(records, Compression::Zstd)).await.unwrap();
    }
    let job = broker.erase("t", "odd = 1").await.unwrap();
    let ends = ended(&broker, job).await;
    assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
    let sum = |count: fn(&ErasureInfo) -> u64| ends.iter().map(count).sum::<u64>();
    assert_eq!((sum(|info| info.rows), sum(|info| info.records)), (total / 2, total / 2));
    assert_eq!(count_in(&broker, "t", vec![]).await, total as i64 / 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_whose_row_was_dropped_with_its_bucket_is_erased_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    // The newer record comes first, so that log start does not pass the older one.
    for record in [(now_ms, value(1)), (NOW_MS, value(3)), (now_ms, value(4))] {
        broker.produce("t", PartitionId(0), batch_of([record], Compression::None)).await.unwrap();
        broker.seal_topic("t").await.unwrap();
    }
    broker.drop_before("t", (now_ms - 7 * 86_400_000) * 1_000_000, false).await.unwrap();
    assert_eq!(count_in(&broker, "t", vec![]).await, 2);
    assert_eq!(consume(&broker, "t", 0).await.len(), 3, "the record outlives its row");
    let job = erase(&broker, "t").await;
    let ends = ended(&broker, job).await;
    assert_eq!((ends[0].rows, ends[0].records), (0, 1), "{ends:#?}");
    let left: Vec<_> = consume(&broker, "t", 0).await.into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(left, [0, 2]);
    forgotten(dir.path()).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_erased_while_others_come_in() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
    produce(&broker, "t", 0..60, Compression::Lz4).await;
    let job = erase(&broker, "t").await;
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let producing = tokio::spawn({
        let (broker, over) = (Arc::clone(&broker), Arc::clone(&over));
        async move {
            let mut next = 60;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                produce(&broker, "t", next..next + 15, Compression::Zstd).await;
                next += 15;
                if next % 60 == 0 {
                    broker.seal_topic("t").await.unwrap();
                    broker.merge_topic("t").await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            next
        }
    });
    let ends = ended(&broker, job).await;
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let total = producing.await.unwrap();
    assert!(ends.iter().all(|info| matches!(info.state, ErasureState::Done { .. })), "{ends:#?}");
    for partition in [0, 1] {
        let left = |n: u64| n >= 60 || !n.is_multiple_of(3);
        assert_eq!(consume(&broker, "t", partition).await, expected(0..total, left));
    }
    assert_eq!(count_in(&broker, "t", vec![]).await, 2 * (total as i64 - 20));
    broker.stop().await;
}
