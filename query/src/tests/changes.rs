//! Statements that change something, and the conditions that say what to erase.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use stratalog_proto::{Code, Error, Offset, PartitionId};

use super::fixture::{Fixture, Place};
use super::rows::Row;
use crate::{Catalog, Parameter, SqlRequest};

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("logs");
    let rows: Vec<Row> = (0..100)
        .map(|n| Row::new((n % 2) as u32, n, n as i64).int("x", n as i64).text("user", format!("it's {}", n % 7)))
        .collect();
    fixture.add("logs", Place::Sealed, &rows[..60]);
    fixture.add("logs", Place::Tail, &rows[60..]);
    fixture
}

/// The answer to a statement, and what it changed.
async fn change(fixture: &Fixture, sql: &str) -> (String, Vec<String>) {
    let shown = fixture.show(sql).await;
    let answer: Vec<&str> =
        shown.lines().filter_map(|line| line.strip_prefix("| ")).map(|line| line.trim_end()).collect();
    let answer = if answer.is_empty() { shown.clone() } else { answer.join("").replace(['|', ' '], "") };
    (answer, std::mem::take(&mut *fixture.changes.0.lock()))
}

#[tokio::test]
async fn tables_are_topics() {
    let fixture = fixture();
    let cases = [
        ("CREATE TABLE t", "createdt", "create t 0 json None None []"),
        (
            "CREATE TABLE orders.v1 (http.status int NOT NULL, \"user-id\" TEXT, took DOUBLE PRECISION, at timestamp(9)) \
             WITH (partitions = 3, format = logfmt, retention = '7d', time.field = 'at')",
            "createdorders.v1",
            "create orders.v1 3 logfmt Some(604800000000000) Some(\"at\") [(\"http.status\", \"bigint\", true), \
             (\"user-id\", \"text\", false), (\"took\", \"double\", false), (\"at\", \"timestamp\", false)]",
        ),
        ("CREATE TABLE IF NOT EXISTS logs (x text)", "created", ""),
        ("CREATE TABLE public.t (a varchar(10))", "createdt", "create t 0 json None None [(\"a\", \"text\", false)]"),
        ("CREATE TABLE stratalog.public.orders.v2", "createdorders.v2", "create orders.v2 0 json None None []"),
        ("ALTER TABLE public.logs ADD COLUMN a.b bool", "alteredlogs", "alter logs [] [\"a.b\"]"),
        ("DROP TABLE public.logs", "droppedlogs", "drop logs"),
        ("ALTER TABLE logs ADD COLUMN a.b bool", "alteredlogs", "alter logs [] [\"a.b\"]"),
        (
            "ALTER TABLE logs SET (retention.bytes = 1000, retention = -1)",
            "alteredlogs",
            "alter logs [(\"retention.bytes\", \"1000\"), (\"retention\", \"-1\")] []",
        ),
        ("ALTER TABLE logs SET (partitions = 5)", "alteredlogs", "alter logs [] [] to 5 partitions"),
        ("ALTER TABLE IF EXISTS nothing ADD COLUMN a text", "altered", ""),
        ("DROP TABLE logs", "droppedlogs", "drop logs"),
        ("DROP TABLE IF EXISTS nothing", "dropped", ""),
    ];
    for (sql, answer, changed) in cases {
        let changed: Vec<String> = if changed.is_empty() { Vec::new() } else { vec![changed.to_owned()] };
        assert_eq!(change(&fixture, sql).await, (answer.to_owned(), changed), "{sql}");
    }
}

