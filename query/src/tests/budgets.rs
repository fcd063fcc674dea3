//! Memory, deadline, cancel.

use std::time::Duration;

use stratalog_proto::Code;

use super::fixture::{Fixture, Place, ended};
use super::rows::Row;
use crate::{EngineOptions, SearchRequest, SqlRequest};

/// Pairs of rows that would take hours.
const ENDLESS: &str =
    "SELECT count(*) FROM (SELECT x FROM logs LIMIT 3) a, generate_series(1, 1000000000000) s WHERE a.x + s.value = -1";

fn fixture(options: EngineOptions) -> Fixture {
    let fixture = Fixture::with_options(EngineOptions { threads: 2, ..options });
    fixture.topic("logs");
    let rows: Vec<Row> = (0..8_000)
        .map(|n| Row::new(0, n, n as i64).int("x", n as i64).text("message", format!("text number {n}")))
        .collect();
    fixture.add("logs", Place::Tail, &rows);
    fixture
}

#[tokio::test]
async fn a_query_ends_at_its_deadline() {
    let fixture = fixture(EngineOptions::default());
    let timeout = Some(Duration::from_millis(200));
    let request = SqlRequest { sql: ENDLESS.into(), timeout, ..SqlRequest::default() };
    let error = fixture.failure(request).await;
    assert_eq!(error.code, Code::QueryDeadline, "{error}");
}

#[tokio::test]
async fn a_longer_deadline_than_the_longest_is_cut() {
    let fixture = fixture(EngineOptions { max_timeout: Duration::from_millis(200), ..EngineOptions::default() });
    let timeout = Some(Duration::from_secs(100_000));
    let request = SqlRequest { sql: ENDLESS.into(), timeout, ..SqlRequest::default() };
    // On a busy machine it ends before it has begun.
    let error = fixture.failure(request).await;
    assert_eq!(error.code, Code::QueryDeadline);
}

#[tokio::test]
async fn an_error_is_the_last_of_an_answer() {
    let fixture = fixture(EngineOptions::default());
    let mut answer = fixture.start("SELECT 1 / (x - 7999) FROM logs").await.unwrap();
    let error = answer.next().await.unwrap().unwrap_err();
    assert_eq!(error.code, Code::InvalidSql, "{error}");
    assert!(answer.next().await.is_none());
}

#[tokio::test]
async fn a_query_over_its_memory_says_so() {
    let fixture = fixture(EngineOptions { query_memory_bytes: 200_000, ..EngineOptions::default() });
    for sql in ["SELECT message, count(*) FROM logs GROUP BY message", "SELECT * FROM logs ORDER BY message"] {
        let error = match fixture.start(sql).await {
            Ok(mut answer) => answer.collect().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code, Code::QueryBudget, "{error}");
    }
    // What it took is given back: the engine goes on.
    assert_eq!(fixture.sql("SELECT max(x) FROM logs").await.unwrap().1.rows_returned, 1);
}

#[tokio::test]
async fn rows_of_a_search_are_in_the_budget_until_they_are_read() {
    let fixture = fixture(EngineOptions::default());
    let more: Vec<Row> = (8_000..10_000).map(|n| Row::new(0, n, n as i64).text("message", "more")).collect();
    fixture.add("logs", Place::Tail, &more);
    let request = SearchRequest { topic: "logs".into(), limit: Some(10_000), ..SearchRequest::default() };
    let mut answer = fixture.engine.search(request).await.unwrap();
    // Time, partition and offset of each row, at the least.
    assert!(fixture.engine.reserved() >= 10_000 * 20, "{}", fixture.engine.reserved());
    let rows: usize = answer.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 10_000);
    drop(answer);
    ended(&fixture).await;
    assert_eq!(fixture.engine.reserved(), 0);
}

#[tokio::test]
async fn dropping_an_answer_ends_its_query() {
    let fixture = fixture(EngineOptions::default());
    let answer = fixture.start(ENDLESS).await.unwrap();
    assert!(fixture.engine.tasks() > 0);
    drop(answer);
    ended(&fixture).await;
}

#[test]
fn an_engine_may_be_dropped_in_async_code() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let fixture = fixture(EngineOptions::default());
        let _running = fixture.start(ENDLESS).await.unwrap();
        drop(fixture);
    });
}
