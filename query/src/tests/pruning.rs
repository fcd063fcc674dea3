//! What a query does not read.

use super::fixture::{Fixture, Place};
use super::rows::Row;
use crate::EngineOptions;

const HOUR: i64 = 3_600_000_000_000;
const GRANULE: u64 = 8_192;

/// Two segments of three granules each, an hour apart; `seq` ascends, and one granule of each has its own word.
fn fixture() -> Fixture {
    // One thread: what is read does not depend on who is faster.
    let fixture = Fixture::with_options(EngineOptions { threads: 1, ..EngineOptions::default() });
    fixture.topic("logs");
    for hour in 0..2_u64 {
        let rows: Vec<Row> = (0..3 * GRANULE)
            .map(|n| {
                let word = if n / GRANULE == 1 && n % 100 == 0 { format!("needle{hour}") } else { "hay".to_owned() };
                let seq = hour * 3 * GRANULE + n;
                let row = Row::new(0, seq, hour as i64 * HOUR + n as i64);
                row.int("seq", seq as i64).text("message", format!("some {word} here"))
            })
            .collect();
        fixture.add("logs", Place::Sealed, &rows);
    }
    fixture
}

/// (rows found, rows scanned, segments pruned, granules pruned)
async fn read(fixture: &Fixture, filter: &str) -> (usize, u64, u64, u64) {
    let (found, stats) = fixture.positions("logs", filter).await;
    assert_eq!((stats.segments_total, stats.granules_total), (2, 6));
    assert_eq!(stats.rows_returned, found.len() as u64);
    (found.len(), stats.rows_scanned, stats.segments_pruned, stats.granules_pruned)
}

#[tokio::test]
async fn segments_outside_the_time_range_are_not_opened() {
    let fixture = fixture();
    let found = read(&fixture, "_time >= '1970-01-01T01:00:00Z'").await;
    assert_eq!(found, (3 * GRANULE as usize, 3 * GRANULE, 1, 3));
    assert_eq!(read(&fixture, "_time > '2000-01-01T00:00:00Z'").await, (0, 0, 2, 6));
}

#[tokio::test]
async fn segments_outside_the_offset_range_are_not_opened() {
    let fixture = fixture();
    assert_eq!(read(&fixture, "_offset < 10").await, (10, GRANULE, 1, 5));
    assert_eq!(read(&fixture, "_partition = 1").await, (0, 0, 2, 6));
    assert_eq!(read(&fixture, "_dead IS NOT NULL").await, (0, 0, 2, 6));
}

#[tokio::test]
async fn granules_are_pruned_by_their_zone_maps() {
    let fixture = fixture();
    assert_eq!(read(&fixture, "seq BETWEEN 100 AND 109").await, (10, GRANULE, 1, 5));
}

#[tokio::test]
async fn granules_without_candidates_of_a_text_query_are_skipped() {
    let fixture = fixture();
    assert_eq!(read(&fixture, "MATCH(message, 'needle0')").await, (82, GRANULE, 1, 5));
    assert_eq!(read(&fixture, "MATCH(message, 'needle*') AND seq < 24576").await, (82, GRANULE, 1, 5));
    assert_eq!(read(&fixture, "MATCH('needle0') OR seq = 24576").await, (83, 2 * GRANULE, 0, 4));
    assert_eq!(read(&fixture, "NOT MATCH('some')").await, (0, 0, 2, 6));
    assert_eq!(read(&fixture, "MATCH('nothing-of-this')").await, (0, 0, 2, 6));
}

#[tokio::test]
async fn a_top_k_stops_reading_when_the_rest_is_older() {
    let fixture = fixture();
    let (batches, stats) = fixture.sql("SELECT _time, seq FROM logs ORDER BY _time DESC LIMIT 5").await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 5);
    assert!(stats.segments_pruned == 1 && stats.rows_scanned == GRANULE, "{stats:?}");
}

#[tokio::test]
async fn a_limit_ends_the_scan() {
    let fixture = fixture();
    let (_, stats) = fixture.sql("SELECT * FROM logs LIMIT 3").await.unwrap();
    assert!(stats.rows_returned == 3 && stats.rows_scanned == GRANULE, "{stats:?}");
}

#[tokio::test]
async fn counting_and_the_ends_of_time_read_no_rows() {
    let fixture = fixture();
    let (_, stats) = fixture.sql("SELECT count(*), min(_time), max(_time) FROM logs").await.unwrap();
    assert_eq!((stats.rows_returned, stats.rows_scanned, stats.bytes_scanned), (1, 0, 0));
}

#[tokio::test]
async fn only_the_columns_that_are_needed_are_decoded() {
    let fixture = fixture();
    let (_, narrow) = fixture.sql("SELECT max(seq) FROM logs").await.unwrap();
    let (_, wide) = fixture.sql("SELECT max(seq), max(message) FROM logs").await.unwrap();
    let (_, late) = fixture
        .sql("SELECT max(seq), max(message) FROM logs WHERE _offset % 8192 = 8191 AND seq < 8192")
        .await
        .unwrap();
    assert!(narrow.bytes_scanned > 0 && narrow.bytes_scanned < wide.bytes_scanned, "{narrow:?} {wide:?}");
    assert!(late.bytes_scanned < wide.bytes_scanned, "{late:?}");
}
