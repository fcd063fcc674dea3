//! Q2: the same query over tail, sealed and half-sealed rows gives the same answer, and it is the right one.

use super::fixture::{Fixture, Place};
use super::oracle::{has_prefix, positions};
use super::rows::{Row, Value};

const T0: i64 = 1_767_225_600_000_000_000; // 2026-01-01T00:00:00Z
const SECOND: i64 = 1_000_000_000;

/// Text columns of the table. `code` is a number in some rows and text in others.
const TEXT: [&str; 4] = ["code", "http.path", "level", "message"];

/// Rows of services, in the order of time; a fifth of the values is missing, some rows are dead.
fn sample(count: u64) -> Vec<Row> {
    (0..count)
        .map(|n| {
            let row = Row::new((n % 4) as u32, n / 4, T0 + n as i64 * SECOND);
            if n % 97 == 13 {
                return row.dead("not JSON: expected `{`");
            }
            let message = match n % 7 {
                0 => format!("GET /api/v1/users/{n} 200 in {}ms", n % 83),
                1 => format!("Connection refused by 10.0.0.{}: os error 111", n % 11),
                2 => format!("refused: the connection of user-{} timed out", n % 31),
                3 => format!("Zugriff auf Straße Nr. {} VERWEIGERT — ÄRGER", n % 5),
                4 => "connection_pool.size=10 refused=false".to_owned(),
                5 => format!("trace 0af7651916cd43dd8448eb211c80{:04x} sampled", n % 4_099),
                _ => String::new(),
            };
            let mut row = row.text("level", ["info", "warn", "error"][(n % 3) as usize]);
            if n % 5 != 0 {
                row = row.text("message", message).int("status", [200, 404, 500][(n % 11 % 3) as usize]);
            }
            if n % 4 != 0 {
                row = row.with(
                    "latency",
                    if n % 8 == 1 { Value::Int(n as i64 % 100) } else { Value::Float(n as f64 % 100.0 + 0.5) },
                );
            }
            if n % 6 != 0 {
                row = row.text("http.path", ["/api/users", "/login", "/static/logo.png"][(n % 9 % 3) as usize]);
            }
            row =
                if n < count / 2 { row.int("code", n as i64 % 12) } else { row.text("code", format!("E-{}", n % 12)) };
            if n % 3 == 0 { row.with("ok", Value::Bool(n % 2 == 0)) } else { row }
        })
        .collect()
}

type Truth = fn(&Row) -> bool;

/// WHERE clauses and what they mean.
const FILTERS: &[(&str, Truth)] = &[
    ("MATCH(message, 'refused')", |row| row.matches("message", "refused")),
    ("NOT MATCH(message, 'refused')", |row| !row.matches("message", "refused")),
    ("MATCH(message, '\"connection refused\"')", |row| row.matches("message", "connection refused")),
    ("NOT MATCH(message, '\"connection refused\"')", |row| !row.matches("message", "connection refused")),
    ("match(message, '10.0.0.7')", |row| row.matches("message", "10 0 0 7")),
    ("MATCH(message, 'straße ärger')", |row| row.matches("message", "straße") && row.matches("message", "ärger")),
    ("MATCH(message, 'conn*')", |row| row.get_text("message").is_some_and(|text| has_prefix(&text, "conn"))),
    ("MATCH(message, 'refused OR users') AND NOT MATCH(http.path, 'api')", |row| {
        (row.matches("message", "refused") || row.matches("message", "users")) && !row.matches("http.path", "api")
    }),
    ("MATCH(message, 'refused AND NOT timed')", |row| {
        row.matches("message", "refused") && !row.matches("message", "timed")
    }),
    ("MATCH(message, 'refused') OR status = 500", |row| {
        row.matches("message", "refused") || row.number("status") == Some(500.0)
    }),
    ("NOT (MATCH(message, 'refused') OR level = 'error')", |row| {
        !row.matches("message", "refused") && row.get_text("level").is_some_and(|level| level != "error")
    }),
    ("MATCH(message, 'refused') = (level = 'error')", |row| {
        row.get_text("level").is_some_and(|level| row.matches("message", "refused") == (level == "error"))
    }),
    ("CASE WHEN MATCH(message, 'refused') THEN status = 404 ELSE ok END", |row| {
        if row.matches("message", "refused") {
            row.number("status") == Some(404.0)
        } else {
            row.values.get("ok") == Some(&Value::Bool(true))
        }
    }),
    ("MATCH('refused')", |row| row.any_matches(&TEXT, "refused")),
    ("MATCH('logo.png error')", |row| row.any_matches(&TEXT, "logo png") && row.any_matches(&TEXT, "error")),
    ("NOT MATCH('info')", |row| !row.any_matches(&TEXT, "info")),
    ("MATCH('level:error status:500')", |row| row.matches("level", "error") && row.number("status") == Some(500.0)),
    ("MATCH('-status:500')", |row| row.number("status") != Some(500.0)),
    ("MATCH('status:>=404 latency:<50')", |row| {
        row.number("status").is_some_and(|v| v >= 404.0) && row.number("latency").is_some_and(|v| v < 50.0)
    }),
    ("MATCH('7')", |row| row.any_matches(&TEXT, "7")),
    ("MATCH(code, '7')", |row| row.matches("code", "7")),
    ("MATCH('nowhere:x')", |_| false),
    ("MATCH('NOT nowhere:x')", |_| true),
    ("MATCH(message, '0af7651916cd43dd8448eb211c800c05')", |row| {
        row.matches("message", "0af7651916cd43dd8448eb211c800c05")
    }),
    ("MATCH(message, 'absent-word')", |_| false),
    ("code = '7'", |row| row.get_text("code").as_deref() == Some("7")),
    ("code >= 'E-1' AND code < 'E-2'", |row| {
        row.get_text("code").is_some_and(|code| ("E-1".."E-2").contains(&code.as_str()))
    }),
    ("http.path = '/login' AND latency > 50", |row| {
        row.get_text("http.path").as_deref() == Some("/login") && row.number("latency").is_some_and(|v| v > 50.0)
    }),
    ("status IN (404, 500) AND latency BETWEEN 10 AND 20", |row| {
        row.number("status").is_some_and(|v| v > 300.0)
            && row.number("latency").is_some_and(|v| (10.0..=20.0).contains(&v))
    }),
    ("status IS NULL", |row| !row.values.contains_key("status")),
    ("ok", |row| row.values.get("ok") == Some(&Value::Bool(true))),
    ("NOT ok", |row| row.values.get("ok") == Some(&Value::Bool(false))),
    ("ok IS NOT TRUE", |row| row.values.get("ok") != Some(&Value::Bool(true))),
    ("level LIKE 'e%'", |row| row.get_text("level").is_some_and(|level| level.starts_with('e'))),
    ("_time >= '2026-01-01T00:30:00Z' AND _time < '2026-01-01T01:00:00Z'", |row| {
        (T0 + 1_800 * SECOND..T0 + 3_600 * SECOND).contains(&row.time_ns)
    }),
    ("_partition = 2 AND _offset < 100", |row| row.partition == 2 && row.offset < 100),
    ("_key = 'k3'", |row| row.offset % 5 == 3),
    ("_dead IS NOT NULL", |row| row.dead.is_some()),
    ("MATCH('_dead:json')", |row| row.dead.is_some()),
    ("_raw = 'raw 1/17'", |row| (row.partition, row.offset) == (1, 17)),
    ("latency + status > 500", |row| {
        row.number("latency").zip(row.number("status")).is_some_and(|(a, b)| a + b > 500.0)
    }),
];

