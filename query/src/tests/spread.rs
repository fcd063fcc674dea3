//! Rows at several nodes: the answer is the one of one node, and what travels is little.

use std::time::Duration;

use arrow::util::pretty::pretty_format_batches;
use stratalog_proto::{Code, RaftIndex, ShardId, Token};

use super::fixture::{Fixture, Place, ended};
use super::nodes::{Fault, Spread};
use super::rows::{Row, Value};
use crate::{EngineOptions, SearchRequest, SqlRequest};

const GRANULE: u64 = 8_192;
/// A count that would take hours.
const ENDLESS: &str = "SELECT count(*) FROM (SELECT n FROM logs LIMIT 3) a, generate_series(1, 1000000000000) s \
                       WHERE a.n + s.value = -1";
const WORDS: [&str; 5] = ["user logged in", "disk full", "disk slow, retry", "user logged out", "retry"];

fn row(n: u64) -> Row {
    let row = Row::new((n % 4) as u32, n, 1_000_000_000 * n as i64).int("n", n as i64).int("k", (n * 7 % 10) as i64);
    let row = row.text("message", format!("{} {n}", WORDS[n as usize % 5])).with("f", Value::Float(n as f64 / 8.0));
    if n.is_multiple_of(3) { row.text("host", format!("h{}", n % 20)) } else { row }
}

/// Two segments of a granule and a bit, and a tail of two chunks; a smaller topic beside it.
fn fixture(spread: Spread, options: EngineOptions) -> Fixture {
    let fixture = Fixture::spread_with(spread, EngineOptions { threads: 2, ..options });
    fixture.topic("logs");
    let rows: Vec<Row> = (0..3 * GRANULE).map(row).collect();
    fixture.add("logs", Place::Sealed, &rows[..9_000]);
    fixture.add("logs", Place::Sealed, &rows[9_000..14_000]);
    fixture.add("logs", Place::Tail, &rows[14_000..]);
    fixture.topic("hosts");
    let host = |n: u64| Row::new(0, n, n as i64).text("host", format!("h{n}")).int("rack", (n / 4) as i64);
    let hosts: Vec<Row> = (0..20).map(host).collect();
    fixture.add("hosts", Place::Sealed, &hosts[..12]);
    fixture.add("hosts", Place::Tail, &hosts[12..]);
    fixture
}

/// Statements whose rows have one order.
const STATEMENTS: [&str; 34] = [
    "SELECT count(*), min(_time), max(_time), min(_offset), max(_offset), min(_partition), max(_partition) FROM logs",
    "SELECT count(*), sum(n), avg(f), min(message), max(host), count(host) FROM logs",
    "SELECT count(*) FROM logs WHERE n % 10 = 3",
    "SELECT k, count(*), sum(n), min(f), max(f), avg(n), count(DISTINCT host) FROM logs GROUP BY k ORDER BY k",
    "SELECT host, count(*) AS c FROM logs GROUP BY host HAVING count(*) > 100 ORDER BY c DESC, host LIMIT 5",
    "SELECT k, host, round(stddev(f), 6), median(n), approx_distinct(message) > 0 FROM logs GROUP BY k, host ORDER BY k, host",
    "SELECT count(DISTINCT host), count(DISTINCT k) FROM logs",
    "SELECT n, message FROM logs ORDER BY n DESC LIMIT 7",
    "SELECT n, message FROM logs ORDER BY message, n LIMIT 7 OFFSET 3",
    "SELECT * FROM logs ORDER BY _time DESC LIMIT 20",
    "SELECT n * 2 AS twice, upper(message) FROM logs WHERE host = 'h7' ORDER BY twice LIMIT 10",
    "SELECT n FROM logs WHERE MATCH(message, 'disk AND NOT retry') ORDER BY n LIMIT 11",
    "SELECT count(*) FROM logs WHERE MATCH('\"logged in\"')",
    "SELECT MATCH(message, 'retry') AS hit, count(*) FROM logs GROUP BY hit ORDER BY hit",
    "SELECT count(*) FROM logs WHERE NOT MATCH(message, 'disk') OR n < 100",
    "SELECT count(*) FROM logs WHERE _time >= '1970-01-01T02:00:00Z' AND _time < '1970-01-01T05:00:00Z'",
    "SELECT date_trunc('hour', _time) AS hour, count(*), sum(f) FROM logs GROUP BY hour ORDER BY hour",
    "SELECT count(*) FROM logs WHERE host IS NULL",
    "SELECT DISTINCT k FROM logs ORDER BY k",
    "SELECT h.rack, count(*) FROM logs l JOIN hosts h ON l.host = h.host GROUP BY h.rack ORDER BY h.rack",
    "SELECT l.n, h.rack FROM logs l JOIN hosts h USING (host) WHERE h.rack = 1 ORDER BY l.n DESC LIMIT 4",
    "SELECT count(*) FROM logs WHERE host IN (SELECT host FROM hosts WHERE rack < 2)",
    "SELECT count(*) FROM logs WHERE n > (SELECT avg(n) FROM logs) AND host IS NOT NULL",
    "SELECT n - (SELECT min(n) FROM logs WHERE k = 4) AS d FROM logs WHERE k = 4 ORDER BY d LIMIT 3",
    "SELECT k, (SELECT max(rack) FROM hosts) + count(*) FROM logs GROUP BY k ORDER BY k",
    "SELECT n FROM logs WHERE NOT EXISTS (SELECT 1 FROM hosts h WHERE h.host = logs.host) ORDER BY n LIMIT 5",
    "SELECT n, row_number() OVER (PARTITION BY k ORDER BY n DESC) AS place FROM logs ORDER BY place, n LIMIT 12",
    "SELECT k, sum(n) FILTER (WHERE host IS NOT NULL) FROM logs GROUP BY GROUPING SETS ((k), ()) ORDER BY k",
    "SELECT string_agg(message, ';' ORDER BY n) FROM logs WHERE n IN (5, 13999, 14001, 20000)",
    "WITH big AS (SELECT k, sum(n) AS s FROM logs GROUP BY k) SELECT max(s), min(s) FROM big",
    "SELECT n FROM logs UNION ALL SELECT rack FROM hosts ORDER BY 1 LIMIT 30",
    "SELECT TRY_CAST(host AS int) IS NULL AS none, count(*) FROM logs GROUP BY none",
    "SELECT CASE WHEN n < 14000 THEN 'sealed' ELSE 'tail' END AS place, count(*), sum(n) FROM logs GROUP BY place ORDER BY place",
    "SELECT min(_raw), count(*) FROM logs WHERE n BETWEEN 13990 AND 14010 AND _raw LIKE '%/139%'",
];