#[tokio::test]
async fn what_cannot_be_changed_is_said() {
    let fixture = fixture();
    let cases = [
        ("CREATE TABLE logs", "TOPIC_EXISTS"),
        ("CREATE TABLE t (a money)", "types are"),
        ("CREATE TABLE t (a text, a text)", "twice"),
        ("CREATE TABLE t (a text) PARTITION BY a", "clause that a table cannot have"),
        ("CREATE TABLE t (a text) ORDER BY a", "clause that a table cannot have"),
        ("CREATE TABLE t (a text) INHERITS (logs)", "clause that a table cannot have"),
        ("CREATE UNLOGGED TABLE t (a text)", "INVALID_SQL"),
        ("CREATE TABLE t (a text) ON COMMIT DROP", "clause that a table cannot have"),
        ("ALTER TABLE ONLY logs ADD COLUMN a text", "clause that is not possible"),
        ("ALTER TABLE logs ADD COLUMN IF NOT EXISTS a text", "leave IF NOT EXISTS out"),
        ("DROP TABLE logs CASCADE", "CASCADE"),
        ("SHOW TABLES LIKE 'l%'", "system.topics WHERE name LIKE"),
        ("SHOW TABLES FROM logs", "system.topics WHERE name LIKE"),
        ("SHOW COLUMNS FROM logs LIKE 'l%'", "system.columns WHERE topic"),
        ("CREATE TABLE t (_time timestamp)", "the system's"),
        ("CREATE TABLE t (a text PRIMARY KEY)", "NOT NULL or nothing"),
        ("CREATE TABLE t WITH (bukcet = '1h')", "no topic setting `bukcet`"),
        ("CREATE TABLE t WITH (partitions = 0)", "number from 1"),
        ("CREATE TABLE t AS SELECT 1", "cannot be made of another"),
        ("CREATE TABLE system.queries (a text)", "only read"),
        ("ALTER TABLE log ADD COLUMN a text", "did you mean `logs`"),
        ("ALTER TABLE logs DROP COLUMN x", "not possible"),
        ("ALTER TABLE logs SET (partitions = 0)", "number from 1"),
        ("DROP TABLE log", "did you mean `logs`"),
        ("DROP TABLE logs, other", "one table at a time"),
        ("DELETE FROM logs", "without WHERE"),
        ("DELETE FROM log WHERE true", "did you mean `logs`"),
        ("DELETE FROM logs l WHERE l.x = 1", "alias"),
        ("DELETE FROM logs WHERE nothing = 1", "no column `nothing`"),
        ("DELETE FROM logs WHERE x = 'a' AND MATCH(user, '(')", "INVALID_SEARCH"),
        ("DELETE FROM logs WHERE _time < now()", "now() has another value"),
        ("DELETE FROM logs WHERE x > random()", "random() has another value"),
        ("DELETE FROM logs WHERE x = (SELECT 1)", "subquery"),
        ("DELETE FROM logs WHERE x IN (SELECT x FROM logs)", "subquery"),
        ("DELETE FROM logs WHERE _raw LIKE '%x%'", "`_raw`"),
        ("DELETE FROM logs WHERE x = $1", "0 parameters"),
        ("DELETE FROM system.queries WHERE true", "only read"),
        ("KILL QUERY 5", "KILL QUERY 'id'"),
        ("KILL QUERY 'nothing'", "no query with the id `nothing`"),
    ];
    for (sql, what) in cases {
        let (answer, changed) = change(&fixture, sql).await;
        assert!(answer.contains(what), "{sql}: {answer}");
        assert!(changed.is_empty(), "{sql}: {changed:?}");
    }
}

#[tokio::test]
async fn a_delete_hands_its_condition_on_as_text() {
    let fixture = fixture();
    let sql = "DELETE FROM logs WHERE user = 'it''s 3' AND NOT (x > 50) -- and that is all";
    let (answer, changed) = change(&fixture, sql).await;
    assert_eq!(answer, "jobjob-1");
    assert_eq!(changed, ["delete from logs: user = 'it''s 3' AND NOT (x > 50)"]);
    let parameters = vec![Parameter::Text("'; DROP TABLE logs; --".into()), Parameter::Bigint(-3)];
    let request =
        SqlRequest { sql: "DELETE FROM logs WHERE user = $1 OR x = -$2".into(), parameters, ..SqlRequest::default() };
    fixture.engine.sql(request).await.unwrap().collect().await.unwrap();
    let changed = std::mem::take(&mut *fixture.changes.0.lock());
    assert_eq!(changed, ["delete from logs: user = '''; DROP TABLE logs; --' OR x = -(-3)"]);
}

/// The places for which a condition is true, as the job of a DELETE finds them.
async fn matching(fixture: &Fixture, predicate: &str) -> Result<Vec<(u32, u64)>, Error> {
    let topic = fixture.catalog.topics()[0].clone();
    let deadline = std::time::Instant::now();
    let snapshot = fixture.catalog.snapshot(&topic, &[], deadline).await?;
    let mut found = fixture.engine.matching(snapshot.into(), predicate, None).await?;
    let mut all = Vec::new();
    while let Some(positions) = found.next().await {
        all.extend(positions?.into_iter().map(|(PartitionId(partition), Offset(offset))| (partition, offset)));
    }
    all.sort_unstable();
    Ok(all)
}

#[tokio::test]
async fn a_condition_finds_the_rows_that_a_query_finds() {
    let fixture = fixture();
    for predicate in ["x < 70 AND x >= 50", "user = 'it''s 3'", "MATCH(user, '5') OR _offset = 99", "_dead IS NOT NULL"]
    {
        let (expected, _) = fixture.positions("logs", predicate).await;
        assert_eq!(matching(&fixture, predicate).await.unwrap(), expected, "{predicate}");
    }
}