/// Rows that lie together, and where.
type Run<'a> = (Place, &'a [Row]);

/// Ways to place the rows: runs of them, and where each goes.
fn placements(rows: &[Row]) -> Vec<(&'static str, Vec<Run<'_>>)> {
    let (old, new) = rows.split_at(rows.len() / 2);
    let thirds: Vec<&[Row]> = rows.chunks(rows.len() / 3 + 1).collect();
    vec![
        ("tail", vec![(Place::Tail, rows)]),
        ("sealed", vec![(Place::Sealed, rows)]),
        ("half", vec![(Place::Sealed, old), (Place::Tail, new)]),
        ("pieces", vec![(Place::Sealed, old), (Place::Sealed, new)]),
        ("old analyzer", vec![(Place::OldAnalyzer, thirds[0]), (Place::Sealed, thirds[1]), (Place::Tail, thirds[2])]),
    ]
}

fn fixture(parts: &[Run<'_>]) -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("logs");
    parts.iter().for_each(|(place, rows)| fixture.add("logs", *place, rows));
    fixture
}

#[tokio::test]
async fn q2_filters_answer_the_same_wherever_the_rows_are() {
    let rows = sample(20_000);
    for (name, parts) in placements(&rows) {
        let fixture = fixture(&parts);
        for (filter, truth) in FILTERS {
            let (found, _) = fixture.positions("logs", filter).await;
            let expected = positions(&rows, truth);
            let differ = found.iter().zip(&expected).find(|(found, expected)| found != expected);
            assert_eq!(found.len(), expected.len(), "Q2: {filter} over {name}; first difference {differ:?}");
            assert_eq!(found, expected, "Q2: {filter} over {name}");
        }
    }
}

#[tokio::test]
async fn q2_aggregates_answer_the_same_wherever_the_rows_are() {
    let rows = sample(9_000);
    let queries = [
        "SELECT count(*), min(_time), max(_time) FROM logs",
        "SELECT level, count(*), sum(status), avg(latency), min(code), max(code) FROM logs GROUP BY level ORDER BY level",
        "SELECT code, count(*) AS n FROM logs WHERE MATCH(message, 'refused') GROUP BY code ORDER BY n DESC, code LIMIT 5",
        "SELECT * FROM logs WHERE _time < '2026-01-01T00:00:30Z' ORDER BY _time, _partition",
        "SELECT _time, message, _raw, _key FROM logs ORDER BY _time DESC LIMIT 7",
        "SELECT a.code, b.level FROM logs a JOIN logs b ON a._offset = b._offset AND a._partition = b._partition \
         WHERE a.status = 500 AND MATCH(b.message, 'users') ORDER BY a._time LIMIT 20",
        "SELECT date_bin(INTERVAL '10 minutes', _time) AS t, count(*) FROM logs WHERE NOT MATCH('info') GROUP BY t ORDER BY t",
        "SELECT count(*) FILTER (WHERE MATCH(message, 'refused')) AS refused, count(DISTINCT http.path) FROM logs",
    ];
    let mut answers: Vec<Vec<String>> = Vec::new();
    for (_, parts) in placements(&rows) {
        let fixture = fixture(&parts);
        let mut shown = Vec::new();
        for query in queries {
            let text = fixture.show(query).await;
            assert!(text.starts_with('+'), "{query}: {text}");
            shown.push(text);
        }
        answers.push(shown);
    }
    for other in &answers[1..] {
        for ((query, one), other) in queries.iter().zip(&answers[0]).zip(other) {
            assert_eq!(one, other, "Q2: {query}");
        }
    }
}