#[tokio::test]
async fn q2_statements_answer_the_same_wherever_the_rows_are() {
    let alone = fixture(Spread::Alone, EngineOptions::default());
    let (two, three) =
        (fixture(Spread::Two, EngineOptions::default()), fixture(Spread::Three, EngineOptions::default()));
    for sql in STATEMENTS {
        let expected = alone.show(sql).await;
        assert!(!expected.starts_with(|first: char| first.is_ascii_uppercase()), "{sql}: {expected}");
        for spread in [&two, &three] {
            assert_eq!(spread.show(sql).await, expected, "{sql}\n{}", spread.show(&format!("EXPLAIN {sql}")).await);
        }
    }
    two.nodes.closed().await;
    three.nodes.closed().await;
}

#[tokio::test]
async fn q2_conditions_that_are_too_deep_to_be_sent_are_evaluated_here() {
    let deep = (0..120).fold("n".to_owned(), |expr, n| format!("abs({expr} - {n})"));
    let sql = format!(
        "SELECT count(*), sum(n) FROM logs WHERE {deep} > 20 AND (MATCH(message, 'disk') OR {deep} < 90) AND n < 20000"
    );
    let alone = fixture(Spread::Alone, EngineOptions::default()).show(&sql).await;
    let three = fixture(Spread::Three, EngineOptions::default());
    assert_eq!(three.show(&sql).await, alone);
}

#[tokio::test]
async fn searches_answer_the_same_wherever_the_rows_are() {
    let mut shown = Vec::new();
    for spread in Spread::ALL {
        let fixture = fixture(spread, EngineOptions::default());
        let request = |query: &str, limit| SearchRequest {
            topic: "logs".into(),
            query: query.into(),
            limit: Some(limit),
            ..SearchRequest::default()
        };
        let mut answers = String::new();
        for (query, limit) in
            [("disk NOT retry", 30), ("host:h7 OR n:13999", 900), ("message:\"logged out\" k:[3 TO 5]", 10)]
        {
            let (rows, stats) = fixture.search(request(query, limit)).await.unwrap();
            answers += &format!("{} {}\n", stats.rows_returned, pretty_format_batches(&[rows]).unwrap());
        }
        shown.push(answers);
    }
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0], shown[2]);
}

