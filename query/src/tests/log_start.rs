//! Rows below log start: stored next to others, and in no answer.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::fixture::{Fixture, Place};
use super::oracle::positions;
use super::rows::Row;
use crate::{EngineOptions, SearchRequest};

const GRANULE: u64 = 8_192;

/// Rows of three partitions, in the order of time; `n` ascends.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let row = |n: u64| {
        let row = Row::new((n % 3) as u32, n / 3, n as i64).int("n", n as i64);
        if n.is_multiple_of(4) {
            row
        } else {
            row.text("message", ["disk full", "all is well", "disk gone"][(n % 5 % 3) as usize])
        }
    };
    (0..240).map(row).collect()
});

type Truth = fn(&Row) -> bool;

const FILTERS: [(&str, Truth); 6] = [
    ("true", |_| true),
    ("n < 100", |row| row.number("n") < Some(100.0)),
    ("MATCH(message, 'disk')", |row| row.matches("message", "disk")),
    ("NOT MATCH(message, 'disk')", |row| !row.matches("message", "disk")),
    ("message IS NULL OR _partition = 1", |row| row.get_text("message").is_none() || row.partition == 1),
    ("_offset >= 30 AND _raw LIKE 'raw %'", |row| row.offset >= 30),
];

/// The first third of the rows in a segment, then one without a usable index, then the tail.
fn fixture(log_starts: &BTreeMap<u32, u64>) -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("logs");
    fixture.add("logs", Place::Sealed, &ROWS[..80]);
    fixture.add("logs", Place::OldAnalyzer, &ROWS[80..160]);
    fixture.add("logs", Place::Tail, &ROWS[160..]);
    log_starts.iter().for_each(|(partition, before)| fixture.delete_records("logs", *partition, *before));
    fixture
}

async fn number(fixture: &Fixture, sql: &str) -> Option<i64> {
    let (batches, _) = fixture.sql(sql).await.unwrap();
    let column = batches.iter().find(|batch| batch.num_rows() > 0).unwrap().column(0).clone();
    let numbers = column.as_primitive::<Int64Type>();
    numbers.iter().next().unwrap()
}

async fn agrees(log_starts: BTreeMap<u32, u64>) -> Result<(), TestCaseError> {
    let fixture = fixture(&log_starts);
    let is_live = |row: &Row| log_starts.get(&row.partition).is_none_or(|start| row.offset >= *start);
    let live: Vec<Row> = ROWS.iter().filter(|row| is_live(row)).cloned().collect();
    for (filter, truth) in FILTERS {
        let (found, _) = fixture.positions("logs", filter).await;
        prop_assert_eq!(found, positions(&live, truth), "{}", filter);
    }
    prop_assert_eq!(number(&fixture, "SELECT count(*) FROM logs").await, Some(live.len() as i64));
    let times = || live.iter().map(|row| row.time_ns);
    prop_assert_eq!(number(&fixture, "SELECT CAST(min(_time) AS BIGINT) FROM logs").await, times().min());
    prop_assert_eq!(number(&fixture, "SELECT CAST(max(_time) AS BIGINT) FROM logs").await, times().max());
    let oldest = "SELECT n FROM logs ORDER BY _time LIMIT 1";
    prop_assert_eq!(number(&fixture, oldest).await, live.iter().map(|row| row.time_ns).min());
    let request = SearchRequest { topic: "logs".into(), query: "disk".into(), limit: Some(1_000), ..<_>::default() };
    let (hits, _) = fixture.search(request).await.unwrap();
    let expected = positions(&live, |row| row.matches("message", "disk"));
    prop_assert_eq!(hits.num_rows(), expected.len());
    Ok(())
}

#[test]
fn q1_rows_below_log_start_are_in_no_answer() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    // Log start does not come to the end of the last partition, so that there is always a row to look at.
    let log_starts = proptest::collection::btree_map(0..3_u32, 0..80_u64, 0..4);
    runner.run(&log_starts, |log_starts| runtime.block_on(agrees(log_starts))).unwrap();
}

#[tokio::test]
async fn a_limit_is_filled_with_rows_that_are_left() {
    let fixture = fixture(&BTreeMap::from([(0, 79), (1, 79), (2, 79)]));
    let (batches, stats) = fixture.sql("SELECT n FROM logs LIMIT 10").await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 3);
    assert_eq!(stats.rows_returned, 3);
}

#[tokio::test]
async fn granules_that_log_start_has_passed_are_not_read() {
    let fixture = Fixture::with_options(EngineOptions { threads: 1, ..EngineOptions::default() });
    fixture.topic("logs");
    let rows: Vec<Row> = (0..3 * GRANULE).map(|n| Row::new(0, n, n as i64).int("n", n as i64)).collect();
    fixture.add("logs", Place::Sealed, &rows);
    let (_, stats) = fixture.sql("SELECT count(*) FROM logs").await.unwrap();
    assert_eq!(stats.rows_scanned, 0, "the manifest knows");
    fixture.delete_records("logs", 0, GRANULE + 10);
    let (_, stats) = fixture.sql("SELECT count(n) FROM logs").await.unwrap();
    assert_eq!((stats.rows_scanned, stats.granules_pruned), (2 * GRANULE, 1));
    assert_eq!(number(&fixture, "SELECT count(*) FROM logs").await, Some(2 * GRANULE as i64 - 10));
    fixture.delete_records("logs", 1, 7);
    assert_eq!(number(&fixture, "SELECT count(*) FROM logs").await, Some(2 * GRANULE as i64 - 10));
}
