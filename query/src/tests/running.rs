//! Queries that run: how many, how they are listed, and how they are killed.

use std::time::Duration;

use stratalog_proto::{Code, Error};

use super::fixture::{Fixture, Place, ended};
use super::rows::Row;
use crate::{Answer, EngineOptions, SearchRequest, SqlRequest};

/// A count that would take hours.
const ENDLESS: &str = "SELECT count(*) FROM (SELECT x FROM logs LIMIT 3) a, generate_series(1, 1000000000000) s \
                       WHERE a.x + s.value = -1";

fn fixture(options: EngineOptions) -> Fixture {
    let fixture = Fixture::with_options(EngineOptions { threads: 2, ..options });
    fixture.topic("logs");
    let rows: Vec<Row> = (0..100).map(|n| Row::new(0, n, n as i64).int("x", n as i64).text("message", "x")).collect();
    fixture.add("logs", Place::Tail, &rows);
    fixture
}

async fn start(fixture: &Fixture, id: &str, sql: &str) -> Result<Answer, Error> {
    let request = SqlRequest { sql: sql.into(), id: Some(id.into()), client: "test".into(), ..SqlRequest::default() };
    fixture.engine.sql(request).await
}

/// `SELECT` of one text a row over `system.queries`.
async fn listed(fixture: &Fixture, columns: &str) -> Vec<String> {
    let sql = format!("SELECT concat_ws(' ', {columns}) FROM system.queries WHERE client = 'test' ORDER BY started");
    let shown = fixture.show(&sql).await;
    let rows = shown.lines().skip(3).filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.trim().to_owned()).collect()
}

#[tokio::test]
async fn queries_are_listed_while_they_run_and_after() {
    let fixture = fixture(EngineOptions::default());
    start(&fixture, "done", "SELECT x FROM logs WHERE x < 5").await.unwrap().collect().await.unwrap();
    start(&fixture, "wrong", "SELECT y FROM logs").await.unwrap_err();
    drop(start(&fixture, "left", ENDLESS).await.unwrap());
    let search = SearchRequest { topic: "logs".into(), query: "x".into(), ..SearchRequest::default() };
    let search = SearchRequest { id: Some("found".into()), client: "test".into(), ..search };
    fixture.engine.search(search).await.unwrap().collect().await.unwrap();
    let _runs = start(&fixture, "runs", ENDLESS).await.unwrap();
    let mut states = listed(&fixture, "id, state, rows, rows_scanned, sql").await;
    states.iter_mut().for_each(|state| state.truncate(40));
    let expected = [
        "done done 5 100 SELECT x FROM logs WHERE",
        "wrong failed 0 0 SELECT y FROM logs",
        "left left 0",
        "found done 100 100 search logs: x",
        "runs running 0",
    ];
    assert_eq!(states.len(), expected.len(), "{states:?}");
    states.iter().zip(expected).for_each(|(state, begin)| assert!(state.starts_with(begin), "{state}: {begin}"));
    let errors = listed(&fixture, "error").await;
    assert!(errors[1].starts_with("INVALID_SQL: line 1, column 8: there is no column `y`"), "{errors:?}");
}

#[tokio::test]
async fn a_killed_query_says_so_and_is_gone() {
    let fixture = fixture(EngineOptions::default());
    let mut by_call = start(&fixture, "one", ENDLESS).await.unwrap();
    let mut by_statement = start(&fixture, "two", ENDLESS).await.unwrap();
    fixture.engine.kill("one").unwrap();
    assert!(fixture.show("KILL QUERY 'two'").await.contains("two"));
    for answer in [&mut by_call, &mut by_statement] {
        let error = answer.collect().await.unwrap_err();
        assert_eq!(error.code, Code::Cancelled, "{error}");
        assert!(answer.next().await.is_none());
    }
    ended(&fixture).await;
    drop((by_call, by_statement));
    assert_eq!(listed(&fixture, "id, state").await, ["one killed", "two killed"]);
    assert_eq!(fixture.engine.kill("one").unwrap_err().code, Code::InvalidRequest);
    assert_eq!(fixture.engine.reserved(), 0);
}

