//! X1: statements made to break the engine.

use std::time::Duration;

use stratalog_proto::Code;

use super::fixture::{Fixture, Place, ended};
use super::rows::Row;
use crate::SqlRequest;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("t");
    let rows: Vec<Row> = (0..10).map(|n| Row::new(0, n, n as i64).int("x", n as i64).text("s", "a b c")).collect();
    fixture.add("t", Place::Tail, &rows);
    fixture.add("t", Place::Sealed, &rows);
    fixture
}

/// A statement that is refused or answered; what it must not do is take the process down.
async fn survives(fixture: &Fixture, what: &str, sql: &str) {
    if let Err(error) = fixture.sql(sql).await {
        assert!(matches!(error.code, Code::InvalidSql | Code::InvalidSearch), "{what}: {error}");
        assert!(error.message.len() < 2_000, "{what}: an error of {} bytes", error.message.len());
    }
}

#[tokio::test]
async fn x1_deep_and_long_statements_do_not_overflow_the_stack() {
    let fixture = fixture();
    let n = 20_000;
    let cases = [
        ("parentheses", format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n))),
        ("open parentheses", format!("SELECT {}", "(".repeat(n))),
        ("few parentheses", format!("SELECT {}x{} FROM t", "(".repeat(40), ")".repeat(40))),
        ("sum", format!("SELECT 1{}", "+1".repeat(n))),
        ("sum in parentheses", format!("SELECT {}", "(1+".repeat(n))),
        ("not", format!("SELECT * FROM t WHERE {} x = 1", "NOT ".repeat(n))),
        ("minus", format!("SELECT {}1", "- ".repeat(n))),
        ("or", format!("SELECT * FROM t WHERE x = 0{}", " OR x = 1".repeat(n))),
        ("casts", format!("SELECT 1{}", "::int".repeat(n))),
        ("subscripts", format!("SELECT x{}", "[1]".repeat(n))),
        ("subqueries", format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(n / 10), ")".repeat(n / 10))),
        ("unions", format!("SELECT 1{}", " UNION SELECT 1".repeat(n / 10))),
        ("joins", format!("SELECT 1 FROM t{}", " CROSS JOIN t".repeat(n / 10))),
        ("commas in from", format!("SELECT 1 FROM t a{}", ", t".repeat(n / 10))),
        ("case", format!("SELECT {} 1", "CASE WHEN true THEN ".repeat(n / 10))),
        ("functions", format!("SELECT {}1{}", "abs(".repeat(n / 10), ")".repeat(n / 10))),
        ("identifier", format!("SELECT a{} FROM t", ".a".repeat(n))),
        ("in list", format!("SELECT * FROM t WHERE x IN (0{})", ",1".repeat(n))),
        ("between", format!("SELECT * FROM t WHERE x{}", " BETWEEN 1 AND 2".repeat(n / 10))),
        ("is null", format!("SELECT * FROM t WHERE x{}", " IS NULL".repeat(n / 10))),
        ("match", format!("SELECT * FROM t WHERE MATCH('{}a{}')", "(".repeat(n), ")".repeat(n))),
        ("match not", format!("SELECT * FROM t WHERE MATCH('{}a')", "NOT ".repeat(n))),
        ("match words", format!("SELECT * FROM t WHERE MATCH('{}')", "word ".repeat(n))),
        ("quotes", format!("SELECT '{}", "''".repeat(n))),
        ("dollars", "$".repeat(n)),
        ("too long", format!("SELECT '{}'", "x".repeat(1 << 20))),
        ("arrays", format!("SELECT {}1{}", "[".repeat(n), "]".repeat(n))),
        ("with", format!("WITH {} SELECT 1", "a AS (SELECT 1),".repeat(n / 10))),
        ("nul", "SELECT '\0' FROM t WHERE s = '\0'".to_owned()),
    ];
    for (what, sql) in cases {
        survives(&fixture, what, &sql).await;
    }
}

#[tokio::test]
async fn as_many_operators_as_are_allowed_are_answered() {
    let fixture = fixture();
    let or = format!("SELECT count(*) FROM t WHERE x + 1 = 0{}", " OR x + _offset = 2".repeat(300));
    assert_eq!(fixture.sql(&or).await.unwrap().1.rows_returned, 1);
    let sum = format!("SELECT x{} FROM t", " + x".repeat(990));
    assert_eq!(fixture.sql(&sum).await.unwrap().1.rows_returned, 20);
    let list = format!("SELECT * FROM t WHERE x IN (0{})", ",1".repeat(20_000));
    assert_eq!(fixture.sql(&list).await.unwrap().1.rows_returned, 4);
}

#[tokio::test]
async fn x1_functions_that_would_make_too_much_are_over_budget() {
    let fixture = fixture();
    let cases = [
        "SELECT length(repeat('x', 2000000000))",
        "SELECT max(length(repeat(s, 100000000))) FROM t",
        "SELECT length(lpad(s, 2000000000, 'y')) FROM t",
        "SELECT length(rpad('x', 2000000000))",
        "SELECT array_length(array_repeat(s, 100000000)) FROM t",
        "SELECT array_length(list_repeat(1, 100000000))",
        "SELECT array_length(array_resize([x], 100000000, 1)) FROM t",
        "SELECT array_length(range(1, 1000000000000))",
        "SELECT array_length(generate_series(x, 1000000000000, 2)) FROM t",
        "SELECT array_length(generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2100-01-01', INTERVAL '1 microsecond'))",
        "SELECT length(replace(repeat(s, 1000), '', repeat(s, 10000))) FROM t",
    ];
    for sql in cases {
        let error = fixture.sql(sql).await.unwrap_err();
        assert_eq!(error.code, Code::QueryBudget, "{sql}: {error}");
    }
}