#[tokio::test]
async fn partial_aggregates_and_first_rows_travel_and_not_the_rows() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    for (sql, most) in [
        ("SELECT k, count(*), sum(n) FROM logs GROUP BY k", 10_000),
        ("SELECT n, message FROM logs ORDER BY n DESC LIMIT 5", 5_000),
        ("SELECT count(*) FROM logs WHERE MATCH(message, 'disk')", 5_000),
    ] {
        *fixture.nodes.bytes.lock() = 0;
        let (_, stats) = fixture.sql(sql).await.unwrap();
        let bytes = *fixture.nodes.bytes.lock();
        assert!(bytes > 0 && bytes < most, "{sql}: {bytes}");
        // Whoever has enough rows does not wait for what the others have to say at their end.
        assert!(stats.rows_scanned > 5 || sql.contains("LIMIT"), "{stats:?}");
    }
    let runs = *fixture.nodes.runs.lock();
    fixture.sql("SELECT count(*), max(_time) FROM logs").await.unwrap();
    assert_eq!(*fixture.nodes.runs.lock(), runs, "what is known when parts are opened needs no run");
}

#[tokio::test]
async fn explain_shows_where_each_part_runs_and_what_it_did() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    let sql = "SELECT k, count(*) FROM logs WHERE n < 100 GROUP BY k";
    let shown = fixture.show(&format!("EXPLAIN {sql}")).await;
    for part in ["PartExec: node=2, shards=[0]", "PartExec: node=3, shards=[1]", "UnionExec"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let at_node_2 = shown.split("PartExec: node=2").nth(1).unwrap().split("PartExec: node=3").next().unwrap();
    assert!(at_node_2.contains("AggregateExec: mode=Partial") && at_node_2.contains("filter="), "{shown}");
    let analyzed = fixture.show(&format!("EXPLAIN ANALYZE {sql}")).await;
    let scan = analyzed.lines().rfind(|line| line.contains("segments=2, tail_rows=0")).unwrap();
    assert!(scan.contains("output_rows=100") && scan.contains("segments_pruned_by_zone_maps=1"), "{analyzed}");
}

#[tokio::test]
async fn a_dynamic_filter_goes_with_the_plan() {
    let fixture = fixture(Spread::Two, EngineOptions::default());
    let sql = "SELECT count(*) FROM logs l JOIN hosts h ON l.n = h.rack WHERE h.rack = 1";
    let (_, stats) = fixture.sql(sql).await.unwrap();
    assert!(stats.granules_pruned > 0, "{stats:?}");
}

#[tokio::test]
async fn q1_an_answer_says_the_fence_of_every_shard_and_includes_every_token() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    let tokens =
        vec![Token { shard: ShardId(0), index: RaftIndex(90) }, Token { shard: ShardId(1), index: RaftIndex(50) }];
    let request =
        SqlRequest { sql: "SELECT count(*) FROM logs".into(), tokens: tokens.clone(), ..SqlRequest::default() };
    let mut answer = fixture.engine.sql(request).await.unwrap();
    answer.collect().await.unwrap();
    let fences: Vec<_> = answer.stats().fences.iter().map(|fence| (fence.shard, fence.index)).collect();
    assert_eq!(fences, [(0, 100), (1, 100)]);
    let mut seen = fixture.catalog.tokens.lock().clone();
    seen.sort_by_key(|token| token.shard);
    assert_eq!(seen, tokens, "each node waits for the tokens of its shards");
}

#[tokio::test]
async fn x1_a_node_that_shows_less_than_a_token_asks_for_is_an_error() {
    let fixture = fixture(Spread::Two, EngineOptions::default());
    let tokens = vec![Token { shard: ShardId(0), index: RaftIndex(90) }];
    let request = SqlRequest { sql: "SELECT count(*) FROM logs".into(), tokens, ..SqlRequest::default() };
    fixture.nodes.fail(2, [Fault::IsBehind]);
    let error = fixture.engine.sql(request.clone()).await.expect_err("Q1: the token is not visible");
    assert_eq!(error.code, Code::Internal, "{error}");
    assert!(error.message.contains("shard 0") && error.message.contains("entry 90"), "{error}");
    fixture.engine.sql(request).await.unwrap().collect().await.unwrap();
    fixture.nodes.closed().await;
}

#[tokio::test]
async fn a_query_whose_part_is_lost_runs_again_before_its_first_row() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    let sql = "SELECT k, count(*) FROM logs GROUP BY k ORDER BY k";
    let expected = fixture.show(sql).await;
    for faults in
        [vec![Fault::Down, Fault::Down], vec![Fault::Forgets], vec![Fault::BreaksOffAfter(0), Fault::BreaksOffAfter(1)]]
    {
        fixture.nodes.fail(2, faults.clone());
        assert_eq!(fixture.show(sql).await, expected, "{faults:?}");
        let (_, stats) = fixture.sql(sql).await.unwrap();
        assert_eq!(stats.rows_scanned, 3 * GRANULE, "a run that was given up is not counted");
    }
    fixture.nodes.fail(2, [Fault::BreaksOffAfter(0); 3]);
    let error = fixture.sql(sql).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(error.message.contains("shards 0 at node 2"), "{error}");
    fixture.nodes.closed().await;
}

