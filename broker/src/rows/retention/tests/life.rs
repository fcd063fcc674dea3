//! Retention and deletion over a shard without Raft, with real files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Offset, PartitionId, internal};
use stratalog_query::{Catalog, TopicInfo};

use crate::rows::log::RowLog;
use crate::rows::retention::Gone;
use crate::rows::runtime::Rows;
use crate::rows::testing::{FakeCopies, FixedTopics, MemLog, NOW_NS, rows_with, topic, visible};
use crate::rows::tests::{HOUR, at_hour, caught_up, eventually, quiet, rows_of, segment_files, soon, start, timed};

fn delete_records(log: &MemLog, topic: &TopicInfo, before: &[(u32, u64)]) {
    let of = |(partition, value): &(u32, u64)| internal::PartitionCount { partition: *partition, value: *value };
    let before = before.iter().map(of).collect();
    let delete = internal::DeleteRecords { topic: topic.id.to_bytes(), before };
    log.apply(&[Command::DeleteRecords(delete)])[0].as_ref().unwrap();
}

fn produce_hours(log: &MemLog, topic: &TopicInfo, partition: u32, hours: std::ops::Range<i64>) {
    let values: Vec<String> = hours.map(at_hour).collect();
    log.produce(topic, partition, &values.iter().map(String::as_str).collect::<Vec<_>>());
}

fn ids(gone: &Gone) -> Vec<String> {
    let mut ids: Vec<String> = gone.segments.iter().map(|(_, meta)| meta.id.to_string()).collect();
    ids.sort();
    ids
}

/// Segment files of a directory that this process has open, deleted ones included.
fn open_files(dir: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    open.filter(|path| path.starts_with(dir)).count()
}

#[tokio::test]
async fn deleted_records_are_gone_from_tail_and_segments_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 2, timed(TopicConfig::default())));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    produce_hours(&log, &logs, 0, 0..4);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    for partition in 0..2 {
        log.produce(&logs, partition, &[&at_hour(0), &at_hour(0)]);
    }
    caught_up(&rows).await;

    delete_records(&log, &logs, &[(0, 5), (1, 1)]);
    assert_eq!(rows_of(&rows, &logs).await, [(0, 5), (1, 1)]);
    assert!(rows.segments(&logs).is_empty(), "log start has passed every segment as a whole");
    eventually("their files are unlinked", || segment_files(dir.path()) == 0).await;
    rows.seal_now(&logs).await.unwrap();
    assert_eq!(rows_of(&rows, &logs).await, [(0, 5), (1, 1)]);
    assert_eq!(rows.segments(&logs).len(), 1, "it lies on both sides of log start");
    let snapshot = rows.snapshot(&logs, &[], soon()).await.unwrap();
    assert_eq!(snapshot.shards[0].log_starts.len(), 2);
    assert!(rows.coverage(&logs)[0].1.holds());
    rows.stop().await;
}

