//! Another try of dead letters, over a shard without Raft.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use proptest::prelude::*;
use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Offset, PartitionId, RaftIndex, ShardId, TopicId, internal};
use stratalog_query::{Catalog, TopicInfo};
use stratalog_storage::col::system;

use super::Retried;
use super::letters::{Letter, alone};
use crate::rows::parse::parse;
use crate::rows::runtime::Rows;
use crate::rows::testing::{MemLog, NOW_NS, topic};
use crate::rows::tests::{HOUR, at_hour, caught_up, quiet, rows_of, soon, start};
use crate::shard::AppliedBatch;

fn with_time_field(field: &str) -> TopicConfig {
    TopicConfig { time_field: Some(field.to_owned()), ..TopicConfig::default() }
}

/// The topic with other settings, which the shard has from now on.
async fn altered(rows: &Rows, log: &MemLog, topic: &TopicInfo, config: TopicConfig) -> Arc<TopicInfo> {
    // What was produced before is made into rows by the settings of before.
    caught_up(rows).await;
    let altered = Arc::new(TopicInfo { config, ..topic.clone() });
    let put = internal::PutTopic {
        topic: topic.id.to_bytes(),
        partitions: (0..topic.partitions).collect(),
        config: Some(altered.config.to_internal()),
    };
    log.apply(&[Command::PutTopic(put)])[0].as_ref().unwrap();
    altered
}

/// Why each offset of partition 0 is dead, if it is.
async fn reasons(rows: &Rows, topic: &TopicInfo) -> BTreeMap<i64, Option<String>> {
    let snapshot = rows.snapshot(topic, &[], soon()).await.unwrap();
    let mut found = BTreeMap::new();
    for segment in &snapshot.shards[0].segments {
        let reader = segment.reader().unwrap();
        let column = |name| reader.schema().index_of(name).unwrap();
        for granule in 0..reader.granules() {
            let (offsets, dead) =
                (reader.read(column(system::OFFSET), granule), reader.read(column(system::DEAD), granule));
            let (offsets, dead) = (offsets.unwrap(), dead.unwrap());
            let offsets = offsets.as_primitive::<Int64Type>().values().iter().copied();
            found.extend(offsets.zip(dead.as_string::<i32>().iter().map(|dead| dead.map(str::to_owned))));
        }
    }
    found
}

fn holds(rows: &Rows, topic: &TopicInfo) {
    assert!(rows.coverage(topic).iter().all(|(_, coverage)| coverage.holds()), "{:?}", rows.coverage(topic));
}

#[tokio::test]
async fn s1_what_is_mended_takes_its_own_place_in_the_bucket_of_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 2, with_time_field("nope")));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &[&at_hour(0), &at_hour(5), "not json"]);
    log.produce(&logs, 1, &[&at_hour(9), r#"{"nope":1769903999}"#]);

    let logs = altered(&rows, &log, &logs, with_time_field("ts")).await;
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap(), Retried { tried: 4, mended: 3 });
    assert_eq!(rows_of(&rows, &logs).await, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]);
    holds(&rows, &logs);
    let segments = rows.segments(&logs);
    assert_eq!(segments.iter().map(|(_, meta)| meta.dead_rows).sum::<u64>(), 1);
    let hours: Vec<_> = segments
        .iter()
        .filter(|(_, meta)| meta.bucket.contains(NOW_NS + 5 * HOUR))
        .map(|(_, meta)| meta.rows)
        .collect();
    assert_eq!(hours, [1], "S3");
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap(), Retried { tried: 1, mended: 0 }, "the others are mended");
    rows.stop().await;
}

