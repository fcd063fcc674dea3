//! Expressions that do not keep the order of a column: the ends of a segment say nothing about the rows between.

use super::fixture::{Fixture, Place, positions as positions_of};
use super::oracle::positions;
use super::rows::{Row, Value};

const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A row every 37 minutes, so that no segment begins or ends with its earliest or latest time of day.
fn rows() -> Vec<Row> {
    let row = |n: i64| {
        let row = Row::new(0, n as u64, n * 37 * MINUTE).int("n", n % 11 - 5);
        let row = row.int("low", if n % 10 == 3 { i64::MIN } else { 1 + n });
        row.int("wide", if n % 7 == 2 { 1 << 40 } else { 5 }).with("x", Value::Float(n as f64 / 8.0))
    };
    (0..130).map(row).collect()
}

fn fixture(rows: &[Row]) -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("logs");
    rows[..120].chunks(60).for_each(|sealed| fixture.add("logs", Place::Sealed, sealed));
    fixture.add("logs", Place::Tail, &rows[120..]);
    fixture
}

fn int(row: &Row, column: &str) -> i64 {
    match row.values[column] {
        Value::Int(value) => value,
        _ => panic!("{column} has integers"),
    }
}

#[tokio::test]
async fn expressions_over_sealed_rows_are_exact() {
    type Truth = fn(&Row) -> bool;
    let cases: &[(&str, Truth)] = &[
        ("CAST(_ingested_at AS TIME) >= TIME '23:00:00'", |row| row.time_ns % DAY >= 23 * HOUR),
        ("_time::TIME < TIME '00:30:00'", |row| row.time_ns % DAY < 30 * MINUTE),
        ("_time::TIME IN (TIME '23:26:00', TIME '00:00:00')", |row| {
            [0, 23 * HOUR + 26 * MINUTE].contains(&(row.time_ns % DAY))
        }),
        ("_time::TIME >= TIME '23:00:00' OR n = 5", |row| row.time_ns % DAY >= 23 * HOUR || int(row, "n") == 5),
        ("n > 4 AND _time::TIME >= TIME '23:00:00'", |row| row.time_ns % DAY >= 23 * HOUR && int(row, "n") > 4),
        ("CAST(n AS BOOLEAN) = false", |row| int(row, "n") == 0),
        ("NOT CAST(n AS BOOLEAN)", |row| int(row, "n") == 0),
        ("CAST(n AS TEXT) = '3'", |row| int(row, "n") == 3),
        ("CAST(n AS TEXT) LIKE '-%'", |row| int(row, "n") < 0),
        ("CAST(n AS DOUBLE) > 3.5", |row| int(row, "n") > 3),
        ("CAST(x AS BIGINT) = 12", |row| row.number("x").unwrap().trunc() == 12.0),
        ("CAST(x AS BIGINT) <> 0", |row| row.number("x").unwrap().trunc() != 0.0),
        ("-low < 0 AND low < 0", |row| int(row, "low") == i64::MIN),
        ("-low < -100", |row| int(row, "low") == i64::MIN || int(row, "low") > 100),
        ("TRY_CAST(wide AS SMALLINT) IS NULL", |row| int(row, "wide") != 5),
        ("TRY_CAST(wide AS SMALLINT) IS DISTINCT FROM 5", |row| int(row, "wide") != 5),
        ("TRY_CAST(wide AS SMALLINT) > 4", |row| int(row, "wide") == 5),
        ("TRY_CAST(wide AS SMALLINT) < 6", |row| int(row, "wide") == 5),
        ("TRY_CAST(wide AS SMALLINT) <> 4", |row| int(row, "wide") == 5),
        ("TRY_CAST(wide AS SMALLINT) IN (4, 5)", |row| int(row, "wide") == 5),
        ("TRY_CAST(wide AS INTEGER) >= 5", |row| int(row, "wide") == 5),
        ("NOT TRY_CAST(low AS INTEGER) < 0", |row| int(row, "low") > 0),
        ("TRY_CAST(low AS DOUBLE) < 0", |row| int(row, "low") < 0),
        ("_time::DATE = DATE '1970-01-02'", |row| row.time_ns / DAY == 1),
        ("_time::DATE > DATE '1970-01-02'", |row| row.time_ns / DAY > 1),
        ("CAST(_time AS TIMESTAMP(0)) = TIMESTAMP '1970-01-01T00:37:00'", |row| row.offset == 1),
        ("CAST(_ingested_at AS TIMESTAMP(0)) = TIMESTAMP '1970-01-01T00:37:00'", |row| row.offset == 1),
        ("CAST(_ingested_at AS TIMESTAMP(0)) <= TIMESTAMP '1970-01-01T00:37:00'", |row| row.offset <= 1),
        ("date_trunc('hour', _ingested_at) = TIMESTAMP '1970-01-02T23:00:00Z'", |row| row.time_ns / HOUR == 47),
        ("date_trunc('day', _ingested_at) > TIMESTAMP '1970-01-02T00:00:00Z'", |row| row.time_ns / DAY > 1),
        ("date_part('hour', _time) = 23", |row| row.time_ns / HOUR % 24 == 23),
        ("extract(year FROM _ingested_at) = 1970", |_| true),
        ("extract(day FROM _time) IN (2, 4)", |row| [1, 3].contains(&(row.time_ns / DAY))),
        ("(_time AT TIME ZONE 'Asia/Tokyo')::DATE = DATE '1970-01-02'", |row| (row.time_ns + 9 * HOUR) / DAY == 1),
        ("_ingested_at > _timestamp AND _time::TIME >= TIME '23:00:00'", |row| row.time_ns % DAY >= 23 * HOUR),
    ];
    let rows = rows();
    let fixture = fixture(&rows);
    for (filter, truth) in cases {
        let (found, _) = fixture.positions("logs", filter).await;
        assert_eq!(found, positions(&rows, truth), "{filter}");
    }
}