#[tokio::test]
async fn s1_records_that_were_deleted_before_rows_were_made_of_them_hold_up_no_seal() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 3, TopicConfig::default()));
    log.create(&logs);
    for partition in 0..3 {
        log.produce(&logs, partition, &[r#"{"a":1}"#, r#"{"a":2}"#]);
        log.produce(&logs, partition, &[r#"{"a":3}"#, r#"{"a":4}"#]);
    }
    // Partition 0 is empty, 1 begins between two batches, 2 within one.
    delete_records(&log, &logs, &[(0, 4), (1, 2), (2, 3)]);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let expected = [(1, 2), (1, 3), (2, 3)];
    assert_eq!(rows_of(&rows, &logs).await, expected);
    assert!(rows.coverage(&logs)[0].1.holds(), "{:?}", rows.coverage(&logs));
    rows.seal_now(&logs).await.unwrap();
    assert_eq!(rows_of(&rows, &logs).await, expected);
    let coverage = rows.coverage(&logs)[0].1;
    assert!(coverage.holds() && coverage.passed == 0, "{coverage:?}");
    assert_eq!((coverage.live_rows, coverage.rowless(), coverage.offsets), (4, 8, 12));
    assert_eq!(log.unsealed_after(), None);
    rows.stop().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_tells_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, timed(TopicConfig::default())));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    produce_hours(&log, &logs, 0, 0..3);
    caught_up(&rows).await;
    let before = NOW_NS + 2 * HOUR;
    let applied = log.applied();
    let in_tail = rows.drop_before(&logs, before, true).await.unwrap();
    assert_eq!((in_tail.segments.len(), in_tail.tail_rows, log.applied()), (0, 2, applied), "nothing is sealed");

    rows.seal_now(&logs).await.unwrap();
    let applied = log.applied();
    let told = rows.drop_before(&logs, before, true).await.unwrap();
    assert_eq!((told.segments.len(), told.tail_rows, segment_files(dir.path())), (2, 0, 3));
    assert_eq!((log.applied(), rows_of(&rows, &logs).await.len()), (applied, 3));
    let done = rows.drop_before(&logs, before, false).await.unwrap();
    assert_eq!((ids(&told), &told.log_starts), (ids(&done), &done.log_starts));
    assert_eq!(done.log_starts, BTreeMap::from([(PartitionId(0), Offset(2))]));
    rows.stop().await;
}

#[tokio::test]
async fn a_topic_without_any_row_left_begins_at_its_end_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { retention_ns: Some(HOUR as u64), ..timed(TopicConfig::default()) };
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, config));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    produce_hours(&log, &logs, 0, -3..0);
    log.produce(&logs, 0, &["garbage"]);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    log.roll();
    let gone = rows.drop_due_at(&logs, NOW_NS + 3 * HOUR).await;
    assert_eq!(gone.segments.iter().map(|(_, meta)| meta.dead_rows).sum::<u64>(), 1, "dead rows go like others");
    assert_eq!(gone.log_starts, BTreeMap::from([(PartitionId(0), Offset(4))]));
    assert!(gone.log_bytes > 0, "its replay segment goes, too");
    assert!(rows_of(&rows, &logs).await.is_empty() && rows.drop_due_at(&logs, i64::MAX).await.segments.is_empty());
    produce_hours(&log, &logs, 0, 0..1);
    caught_up(&rows).await;
    assert_eq!(rows_of(&rows, &logs).await, [(0, 4)]);
    assert!(rows.coverage(&logs)[0].1.holds());
    rows.stop().await;
}

#[tokio::test]
async fn a_topic_is_kept_within_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { retention_bytes: Some(1), ..timed(TopicConfig::default()) };
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, config));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    produce_hours(&log, &logs, 0, 0..3);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    let told = rows.apply_retention(&logs, true).await.unwrap();
    assert_eq!((told.segments.len(), rows.segments(&logs).len()), (2, 3));
    let gone = rows.apply_retention(&logs, false).await.unwrap();
    assert_eq!((ids(&gone), rows_of(&rows, &logs).await), (ids(&told), vec![(0, 2)]));
    assert!(rows.apply_retention(&logs, false).await.unwrap().segments.is_empty(), "the newest stays");
    rows.stop().await;
}

#[tokio::test]
async fn records_of_a_raw_topic_go_with_their_replay_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = TopicConfig { format: Format::Raw, retention_ns: Some(HOUR as u64), ..TopicConfig::default() };
    let (log, blobs) = (MemLog::new(dir.path()), topic("blobs", 1, config));
    log.create(&blobs);
    let rows = start(&log, std::slice::from_ref(&blobs), quiet()).await;
    log.produce(&blobs, 0, &["x", "y"]);
    caught_up(&rows).await;
    assert_eq!(
        rows.drop_due_at(&blobs, i64::MAX).await.log_starts.len(),
        0,
        "what is only in the log stays until it is rolled"
    );
    log.roll();
    log.produce(&blobs, 0, &["z"]);
    assert_eq!(rows.drop_due_at(&blobs, NOW_NS + HOUR / 2).await.log_starts.len(), 0);
    let told = log.applied();
    let gone = rows.drop_due_at(&blobs, NOW_NS + 2 * HOUR).await;
    assert_eq!(gone.log_starts, BTreeMap::from([(PartitionId(0), Offset(2))]));
    assert!(gone.log_bytes > 0 && log.manifest().recs().is_empty() && log.applied() > told);
    let applied = log.applied();
    assert!(rows.drop_due_at(&blobs, NOW_NS + 2 * HOUR).await.log_starts.is_empty());
    assert_eq!(log.applied(), applied, "nothing is proposed where nothing is to go");
    rows.stop().await;
}