#[tokio::test]
async fn a_retry_in_many_steps_mends_all_of_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let values: Vec<_> = (0..1_500).map(|n| format!("line {n}")).collect();
    log.produce(&logs, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    let logs = altered(&rows, &log, &logs, TopicConfig { format: Format::Text, ..TopicConfig::default() }).await;
    assert_eq!(rows.retry_in_steps(ShardId(1), &logs, 1).await.unwrap(), Retried { tried: 1_500, mended: 1_500 });
    assert!(reasons(&rows, &logs).await.values().eq(vec![&None; 1_500]));
    holds(&rows, &logs);
    rows.stop().await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_keeps_no_other_dead() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &["a", "b"]);
    let damaged = log.produce(&logs, 0, &["c", "d"]);
    log.produce(&logs, 0, &["e"]);
    rows.seal_now(&logs).await.unwrap();
    log.lost.lock().insert(damaged);
    let logs = altered(&rows, &log, &logs, TopicConfig { format: Format::Text, ..TopicConfig::default() }).await;
    let error = rows.retry_dead_letters(&logs).await.unwrap_err();
    assert_eq!(error.code, Code::CorruptData);
    assert!(
        error.message.contains("2 dead letters of topic `logs`") && error.message.contains("3 are rows"),
        "{error}"
    );
    let alive: Vec<_> = reasons(&rows, &logs).await.values().map(Option::is_none).collect();
    assert_eq!(alive, [true, true, false, false, true]);
    log.lost.lock().clear();
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap(), Retried { tried: 2, mended: 2 });
    holds(&rows, &logs);
    rows.stop().await;
}

/// A topic with one sealed row and one dead letter, both mended by the time field `ts`.
async fn with_a_letter(dir: &std::path::Path, values: &[&str]) -> (Arc<MemLog>, Arc<Rows>, Arc<TopicInfo>) {
    let (log, logs) = (MemLog::new(dir), topic("logs", 1, with_time_field("nope")));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, values);
    rows.seal_now(&logs).await.unwrap();
    let logs = altered(&rows, &log, &logs, with_time_field("ts")).await;
    (log, rows, logs)
}

#[tokio::test]
async fn x1_of_a_topic_there_is_one_retry_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, rows, logs) = with_a_letter(dir.path(), &[&at_hour(0)]).await;
    let (first, second) = tokio::join!(rows.retry_dead_letters(&logs), rows.retry_dead_letters(&logs));
    assert_eq!(first.unwrap(), Retried { tried: 1, mended: 1 });
    let refused = second.unwrap_err();
    assert!(refused.code == Code::Conflict && refused.message.contains("is being retried already"), "{refused}");
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap(), Retried::default(), "the turn was given back");
    rows.stop().await;
}

#[tokio::test]
async fn x1_a_retry_that_nobody_waits_for_keeps_its_turn_until_it_is_through() {
    let dir = tempfile::tempdir().unwrap();
    let (_log, rows, logs) = with_a_letter(dir.path(), &[&at_hour(0)]).await;
    let shard = rows.shards_of(&logs).next().unwrap();
    let merging = shard.merging.lock().await;
    let left = tokio::time::timeout(std::time::Duration::from_secs(3), rows.retry_dead_letters(&logs)).await;
    assert!(left.is_err(), "it waits for the merge");
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap_err().code, Code::Conflict);
    drop(merging);
    let again = async {
        while rows.retry_dead_letters(&logs).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), again).await.unwrap();
    assert!(reasons(&rows, &logs).await.values().eq([&None]));
    rows.stop().await;
}

#[tokio::test]
async fn q2_a_mended_fraction_does_not_turn_large_integers_into_text() {
    let dir = tempfile::tempdir().unwrap();
    let at = NOW_NS;
    let values = [format!(r#"{{"nope":{at},"ts":{at},"n":9007199254740993}}"#), format!(r#"{{"ts":{at},"n":1.5}}"#)];
    let (_log, rows, logs) = with_a_letter(dir.path(), &values.each_ref().map(String::as_str)).await;
    let type_of_n = async || {
        let snapshot = rows.snapshot(&logs, &[], soon()).await.unwrap();
        snapshot.schema.field_with_name("n").unwrap().data_type().clone()
    };
    assert_eq!(type_of_n().await, DataType::Int64);
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap(), Retried { tried: 1, mended: 1 });
    assert_eq!(type_of_n().await, DataType::Float64, "a number still");
    let snapshot = rows.snapshot(&logs, &[], soon()).await.unwrap();
    let of_segments = snapshot.shards[0].segments.iter().map(|segment| {
        let reader = segment.reader().unwrap();
        let column = reader.read(reader.schema().index_of("n").unwrap(), 0).unwrap();
        text_of(&RecordBatch::try_from_iter([("n", column)]).unwrap()).remove(0)
    });
    let mut of_segments: Vec<String> = of_segments.collect();
    of_segments.sort();
    assert_eq!(of_segments, ["1.5", "9007199254740993"]);
    holds(&rows, &logs);
    rows.merge_now(&logs).await.unwrap();
    assert_eq!(type_of_n().await, DataType::Float64, "merging leaves them apart");
    rows.stop().await;
}

#[tokio::test]
async fn rows_that_are_gone_are_not_tried() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &["a", "b"]);
    rows.drop_before(&logs, NOW_NS + 2 * HOUR, false).await.unwrap();
    assert_eq!(rows.retry_dead_letters(&logs).await.unwrap(), Retried::default());
    let raw = TopicInfo { config: TopicConfig { format: Format::Raw, ..TopicConfig::default() }, ..(*logs).clone() };
    assert_eq!(rows.retry_dead_letters(&raw).await.unwrap_err().code, Code::InvalidRequest);
    rows.stop().await;
}