/// What a top-k or a join adds to a scan while it runs is made of the same expressions.
#[tokio::test]
async fn dynamic_filters_over_expressions_are_exact() {
    let rows = rows();
    let fixture = fixture(&rows);
    let mut latest: Vec<&Row> = rows.iter().collect();
    latest.sort_by_key(|row| std::cmp::Reverse(row.time_ns % DAY));
    let mut latest: Vec<_> = latest[..5].iter().map(|row| (row.partition, row.offset)).collect();
    latest.sort_unstable();
    let at_23 = positions(&rows, |row| row.time_ns % DAY == 23 * HOUR + 26 * MINUTE);
    let cases = [
        ("SELECT _partition, _offset FROM logs ORDER BY _time::TIME DESC LIMIT 5", &latest),
        (
            "SELECT a._partition, a._offset FROM logs a JOIN (SELECT _time::TIME AS t FROM logs WHERE _offset = 38) b \
             ON a._time::TIME = b.t",
            &at_23,
        ),
    ];
    assert!(at_23.contains(&(0, 38)));
    for (sql, expected) in cases {
        let (batches, _) = fixture.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut found: Vec<_> = batches.iter().flat_map(positions_of).collect();
        found.sort_unstable();
        assert_eq!(found, *expected, "{sql}");
    }
}

#[tokio::test]
async fn casts_that_keep_the_order_still_prune() {
    let rows = rows();
    let fixture = fixture(&rows);
    for filter in [
        "CAST(n AS DOUBLE) > 100.5",
        "TRY_CAST(n AS BIGINT) > 100",
        "CAST(x AS BIGINT) > 100",
        "_time::DATE > DATE '1970-02-01'",
        "CAST(_ingested_at AS TIMESTAMP(0)) > TIMESTAMP '1970-02-01T00:00:00'",
        "_timestamp > TIMESTAMP '1970-02-01T00:00:00Z' AND _time::TIME >= TIME '23:00:00'",
    ] {
        let (found, stats) = fixture.positions("logs", filter).await;
        assert_eq!((found.len(), stats.segments_pruned), (0, 2), "{filter}");
    }
}