#[tokio::test]
async fn the_space_of_dropped_segments_comes_back_when_their_reader_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, timed(TopicConfig::default())));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    produce_hours(&log, &logs, 0, 0..3);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    let reader = rows.snapshot(&logs, &[], soon()).await.unwrap();
    assert_eq!(visible(&reader.shards[0]).len(), 3);
    rows.drop_before(&logs, i64::MAX, false).await.unwrap();
    assert!(rows_of(&rows, &logs).await.is_empty(), "no new query sees them");
    assert_eq!(visible(&reader.shards[0]).len(), 3, "one that runs does");
    assert_eq!(segment_files(dir.path()), 3);
    drop(reader);
    eventually("the files are unlinked and closed", || segment_files(dir.path()) + open_files(dir.path()) == 0).await;
    rows.stop().await;
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Produce(u32, usize),
    Delete(u32, u64),
    Seal,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u32, 1..5_usize).prop_map(|(partition, count)| Step::Produce(partition, count)),
        2 => (0..3_u32, 0..20_u64).prop_map(|(partition, before)| Step::Delete(partition, before)),
        2 => Just(Step::Seal),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..24)
}

async fn live(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 3, TopicConfig::default()));
    log.create(&logs);
    let topics: [Arc<TopicInfo>; 1] = [logs.clone()];
    let mut rows: Arc<Rows> = start(&log, &topics, quiet()).await;
    let (mut starts, mut ends) = ([0_u64; 3], [0_u64; 3]);
    for step in steps {
        match step {
            Step::Produce(partition, count) => {
                log.produce(&logs, partition, &vec![r#"{"a":1}"#; count]);
                ends[partition as usize] += count as u64;
            }
            Step::Delete(partition, before) => {
                // Before the rows are made as often as after.
                delete_records(&log, &logs, &[(partition, before)]);
                let at = partition as usize;
                starts[at] = starts[at].max(before.min(ends[at]));
            }
            Step::Seal => rows.seal_now(&logs).await.unwrap(),
            Step::Restart => {
                rows.stop().await;
                rows = start(&log, &topics, quiet()).await;
            }
        }
        caught_up(&rows).await;
        let live = (0..3_usize).flat_map(|at| (starts[at]..ends[at]).map(move |offset| (at as i32, offset as i64)));
        assert_eq!(rows_of(&rows, &logs).await, live.collect::<Vec<_>>(), "S1");
        assert!(rows.coverage(&logs)[0].1.holds(), "S1: {:?}", rows.coverage(&logs));
        assert_eq!(log.read(|state| state.unaccounted(logs.id)), 0, "S1");
    }
    rows.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn s1_every_record_above_log_start_is_a_row_exactly_once(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(live(steps));
    }
}

#[tokio::test]
async fn retention_goes_by_the_clocks_of_a_majority_and_not_by_that_of_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let config = timed(TopicConfig { retention_ns: Some(HOUR as u64), ..TopicConfig::default() });
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, config));
    log.create(&logs);
    let copies = FakeCopies::of(dir.path());
    let rows = rows_with([log.clone()], copies.clone(), Arc::new(FixedTopics(vec![logs.clone()])), quiet()).await;
    log.produce(&logs, 0, &[&at_hour(0)]);
    rows.seal_now(&logs).await.unwrap();
    assert_eq!(rows.apply_retention(&logs, false).await.unwrap_err().code, Code::Unavailable, "nobody tells the time");
    *copies.clock.lock() = Some(NOW_NS);
    assert_eq!(rows.apply_retention(&logs, false).await.unwrap().segments.len(), 0);
    *copies.clock.lock() = Some(NOW_NS + 48 * HOUR);
    assert_eq!(rows.apply_retention(&logs, false).await.unwrap().segments.len(), 1);
    rows.stop().await;
}
