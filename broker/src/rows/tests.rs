//! The life of rows over a shard without Raft: from the log into the tail, into segments, and away.

mod declared;
mod end_of_time;
mod leading;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Term, Token, internal};
use stratalog_query::{Catalog, TopicInfo};
use stratalog_storage::SegmentKind;

use super::log::RowLog;
use super::materializer::{Materializer, start_of_tail};
use super::options::RowsOptions;
use super::replica::Replica;
use super::runtime::Rows;
use super::shard_rows::ShardRows;
use super::testing::{AloneCopies, FixedTopics, MemLog, NOW_NS, SealFate, rows_over, topic, visible};
use super::usage::Usage;

pub(super) const HOUR: i64 = 3_600_000_000_000;

/// Nothing is sealed unless a test says so.
pub(super) fn quiet() -> RowsOptions {
    RowsOptions { seal_age: Duration::from_secs(3_600), ..RowsOptions::default() }
}

pub(super) async fn start(log: &Arc<MemLog>, topics: &[Arc<TopicInfo>], options: RowsOptions) -> Arc<Rows> {
    let directory = Arc::new(FixedTopics(topics.to_vec()));
    let rows = rows_over([log.clone()], directory, options).await;
    caught_up(&rows).await;
    rows
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

pub(super) async fn caught_up(rows: &Rows) {
    rows.caught_up(soon()).await.unwrap();
}

pub(super) async fn rows_of(rows: &Rows, topic: &TopicInfo) -> Vec<(i32, i64)> {
    visible(&rows.snapshot(topic, &[], soon()).await.unwrap().shards[0])
}

pub(super) fn timed(config: TopicConfig) -> TopicConfig {
    TopicConfig { time_field: Some("ts".to_owned()), ..config }
}

pub(super) fn at_hour(hour: i64) -> String {
    format!(r#"{{"ts":{},"hour":{hour},"text":"the hour {hour}"}}"#, NOW_NS + hour * HOUR)
}

pub(super) fn segment_files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Waits for what happens on another thread.
pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_record_is_visible_at_its_token_and_sealed_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 2, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;

    log.produce(&logs, 0, &[r#"{"a":1}"#, r#"{"a":2.5}"#, "not json"]);
    let index = log.produce(&logs, 1, &[r#"{"b":"x"}"#]);
    let token = Token { shard: ShardId(1), index };
    let fresh = rows.snapshot(&logs, &[token], soon()).await.unwrap();
    assert_eq!(visible(&fresh.shards[0]), [(0, 0), (0, 1), (0, 2), (1, 0)]);
    assert_eq!(fresh.shards[0].fence, index);

    rows.seal_now(&logs).await.unwrap();
    let sealed = rows.snapshot(&logs, &[token], soon()).await.unwrap();
    assert_eq!(visible(&sealed.shards[0]), visible(&fresh.shards[0]), "Q2");
    assert!(sealed.shards[0].tail.is_empty());
    assert_eq!(sealed.schema.fields(), fresh.schema.fields());
    assert_eq!(sealed.shards[0].segments.iter().map(|s| s.meta.dead_rows).sum::<u64>(), 1);
    assert_eq!(visible(&fresh.shards[0]).len(), 4, "a snapshot stays as it is");
    assert!(rows.coverage(&logs)[0].1.holds());
    rows.stop().await;
}

#[tokio::test]
async fn what_was_rolled_before_it_was_sealed_is_sealed_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    let (log, logs, blobs) = (MemLog::new(dir.path()), topic("logs", 3, <_>::default()), topic("blobs", 1, config));
    let topics = [logs.clone(), blobs.clone()];
    topics.iter().for_each(|topic| log.create(topic));
    let rows = start(&log, &topics, quiet()).await;
    log.produce(&logs, 0, &[r#"{"a":1}"#, "not json"]);
    log.produce(&logs, 2, &[r#"{"a":2}"#]);
    log.produce(&blobs, 0, &["x", "y"]);
    let unsealed = || log.unsealed_after().is_some();
    caught_up(&rows).await;
    log.roll();
    assert!(unsealed());
    for topic in &topics {
        rows.seal_now(topic).await.unwrap();
        assert!(rows.coverage(topic)[0].1.holds(), "S1: {}", topic.name);
    }
    assert_eq!((unsealed(), rows_of(&rows, &logs).await.len()), (false, 3));

    log.produce(&logs, 0, &[r#"{"a":3}"#]);
    caught_up(&rows).await;
    log.roll();
    rows.seal_now(&logs).await.unwrap();
    assert_eq!((unsealed(), rows_of(&rows, &logs).await.len()), (false, 4));
    rows.stop().await;
}

#[tokio::test]
async fn a_token_that_does_not_come_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let token = Token { shard: ShardId(1), index: RaftIndex(1_000) };
    let error = rows.snapshot(&logs, &[token], Instant::now() + Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.code, Code::QueryDeadline);
    assert!(error.message.contains("`logs`") && error.message.contains("1:1000"), "{error}");
    let elsewhere = Token { shard: ShardId(9), index: RaftIndex(1_000) };
    rows.snapshot(&logs, &[elsewhere], soon()).await.unwrap();
    rows.stop().await;
}

#[tokio::test]
async fn many_small_produces_become_few_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), RowsOptions { pull_bytes: 1, ..quiet() }).await;
    for n in 0..200 {
        log.produce(&logs, 0, &[&format!(r#"{{"n":{n},"k{}":true}}"#, n % 7)]);
    }
    caught_up(&rows).await;
    let snapshot = rows.snapshot(&logs, &[], soon()).await.unwrap();
    assert!(snapshot.shards[0].tail.len() <= 9, "{} chunks", snapshot.shards[0].tail.len());
    assert_eq!(visible(&snapshot.shards[0]), (0..200).map(|n| (0, n)).collect::<Vec<_>>());
    rows.stop().await;
}

#[tokio::test]
async fn x1_fields_without_end_are_sealed_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), RowsOptions { pull_bytes: 1, ..quiet() }).await;
    for record in 0..6 {
        let fields: Vec<String> = (0..990).map(|n| format!(r#""r{record}k{n}":{n}"#)).collect();
        log.produce(&logs, 0, &[&format!("{{{}}}", fields.join(","))]);
    }
    rows.seal_now(&logs).await.unwrap();
    assert_eq!(rows.segments(&logs).len(), 2, "no segment gets more than 4,096 columns");
    assert_eq!(rows_of(&rows, &logs).await.len(), 6);
    rows.stop().await;
}

#[tokio::test]
async fn seal_cuts_by_time_bucket_and_mixes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, timed(TopicConfig::default())));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let values: Vec<String> = (0..40).chain(0..32).map(at_hour).collect();
    log.produce(&logs, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();

    let segments = rows.segments(&logs);
    let mixed: Vec<_> = segments.iter().filter(|(_, meta)| meta.kind == SegmentKind::Mixed).collect();
    assert_eq!((segments.len(), mixed.len()), (33, 1));
    assert_eq!(mixed[0].1.rows, 8);
    assert!(mixed[0].1.bucket.contains(mixed[0].1.max_time_ns), "a mixed segment is retained as its newest bucket");
    assert_eq!(rows_of(&rows, &logs).await.len(), 72);
    rows.stop().await;
}

#[tokio::test]
async fn seal_whose_answer_is_lost_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let shard = rows.shards_of(&logs).next().unwrap();
    // While this is held, files that no manifest names are not collected.
    let merging = shard.merging.lock().await;
    for fate in [SealFate::AnswerLost, SealFate::Lost, SealFate::Refused, SealFate::Applies] {
        log.produce(&logs, 0, &[r#"{"a":1}"#]);
        caught_up(&rows).await;
        *log.fate.lock() = fate;
        let sealed = rows.seal_now(&logs).await;
        assert_eq!(sealed.is_ok(), matches!(fate, SealFate::AnswerLost | SealFate::Applies), "{fate:?}");
        assert!(rows.coverage(&logs)[0].1.holds(), "S1 after {fate:?}");
    }
    assert_eq!(rows_of(&rows, &logs).await, [(0, 0), (0, 1), (0, 2), (0, 3)]);
    let files = segment_files(dir.path());
    assert_eq!(files, rows.segments(&logs).len() + 1, "only the file of the lost seal is garbage");
    drop(merging);
    rows.stop().await;

    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let live = rows.segments(&logs).len();
    eventually("S2: garbage is collected after the start", || segment_files(dir.path()) == live).await;
    assert_eq!(rows_of(&rows, &logs).await.len(), 4);
    rows.stop().await;
}

#[tokio::test]
async fn dropped_segments_go_when_the_last_reader_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, timed(TopicConfig::default())));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let values: Vec<String> = (0..3).map(at_hour).collect();
    log.produce(&logs, 0, &values.iter().map(String::as_str).collect::<Vec<_>>());
    caught_up(&rows).await;

    rows.seal_now(&logs).await.unwrap();
    let before = NOW_NS + HOUR + HOUR;
    let plan = rows.drop_before(&logs, before, true).await.unwrap();
    assert_eq!((plan.segments.len(), segment_files(dir.path())), (2, 3), "a dry run drops nothing");
    let held = rows.snapshot(&logs, &[], soon()).await.unwrap();
    let dropped = rows.drop_before(&logs, before, false).await.unwrap();
    assert_eq!(dropped.segments.len(), 2);
    assert_eq!(rows_of(&rows, &logs).await, [(0, 2)]);
    assert_eq!(visible(&held.shards[0]).len(), 3, "a snapshot taken before still reads them");
    drop(held);
    eventually("the files are unlinked", || segment_files(dir.path()) == 1).await;
    assert!(rows.coverage(&logs)[0].1.holds());
    rows.stop().await;
}

#[tokio::test]
async fn s1_is_not_judged_before_a_rebuild_has_come_to_the_row_frontier() {
    let dir = tempfile::tempdir().unwrap();
    let (log, [behind, sealed]) = (MemLog::new(dir.path()), ["behind", "sealed"].map(|n| topic(n, 1, <_>::default())));
    let topics = [behind.clone(), sealed.clone()];
    topics.iter().for_each(|topic| log.create(topic));
    log.produce(&behind, 0, &[r#"{"a":1}"#]);
    for _ in 0..3 {
        log.produce(&sealed, 0, &[r#"{"a":1}"#]);
    }
    let rows = start(&log, &topics, quiet()).await;
    rows.seal_now(&sealed).await.unwrap();
    rows.stop().await;

    let usage = Arc::new(Usage::default());
    let replica = Replica::open(log.clone(), Arc::new(AloneCopies), Default::default()).await.unwrap();
    let rebuilt = ShardRows::new(&replica, Term(1), usage.clone());
    assert_eq!(rebuilt.coverage(sealed.id), None, "what is sealed is not yet behind the fence");
    let materializer = Materializer {
        log: log.clone(),
        tail: rebuilt.tail.clone(),
        usage,
        progress: rebuilt.progress.clone(),
        options: RowsOptions { pull_bytes: 1, ..quiet() },
        stop: Default::default(),
    };
    while rebuilt.tail.materialized() < log.applied() {
        assert_eq!(topics.each_ref().map(|topic| rebuilt.disagreement(topic.id)), [None, None]);
        assert_eq!(materializer.pull(), 0);
    }
    assert!(topics.iter().all(|topic| rebuilt.coverage(topic.id).unwrap().holds()));
}

#[tokio::test]
async fn retention_drops_what_is_old_by_bucket_and_by_ingest() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { retention_ns: Some(2 * HOUR as u64), ..timed(TopicConfig::default()) };
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, config));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &[&at_hour(-100), &at_hour(0), &at_hour(100)]);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    assert_eq!(rows.drop_due_at(&logs, NOW_NS + HOUR).await.segments.len(), 0, "old events that came just now stay");
    assert_eq!(rows.drop_due_at(&logs, NOW_NS + 3 * HOUR).await.segments.len(), 2);
    assert_eq!(rows_of(&rows, &logs).await, [(0, 2)]);
    let gone = rows.drop_due_at(&logs, NOW_NS + 4 * HOUR).await;
    assert_eq!(gone.segments.len(), 1, "an event from the future is as old as its arrival, but for a bucket");
    assert_eq!(rows_of(&rows, &logs).await, []);
    rows.stop().await;
}

#[tokio::test]
async fn raw_topics_have_no_rows_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    let (log, blobs) = (MemLog::new(dir.path()), topic("blobs", 1, config));
    log.create(&blobs);
    let rows = start(&log, std::slice::from_ref(&blobs), quiet()).await;
    log.produce(&blobs, 0, &["x", "y"]);
    caught_up(&rows).await;
    let coverage = rows.coverage(&blobs)[0].1;
    assert_eq!((coverage.offsets, coverage.rowless(), coverage.tail_rows), (2, 2, 0));
    assert!(coverage.holds());
    rows.seal_now(&blobs).await.unwrap();
    let frontier = log.manifest().topic(blobs.id).unwrap().row_frontier;
    assert_eq!(frontier, RaftIndex(2), "the frontier moves all the same, so that a restart does not read it all");
    assert!(rows.snapshot(&blobs, &[], soon()).await.unwrap().shards[0].segments.is_empty());
    rows.stop().await;
}

#[tokio::test]
async fn produce_waits_while_the_tail_is_over_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let options = RowsOptions { topic_tail_bytes: 1, throttle_wait: Duration::from_millis(20), ..quiet() };
    let rows = start(&log, std::slice::from_ref(&logs), options).await;
    rows.admit(ShardId(1), logs.id).await.unwrap();
    log.produce(&logs, 0, &[r#"{"a":1}"#]);
    caught_up(&rows).await;
    let error = rows.admit(ShardId(1), logs.id).await.unwrap_err();
    assert_eq!(error.code, Code::Overloaded);
    rows.seal_now(&logs).await.unwrap();
    rows.admit(ShardId(1), logs.id).await.unwrap();
    assert_eq!(rows.stats().tail_bytes, 0);
    rows.stop().await;
}

#[tokio::test]
async fn the_sealer_seals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), RowsOptions { seal_rows: 2, ..quiet() }).await;
    log.produce(&logs, 0, &[r#"{"a":1}"#, r#"{"a":2}"#]);
    eventually("two rows are sealed", || rows.stats().rows_sealed == 2).await;
    rows.stop().await;
}

#[tokio::test]
async fn raw_values_are_read_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &["not json", r#"{ "a": 1 }"#]);
    let snapshot = rows.snapshot(&logs, &[], soon()).await.unwrap();
    let at = |offset| (stratalog_proto::PartitionId(0), stratalog_proto::Offset(offset));
    let values = snapshot.shards[0].raw.raw(&[at(1), at(0), at(7)]).unwrap();
    assert_eq!(values, [Some("{ \"a\": 1 }".into()), Some("not json".into()), None]);
    rows.stop().await;
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Produce { topic: usize, partition: u32, hours: Vec<i64>, garbage: bool },
    Seal { topic: usize, fate: SealFate },
    DropBefore { topic: usize, hour: i64 },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        3 => Just(SealFate::Applies), 1 => Just(SealFate::AnswerLost), 1 => Just(SealFate::Lost),
        1 => Just(SealFate::Refused)
    ];
    let produce = (0..3usize, 0..2u32, prop::collection::vec(0..6i64, 1..8), any::<bool>());
    let step = prop_oneof![
        6 => produce.prop_map(|(topic, partition, hours, garbage)| Step::Produce { topic, partition, hours, garbage }),
        3 => (0..3usize, fate).prop_map(|(topic, fate)| Step::Seal { topic, fate }),
        1 => (0..3usize, 0..6i64).prop_map(|(topic, hour)| Step::DropBefore { topic, hour }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..24)
}

/// What every topic must show: the model is a set of (partition, offset, hour).
#[derive(Default)]
struct Model {
    next: [i64; 2],
    rows: BTreeSet<(i32, i64, i64)>,
}

async fn live(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let log = MemLog::new(dir.path());
    let raw = TopicConfig { format: Format::Raw, ..TopicConfig::default() };
    let topics = [
        topic("a", 2, timed(TopicConfig::default())),
        topic("b", 2, timed(TopicConfig::default())),
        topic("c", 2, raw),
    ];
    topics.iter().for_each(|topic| log.create(topic));
    let mut models: [Model; 3] = Default::default();
    let mut rows = start(&log, &topics, quiet()).await;
    for step in steps {
        match step {
            Step::Produce { topic, partition, hours, garbage } => {
                let mut values: Vec<String> = hours.iter().map(|hour| at_hour(*hour)).collect();
                // A dead row has the record's own time.
                let mut times = hours;
                if garbage {
                    values.push("garbage".to_owned());
                    times.push(0);
                }
                log.produce(&topics[topic], partition, &values.iter().map(String::as_str).collect::<Vec<_>>());
                let model = &mut models[topic];
                for hour in times {
                    let offset = model.next[partition as usize];
                    model.next[partition as usize] += 1;
                    if topic < 2 {
                        model.rows.insert((partition as i32, offset, hour));
                    }
                }
            }
            Step::Seal { topic, fate } => {
                caught_up(&rows).await;
                *log.fate.lock() = fate;
                let _ = rows.seal_now(&topics[topic]).await;
                *log.fate.lock() = SealFate::Applies;
            }
            Step::DropBefore { topic, hour } => {
                caught_up(&rows).await;
                // The bucket of hour h ends at the full hour after NOW_NS + h hours.
                rows.drop_before(&topics[topic], NOW_NS + (hour + 1) * HOUR, false).await.unwrap();
                models[topic].rows.retain(|(_, _, row_hour)| *row_hour > hour);
            }
            Step::Restart => {
                rows.stop().await;
                rows = start(&log, &topics, quiet()).await;
            }
        }
        caught_up(&rows).await;
        for (topic, model) in topics.iter().zip(&models) {
            let expected: Vec<(i32, i64)> = model.rows.iter().map(|(p, o, _)| (*p, *o)).collect();
            assert_eq!(rows_of(&rows, topic).await, expected, "S1: {}", topic.name);
            let coverage = rows.coverage(topic)[0].1;
            assert!(coverage.holds(), "S1: {} {coverage:?}", topic.name);
        }
    }
    rows.stop().await;
}

/// Entries of a busy topic that are sealed while a quiet one has no record to be sealed.
async fn quiet_and_busy(log: &Arc<MemLog>) -> [Arc<TopicInfo>; 2] {
    let topics = ["quiet", "busy"].map(|name| topic(name, 1, <_>::default()));
    topics.iter().for_each(|topic| log.create(topic));
    log.produce(&topics[0], 0, &[r#"{"a":1}"#]);
    let rows = start(log, &topics, quiet()).await;
    rows.seal_now(&topics[0]).await.unwrap();
    for _ in 0..20 {
        log.produce(&topics[1], 0, &[r#"{"a":1}"#]);
    }
    caught_up(&rows).await;
    log.roll();
    for _ in 0..20 {
        log.produce(&topics[1], 0, &[r#"{"a":1}"#]);
    }
    caught_up(&rows).await;
    rows.seal_now(&topics[1]).await.unwrap();
    rows.stop().await;
    topics
}

#[tokio::test]
async fn a_late_record_in_a_quiet_topic_does_not_make_a_start_read_what_is_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemLog::new(dir.path());
    let topics = quiet_and_busy(&log).await;
    assert_eq!(start_of_tail(&*log), log.applied(), "everything is sealed");
    let late = log.produce(&topics[0], 0, &[r#"{"a":2}"#]);
    assert_eq!(start_of_tail(&*log).0, late.0 - 1);

    let rows = start(&log, &topics, quiet()).await;
    assert_eq!(rows_of(&rows, &topics[0]).await, [(0, 0), (0, 1)]);
    rows.seal_now(&topics[0]).await.unwrap();
    assert_eq!(start_of_tail(&*log), log.applied(), "the seal took everything above the row frontier");
    assert!(topics.iter().all(|topic| rows.coverage(topic)[0].1.holds()), "S1");
    rows.stop().await;
}

#[tokio::test]
async fn a_start_begins_at_the_replay_segment_of_the_first_record_that_is_not_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemLog::new(dir.path());
    let topics = quiet_and_busy(&log).await;
    let rolled = log.roll();
    log.produce(&topics[0], 0, &[r#"{"a":2}"#]);
    log.roll();
    assert_eq!(start_of_tail(&*log), rolled);
}

#[tokio::test]
async fn l5_a_batch_that_cannot_be_read_holds_back_its_topic_alone_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let (log, topics) = (MemLog::new(dir.path()), ["hurt", "whole"].map(|name| topic(name, 1, <_>::default())));
    topics.iter().for_each(|topic| log.create(topic));
    let [hurt, whole] = &topics;
    let mut rows = start(&log, &topics, quiet()).await;
    let before = log.produce(hurt, 0, &[r#"{"a":1}"#]);
    caught_up(&rows).await;
    log.lost.lock().insert(RaftIndex(before.0 + 1));
    for n in 0..2 {
        log.produce(hurt, 0, &[r#"{"a":2}"#]);
        log.produce(whole, 0, &[r#"{"a":2}"#, r#"{"a":3}"#]);
        let token = Token { shard: ShardId(1), index: log.applied() };
        caught_up(&rows).await;
        let shown = rows.snapshot(whole, &[token], soon()).await.unwrap();
        assert_eq!(visible(&shown.shards[0]).len(), 2 * (n + 1), "the other topic goes on");
        let refused = rows.snapshot(hurt, &[token], soon()).await.unwrap_err();
        assert!(refused.code == Code::CorruptData && refused.message.contains("is damaged"), "{refused}");
        // What is before the damage is sealed, and no more; a start comes to the same.
        assert_eq!(rows.seal_now(hurt).await.unwrap_err().code, Code::CorruptData);
        assert_eq!(log.manifest().topic(hurt.id).unwrap().row_frontier, before, "S1");
        rows.seal_now(whole).await.unwrap();
        assert_eq!(rows.stats().held_topics, 1);
        rows.stop().await;
        rows = start(&log, &topics, quiet()).await;
    }

    log.lost.lock().clear();
    eventually("the topic goes on", || rows.stats().held_topics == 0).await;
    assert_eq!(rows_of(&rows, hurt).await, [(0, 0), (0, 1), (0, 2)]);
    rows.seal_now(hurt).await.unwrap();
    assert_eq!((rows_of(&rows, hurt).await.len(), rows_of(&rows, whole).await.len()), (3, 4));
    assert!(topics.iter().all(|topic| rows.coverage(topic)[0].1.holds()), "S1");
    rows.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_held_back_and_deleted_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, <_>::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.lost.lock().insert(RaftIndex(log.applied().0 + 1));
    log.produce(&logs, 0, &[r#"{"a":1}"#]);
    caught_up(&rows).await;
    assert_eq!(rows.stats().held_topics, 1);
    let remove = internal::RemoveTopic { topic: logs.id.to_bytes() };
    log.apply(&[Command::RemoveTopic(remove)])[0].as_ref().unwrap();
    // It is forgotten just after the rows are visible.
    eventually("the topic is forgotten", || rows.stats().held_topics == 0).await;
    rows.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn s1_every_offset_is_a_row_exactly_once(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(live(steps));
    }
}