#[tokio::test]
async fn a_column_that_nobody_has_any_more_is_null() {
    let fixture = fixture();
    assert_eq!(matching(&fixture, "gone = 'x' OR logs.gone = 'y' OR http.gone > 5").await.unwrap(), []);
    assert_eq!(matching(&fixture, "gone = 'x' OR x = 5").await.unwrap(), [(1, 5)]);
    assert_eq!(matching(&fixture, "gone IS NULL AND x = 5").await.unwrap(), [(1, 5)]);
    assert_eq!(matching(&fixture, "gone OR gone % 2 = 1 OR lower(gone) = 'x' OR MATCH(gone, 'x')").await.unwrap(), []);
    assert_eq!(matching(&fixture, "(NOT gone OR NOT MATCH(gone, 'x')) AND x = 5").await.unwrap(), [(1, 5)]);
}

#[tokio::test]
async fn a_value_that_cannot_be_compared_is_no_match() {
    let fixture = fixture();
    let text = Row::new(0, 1_000, 0).text("x", "many").text("user", "it's 3");
    fixture.add("logs", Place::Tail, &[text, Row::new(0, 1_001, 0).text("x", "17")]);
    assert_eq!(matching(&fixture, "x = 17").await.unwrap(), [(0, 1_001), (1, 17)]);
    assert_eq!(matching(&fixture, "NOT (x <> 17)").await.unwrap(), [(0, 1_001), (1, 17)]);
    assert_eq!(matching(&fixture, "x IN (17, 18)").await.unwrap(), [(0, 18), (0, 1_001), (1, 17)]);
    assert_eq!(
        matching(&fixture, "CAST(user AS BIGINT) = 5 OR x BETWEEN 98 AND 99").await.unwrap(),
        [(0, 98), (1, 99)]
    );
}

#[tokio::test]
async fn a_condition_that_is_none_is_refused() {
    let fixture = fixture();
    for predicate in
        ["", "x", "x = 1) OR (true", "now() > _time", "x IN (SELECT 1)", "count(*) > 1", "x = $1", "_raw = ''"]
    {
        let error = matching(&fixture, predicate).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidSql, "{predicate}: {error}");
    }
}

/// A job of a DELETE sees the rows below its fence, by the types that their columns had.
#[tokio::test]
async fn a_condition_is_evaluated_by_the_types_with_which_it_was_checked() {
    let fixture = fixture();
    let topic = fixture.engine.columns_of(&fixture.catalog.topics()[0], "x > 5 AND user <> 'nobody'").await.unwrap();
    let types: Vec<_> = topic.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
    assert_eq!(types, [("user", DataType::Utf8), ("x", DataType::Int64)]);
    assert!(fixture.engine.columns_of(&fixture.catalog.topics()[0], "nobody > 5").await.is_err());
    fixture.add("logs", Place::Tail, &[Row::new(0, 900, 0).int("http.code", 1).int("user.id", 7)]);
    assert_eq!(matching(&fixture, "user.id = 7 AND logs.user.id < 8").await.unwrap(), [(0, 900)]);
    let dotted = fixture.engine.columns_of(&fixture.catalog.topics()[0], "logs.http.code = 1").await.unwrap();
    assert_eq!((dotted.fields().len(), dotted.field(0).name().as_str()), (1, "http.code"));
    let asked = |data_type| Some(Arc::new(Schema::new(vec![Field::new("x", data_type, true)])));
    let ends = |end: u64| Some(Arc::new(BTreeMap::from([(PartitionId(1), Offset(end))])));
    let find = async |asked, ends, predicate: &str| {
        let topic = fixture.catalog.topics()[0].clone();
        let mut snapshot = fixture.catalog.snapshot(&topic, &[], std::time::Instant::now()).await.unwrap();
        snapshot.shards.iter_mut().for_each(|shard| shard.ends = Option::clone(&ends));
        let mut found = fixture.engine.matching(snapshot.into(), predicate, asked).await.unwrap();
        let mut all = Vec::new();
        while let Some(places) = found.next().await {
            all.extend(places.unwrap().into_iter().map(|(partition, offset)| (partition.0, offset.0)));
        }
        all
    };
    assert_eq!(find(asked(DataType::Int64), None, "x = 5").await, [(1, 5)]);
    assert_eq!(find(asked(DataType::Utf8), None, "x = '5'").await, [(1, 5)]);
    assert_eq!(find(asked(DataType::Int64), ends(6), "x = 5").await, [(1, 5)]);
    assert_eq!(find(asked(DataType::Int64), ends(5), "x = 5").await, []);
    // What divides by zero lies behind the end.
    assert_eq!(find(asked(DataType::Int64), ends(5), "100 / (x - 5) = 100").await, []);
}