#[tokio::test]
async fn an_id_names_one_running_query() {
    let fixture = fixture(EngineOptions::default());
    let _runs = start(&fixture, "mine", ENDLESS).await.unwrap();
    assert_eq!(start(&fixture, "mine", "SELECT 1").await.unwrap_err().code, Code::InvalidRequest);
    for id in ["a b", "ü", "'", &"x".repeat(65)] {
        assert_eq!(start(&fixture, id, "SELECT 1").await.unwrap_err().code, Code::InvalidRequest, "{id}");
    }
    let stats = fixture.sql("SELECT 1").await.unwrap().1;
    assert!(!stats.query_id.is_empty());
}

#[tokio::test]
async fn queries_beyond_those_that_may_run_wait_and_beyond_those_are_refused() {
    let options = EngineOptions { max_running: 1, max_waiting: 1, ..EngineOptions::default() };
    let fixture = std::sync::Arc::new(fixture(options));
    let runs = start(&fixture, "runs", ENDLESS).await.unwrap();
    let waits = tokio::spawn({
        let fixture = fixture.clone();
        async move { start(&fixture, "waits", "SELECT x FROM logs LIMIT 1").await?.collect().await }
    });
    // Statements about the node do not wait: without them nobody could see what runs, nor end it.
    while listed(&fixture, "id, state").await != ["runs running", "waits waiting"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = start(&fixture, "refused", "SELECT x FROM logs").await.unwrap_err();
    assert_eq!(error.code, Code::Overloaded, "{error}");
    assert!(!waits.is_finished());
    fixture.engine.kill("runs").unwrap();
    drop(runs);
    assert_eq!(waits.await.unwrap().unwrap()[0].num_rows(), 1);
}

#[tokio::test]
async fn an_id_of_ours_is_none_that_a_caller_chose() {
    let fixture = fixture(EngineOptions::default());
    let first = fixture.sql("SELECT 1").await.unwrap().1.query_id;
    let (run, number) = first.split_once('-').unwrap();
    let next = format!("{run}-{}", number.parse::<u64>().unwrap() + 1);
    let _runs = start(&fixture, &next, ENDLESS).await.unwrap();
    assert_ne!(fixture.sql("SELECT 1").await.unwrap().1.query_id, next);
}

#[tokio::test]
async fn a_change_whose_time_is_over_may_be_made_all_the_same() {
    let fixture = fixture(EngineOptions::default());
    fixture.changes.hold();
    for sql in ["CREATE TABLE slow", "DROP TABLE logs", "DELETE FROM logs WHERE x = 1"] {
        let timeout = Some(Duration::from_millis(50));
        let request = SqlRequest { sql: sql.into(), timeout, ..SqlRequest::default() };
        let error = fixture.engine.sql(request).await.unwrap_err();
        assert!(error.code == Code::Timeout && error.message.contains("all the same"), "{sql}: {error}");
    }
    ended(&fixture).await;
}

#[tokio::test]
async fn who_waits_is_killed_or_ends_at_the_deadline_too() {
    let fixture = fixture(EngineOptions { max_running: 1, ..EngineOptions::default() });
    let _runs = start(&fixture, "runs", ENDLESS).await.unwrap();
    let timeout = Some(Duration::from_millis(50));
    let late = SqlRequest { sql: "SELECT x FROM logs".into(), timeout, ..SqlRequest::default() };
    assert_eq!(fixture.engine.sql(late).await.unwrap_err().code, Code::QueryDeadline);
    let waits = start(&fixture, "waits", "SELECT x FROM logs");
    let kill = async {
        while fixture.engine.kill("waits").is_err() {
            tokio::task::yield_now().await;
        }
    };
    let (waits, ()) = tokio::join!(waits, kill);
    assert_eq!(waits.unwrap_err().code, Code::Cancelled);
}