fn text_of(rows: &RecordBatch) -> Vec<String> {
    let shown = |column: &arrow::array::ArrayRef| {
        let text = arrow::compute::cast(column, &DataType::Utf8).unwrap();
        text.as_string::<i32>().iter().map(|value| value.unwrap_or("null").to_owned()).collect::<Vec<_>>().join(" ")
    };
    rows.columns().iter().map(shown).collect()
}

#[test]
fn a_record_alone_is_the_row_that_it_was_in_its_batch() {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(17, None, Some(b"{\"a\":1}"), &[]);
    builder.push(
        -1,
        Some(b"k\xff"),
        Some(b"{\"a\":2}"),
        &[("trace", Some(b"4bf9")), ("none", None), ("trace", Some(b"\xff"))],
    );
    builder.push(1_769_903_999_000, Some(b""), None, &[]);
    let batch = builder.finish();
    let applied = AppliedBatch {
        index: RaftIndex(9),
        topic: TopicId::new(),
        partition: PartitionId(3),
        base_offset: Offset(40),
        entry_time_ns: NOW_NS,
        batch: batch.clone(),
    };
    let config = TopicConfig::default();
    let together = parse(&config, [&applied]).chunks.remove(0).rows;
    let records = Batch::parse(batch).unwrap().records(1 << 20).unwrap();
    let batches: Vec<_> = records
        .map(|record| {
            let record = record.unwrap();
            let offset = Offset(40 + record.offset_delta as u64);
            let letter = Letter { partition: PartitionId(3), offset, ingested_ns: NOW_NS, reason: String::new() };
            alone(applied.topic, &letter, &record)
        })
        .collect();
    let apart = parse(&config, &batches).chunks.remove(0).rows;
    assert_eq!(text_of(&apart), text_of(&together));
}

/// Values of which each kind of topic takes some.
fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec![r#"{"a":1}"#, r#"{"b":1}"#, r#"{"a":1,"b":2}"#, r#"{"a":"x","b":3}"#, "k=v", "[", ""])
        .prop_map(str::to_owned)
}

fn settings() -> impl Strategy<Value = TopicConfig> {
    let text = |format| TopicConfig { format, ..TopicConfig::default() };
    prop::sample::select(vec![with_time_field("a"), with_time_field("b"), TopicConfig::default(), text(Format::Text)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn s1_what_is_dead_becomes_what_the_new_settings_make_of_it_and_nothing_else_changes(
        values in prop::collection::vec(value(), 1..40), before in settings(), after in settings(), step in 1..2_000usize,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (log, logs, fresh) = (MemLog::new(dir.path()), topic("logs", 1, before), topic("fresh", 1, after.clone()));
            log.create(&logs);
            log.create(&fresh);
            let rows = start(&log, &[logs.clone(), fresh.clone()], quiet()).await;
            log.produce(&logs, 0, &values);
            log.produce(&fresh, 0, &values);
            rows.seal_now(&logs).await.unwrap();
            rows.seal_now(&fresh).await.unwrap();
            let (old, new) = (reasons(&rows, &logs).await, reasons(&rows, &fresh).await);
            let logs = altered(&rows, &log, &logs, after).await;
            let retried = rows.retry_in_steps(ShardId(1), &logs, step).await.unwrap();
            let expected: BTreeMap<_, _> =
                old.iter().map(|(offset, was)| (*offset, was.as_ref().and_then(|_| new[offset].clone()))).collect();
            assert_eq!(reasons(&rows, &logs).await, expected);
            let dead = |of: &BTreeMap<i64, Option<String>>| of.values().flatten().count() as u64;
            assert_eq!((retried.tried, retried.dead()), (dead(&old), dead(&expected)));
            holds(&rows, &logs);
            rows.stop().await;
        });
    }
}