/// Its cost grows with the length of a text times that of the expression.
const COSTLY: &str = "'^(([a-z]+|[0-9]+|.?)+(x|.){1,30}){1,9}!$'";

#[tokio::test]
async fn x1_regular_expressions_end_with_their_query_and_leave_the_threads_to_others() {
    let fixture = fixture();
    let rows: Vec<Row> = (0..2_000).map(|n| Row::new(0, 100 + n, n as i64).text("s", "a b c ".repeat(4))).collect();
    fixture.add("t", Place::Sealed, &rows);
    for condition in [
        format!("regexp_like(concat(a.s, b.s), {COSTLY})"),
        format!("concat(a.s, b.s) ~ {COSTLY}"),
        format!("concat(a.s, b.s) !~* {COSTLY}"),
        format!("regexp_count(concat(a.s, b.s), {COSTLY}) > 9"),
        format!("regexp_replace(concat(a.s, b.s), {COSTLY}, '') = '-'"),
    ] {
        let sql = format!("SELECT count(*) FROM t a CROSS JOIN t b WHERE {condition}");
        let request = SqlRequest { sql, timeout: Some(Duration::from_millis(300)), ..SqlRequest::default() };
        let error = fixture.failure(request).await;
        assert_eq!(error.code, Code::QueryDeadline, "{condition}: {error}");
    }
    ended(&fixture).await;
}

#[tokio::test]
async fn x1_joins_that_find_nothing_end_with_their_query_and_leave_the_threads_to_others() {
    let fixture = fixture();
    let rows: Vec<Row> = (0..20_000).map(|n| Row::new(0, 100 + n, n as i64).text("s", "a")).collect();
    fixture.add("t", Place::Sealed, &rows);
    for sql in [
        "SELECT count(*) FROM t a, t b, t c, t d WHERE a._offset + b._offset + c._offset + d._offset = -1",
        "SELECT count(*) FROM t a JOIN t b ON a._offset + b._offset < 0 JOIN t c ON c._offset < b._offset",
        "SELECT count(*) FROM t a JOIN t b ON a.s = b.s AND a._offset + b._offset = -1 JOIN t c ON b.s = c.s",
        "SELECT count(*) FROM t a LEFT JOIN t b ON a._offset + b._offset = -1 WHERE b.s IS NOT NULL",
        "SELECT sum(a._offset - c._offset) FROM t a CROSS JOIN t b CROSS JOIN t c",
        "SELECT sum(a._offset - c._offset) FROM t a JOIN t b ON a.s = b.s JOIN t c ON b.s = c.s",
        "SELECT a.s FROM t a CROSS JOIN t b CROSS JOIN t c WHERE concat(a.s, b.s, c.s) = 'b'",
    ] {
        let timeout = Some(Duration::from_millis(300));
        let error = fixture.failure(SqlRequest { sql: sql.to_owned(), timeout, ..SqlRequest::default() }).await;
        assert_eq!(error.code, Code::QueryDeadline, "{sql}: {error}");
    }
    ended(&fixture).await;
}

#[tokio::test]
async fn x1_a_regular_expression_that_is_too_large_is_refused() {
    let fixture = fixture();
    for sql in [
        "SELECT count(*) FROM t WHERE regexp_like(s, '((a{1,999}){1,999}){1,999}')",
        "SELECT count(*) FROM t WHERE s ~ '((a{1,999}){1,999}){1,999}'",
        "SELECT count(*) FROM t WHERE s ~ '('",
    ] {
        let error = fixture.sql(sql).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidSql, "{sql}: {error}");
    }
}

#[tokio::test]
async fn operators_for_regular_expressions_find_what_the_functions_find() {
    let fixture = fixture();
    for (condition, rows) in [
        ("s ~ '^a b'", 20),
        ("s ~ '^A'", 0),
        ("s ~* '^A'", 20),
        ("s !~ 'x'", 20),
        ("s !~* 'C$'", 0),
        ("NOT s ~ 'c$'", 0),
        ("s ~ concat('^', 'a')", 20),
        ("nothing ~ 'a'", 0),
        ("s ~ NULL", 0),
        ("regexp_like(s, 'B', 'i')", 20),
    ] {
        let sql = format!("SELECT _offset FROM (SELECT *, CAST(NULL AS VARCHAR) AS nothing FROM t) WHERE {condition}");
        assert_eq!(fixture.sql(&sql).await.unwrap().1.rows_returned, rows, "{condition}");
    }
}

#[tokio::test]
async fn functions_that_make_much_of_little_make_what_is_allowed() {
    let fixture = fixture();
    let cases = [
        "SELECT repeat(s, x) FROM t",
        "SELECT lpad(s, 2000), rpad(s, 10, 'yz') FROM t",
        "SELECT array_repeat(x, 1000), array_resize([x], 5) FROM t",
        "SELECT range(x), generate_series(x, 100000), generate_series(1000000, x, -7) FROM t",
        "SELECT generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '1970-02-01', INTERVAL '1 hour'), s FROM t",
        "SELECT replace(s, 'a', 'aaaa'), replace(s, '', '-'), repeat(NULL, 3) FROM t",
    ];
    for sql in cases {
        assert_eq!(fixture.sql(sql).await.unwrap().1.rows_returned, 20, "{sql}");
    }
}
