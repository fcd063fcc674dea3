//! What leaves a broker, and where it is seen: fetch, queries, files, across a restart.

use std::path::Path;
use std::time::Duration;

use stratalog_broker::{Broker, BrokerOptions, ReplayOptions};
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{Code, Offset, PartitionId};
use stratalog_query::SqlRequest;
use tempfile::TempDir;

use super::{
    P0, batch, code, count, count_in, fetch_one, from, options, start, start_after_kill, start_after_kill_with,
};

const P1: PartitionId = PartitionId(1);
const END: Offset = Offset(u64::MAX);

/// The log is rolled as soon as there is a little.
fn rolling(dir: &TempDir) -> BrokerOptions {
    let replay = ReplayOptions { roll_bytes: 1 << 10, interval: Duration::from_millis(5), ..ReplayOptions::default() };
    BrokerOptions { replay, shards: 1, ..options(dir) }
}

fn files(dir: &Path, ending: &str) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => files(&path, ending),
        false => usize::from(path.to_str().unwrap().ends_with(ending)),
    };
    entries.map(count).sum()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} has not come");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_records_are_gone_for_consumers_and_queries_and_stay_so() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
    let mut tokens = Vec::new();
    for partition in [P0, P1] {
        broker.produce("t", partition, batch(0, 10, None)).await.unwrap();
        tokens.push(broker.produce("t", partition, batch(10, 10, None)).await.unwrap().token);
    }
    let wrong: [(&[(PartitionId, Offset)], Code); 4] = [
        (&[], Code::InvalidRequest),
        (&[(P0, Offset(1)), (P0, Offset(2))], Code::InvalidRequest),
        (&[(P0, Offset(1)), (P1, Offset(21))], Code::OffsetOutOfRange),
        (&[(P0, Offset(1)), (PartitionId(2), Offset(1))], Code::UnknownPartition),
    ];
    for (before, expected) in wrong {
        assert_eq!(code(broker.delete_records("t", before).await), expected, "{before:?}");
    }
    assert_eq!(code(broker.delete_records("u", &[(P0, END)]).await), Code::UnknownTopic);
    assert_eq!(count(&broker, tokens).await, 40, "none of them deleted anything");

    let moved = broker.delete_records("t", &[(P1, END), (P0, Offset(13))]).await.unwrap();
    assert_eq!(moved, [(P0, Offset(13)), (P1, Offset(20))]);
    assert_eq!(broker.delete_records("t", &[(P0, Offset(5))]).await.unwrap(), [(P0, Offset(13))]);
    let is_so = async |broker: &Broker| {
        assert_eq!(count(broker, vec![]).await, 7);
        assert_eq!(code(fetch_one(broker, from("t", 12)).await.result), Code::OffsetOutOfRange);
        assert_eq!(fetch_one(broker, from("t", 13)).await.log_start, Offset(13));
    };
    is_so(&broker).await;
    drop(broker);

    let broker = start_after_kill(&dir).await;
    is_so(&broker).await;
    // Seals the rest; the batch that begins below log start has rows on both sides.
    assert_eq!(broker.drop_before("t", i64::MIN, false).await.unwrap().rows, 0);
    is_so(&broker).await;
    let next = broker.produce("t", P1, batch(0, 1, None)).await.unwrap();
    assert_eq!((next.base_offset, count(&broker, vec![next.token]).await), (Offset(20), 8));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_records_deleted_from_replay_segments_before_they_were_sealed_hold_up_no_seal() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(rolling(&dir)).await.unwrap();
    broker.create_topic("t", 2, TopicConfig::default()).await.unwrap();
    for partition in [P0, P1] {
        for first in 0..20 {
            broker.produce("t", partition, batch(first * 50, 50, None)).await.unwrap();
        }
    }
    until("replay segments", || files(dir.path(), ".rec") > 0).await;
    broker.delete_records("t", &[(P0, END), (P1, Offset(975))]).await.unwrap();
    drop(broker);

    let broker = start_after_kill_with(|| rolling(&dir)).await;
    assert_eq!(count(&broker, vec![]).await, 25);
    broker.drop_before("t", i64::MIN, false).await.unwrap();
    assert_eq!(broker.segments("t").await.unwrap().iter().map(|(_, meta)| meta.rows).sum::<u64>(), 50);
    assert_eq!(count(&broker, vec![]).await, 25);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_topic_is_kept_within_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(rolling(&dir)).await.unwrap();
    let config = TopicConfig { format: Format::Raw, retention_bytes: Some(64 << 10), ..TopicConfig::default() };
    broker.create_topic("blobs", 1, config).await.unwrap();
    for _ in 0..40 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(0, None, Some(&[7; 16 << 10]), &[]);
        broker.produce("blobs", P0, builder.finish()).await.unwrap();
    }
    let mut told = broker.apply_retention("blobs", true).await.unwrap();
    while told.log_starts.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        told = broker.apply_retention("blobs", true).await.unwrap();
    }
    let gone = broker.apply_retention("blobs", false).await.unwrap();
    assert!(gone.log_bytes >= told.log_bytes && gone.log_starts[0].1 >= told.log_starts[0].1, "{told:?} {gone:?}");
    let left = &broker.partitions("blobs").await.unwrap()[0];
    assert_eq!((left.log_start, left.high_watermark), (gone.log_starts[0].1, Offset(40)));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_runs_reads_dropped_segments_to_their_end() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(&dir).await;
    broker.create_topic("t", 1, TopicConfig::default()).await.unwrap();
    for first in 0..12 {
        broker.produce("t", P0, batch(first * 10_000, 10_000, None)).await.unwrap();
    }
    broker.drop_before("t", i64::MIN, false).await.unwrap();
    let request = SqlRequest { sql: "SELECT n, _key FROM t".to_owned(), ..SqlRequest::default() };
    let mut answer = broker.engine().sql(request).await.unwrap();
    let mut rows = answer.next().await.unwrap().unwrap().num_rows();
    assert_eq!(broker.drop_before("t", i64::MAX, false).await.unwrap().rows, 120_000);
    assert_eq!(count_in(&broker, "t", vec![]).await, 0);
    assert!(files(dir.path(), ".col") > 0, "the query holds them");
    while let Some(batch) = answer.next().await {
        rows += batch.unwrap().num_rows();
    }
    assert_eq!(rows, 120_000);
    drop(answer);
    until("the files are gone", || files(dir.path(), ".col") == 0).await;
    broker.stop().await;
}