#[tokio::test]
async fn an_answer_that_has_begun_is_an_error_when_a_part_is_lost_and_never_short() {
    let fixture = fixture(Spread::Two, EngineOptions::default());
    let sql = "SELECT n, message, f, host FROM logs";
    let whole: usize = fixture.sql(sql).await.unwrap().0.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(whole as u64, 3 * GRANULE);
    fixture.nodes.fail(2, [Fault::BreaksOffAfter(1)]);
    let mut answer = fixture.start(sql).await.unwrap();
    let error = answer.collect().await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    drop(answer);
    fixture.nodes.closed().await;
}

#[tokio::test]
async fn parts_end_with_their_query() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    let request =
        |id: &str, timeout| SqlRequest { sql: ENDLESS.into(), id: Some(id.into()), timeout, ..SqlRequest::default() };
    let late = fixture.engine.sql(request("late", Some(Duration::from_millis(200)))).await;
    let late = match late {
        Err(error) => error,
        Ok(mut answer) => answer.collect().await.unwrap_err(),
    };
    assert_eq!(late.code, Code::QueryDeadline);
    let engine = fixture.engine.clone();
    let killed = tokio::spawn(async move { engine.sql(request("killed", None)).await?.collect().await });
    while !killed.is_finished() && (fixture.nodes.open_parts() == 0 || fixture.engine.kill("killed").is_err()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(killed.await.unwrap().unwrap_err().code, Code::Cancelled);
    ended(&fixture).await;
    fixture.nodes.closed().await;
    assert_eq!((fixture.nodes.engine(2).reserved(), fixture.nodes.engine(3).reserved()), (0, 0));
}

#[tokio::test]
async fn what_a_part_needs_counts_where_it_runs() {
    let budget = EngineOptions { query_memory_bytes: 300_000, ..EngineOptions::default() };
    let fixture = fixture(Spread::Three, budget);
    let error = fixture.sql("SELECT message, count(*) FROM logs GROUP BY message").await.unwrap_err();
    assert_eq!(error.code, Code::QueryBudget, "{error}");
    fixture.nodes.closed().await;
}

#[tokio::test]
async fn a_query_is_killed_through_any_node() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    let request = SqlRequest { sql: ENDLESS.into(), id: Some("far".into()), ..SqlRequest::default() };
    let engine = fixture.nodes.engine(2);
    let killed = tokio::spawn(async move { engine.sql(request).await?.collect().await });
    while fixture.show("KILL QUERY 'far'").await.contains("no query") && !killed.is_finished() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(killed.await.unwrap().unwrap_err().code, Code::Cancelled);
    assert!(fixture.show("KILL QUERY 'nobody'").await.contains("no query with the id `nobody`"));
}

#[tokio::test]
async fn tables_about_the_cluster_are_of_all_nodes() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    let nodes = "SELECT string_agg(DISTINCT node, ',' ORDER BY node) FROM (SELECT arrow_cast(node, 'Utf8') AS node FROM system.queries)";
    fixture.sql("SELECT count(*) FROM logs WHERE n > 5").await.unwrap();
    assert!(fixture.show(nodes).await.contains("1,2,3"), "{}", fixture.show(nodes).await);
    let partitions =
        fixture.show("SELECT count(*), count(DISTINCT partition) FROM system.partitions WHERE topic = 'logs'").await;
    assert!(partitions.contains("| 4        | 4 "), "{partitions}");
    let columns = fixture.show("SELECT \"column\" FROM system.columns WHERE topic = 'hosts'").await;
    assert!(columns.contains("rack"), "{columns}");
}

#[tokio::test]
async fn dead_letters_are_those_of_all_nodes() {
    let fixture = fixture(Spread::Three, EngineOptions::default());
    fixture.add("hosts", Place::Sealed, &[Row::new(0, 100, 5).dead("sealed and wrong")]);
    fixture.add("hosts", Place::Tail, &[Row::new(1, 100, 6).dead("fresh and wrong")]);
    let shown = fixture.show("SELECT topic, reason FROM system.dead_letters ORDER BY reason").await;
    let rows: Vec<&str> = shown.lines().skip(3).filter(|line| line.contains("wrong")).collect();
    assert_eq!(rows, ["| hosts | fresh and wrong  |", "| hosts | sealed and wrong |"], "{shown}");
    let counted = fixture.show("SELECT topic, count(*) FROM system.dead_letters GROUP BY topic").await;
    assert!(counted.contains("| hosts | 2 "), "{counted}");
}
