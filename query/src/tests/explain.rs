//! What `EXPLAIN ANALYZE` shows of a scan.

use super::fixture::{Fixture, Place};
use super::rows::Row;
use crate::EngineOptions;

const GRANULE: u64 = 8_192;

/// Three segments of two granules, a second apart, and a tail. `seq` ascends; one word is in one granule.
fn fixture() -> Fixture {
    let fixture = Fixture::with_options(EngineOptions { threads: 1, ..EngineOptions::default() });
    fixture.topic("logs");
    let row = |second: u64, n: u64| {
        let word = if second == 1 && n == 9_000 { "needle" } else { "hay" };
        let seq = second * 2 * GRANULE + n;
        Row::new(0, seq, (second * 1_000_000_000 + n) as i64).int("seq", seq as i64).text("message", word)
    };
    for second in 0..3 {
        fixture.add("logs", Place::Sealed, &(0..2 * GRANULE).map(|n| row(second, n)).collect::<Vec<_>>());
    }
    fixture.add("logs", Place::Tail, &(0..10).map(|n| row(3, n)).collect::<Vec<_>>());
    fixture
}

/// The figures of the scan.
async fn figures(fixture: &Fixture, filter: &str) -> Vec<(String, String)> {
    let shown = fixture.show(&format!("EXPLAIN ANALYZE SELECT seq, message FROM logs WHERE {filter}")).await;
    let scan = shown.lines().find(|line| line.contains("DataSourceExec")).unwrap_or_else(|| panic!("{shown}"));
    let (_, metrics) = scan.split_once("metrics=[").unwrap_or_else(|| panic!("{shown}"));
    let (metrics, _) = metrics.split_once(']').unwrap();
    let figures = metrics.split(", ").filter_map(|metric| metric.split_once('='));
    figures.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

#[tokio::test]
async fn a_scan_shows_what_pruned_it() {
    let fixture = fixture();
    let cases = [
        // 1 segment by the manifest, the granule before the word's and another segment by the index.
        (
            "_time >= '1970-01-01T00:00:01Z' AND MATCH(message, 'needle')",
            [("segments", "3"), ("segments_pruned_by_manifest", "1"), ("segments_pruned_by_zone_maps", "0")],
            [("segments_pruned_by_text", "1"), ("granules_pruned_by_text", "3"), ("tail_rows", "10")],
        ),
        (
            "seq < 100",
            [("segments_pruned_by_zone_maps", "2"), ("granules_pruned_by_zone_maps", "5"), ("granules", "6")],
            [("granules_pruned_by_text", "0"), ("rows_scanned", "8.20 K"), ("output_rows", "100")],
        ),
    ];
    for (filter, some, more) in cases {
        let figures = figures(&fixture, filter).await;
        for (name, value) in some.into_iter().chain(more) {
            let shown = figures.iter().find(|(known, _)| known == name);
            assert!(shown.is_some_and(|(_, shown)| shown == value), "{filter}: {name} {value} {figures:?}");
        }
    }
}

#[tokio::test]
async fn the_ends_of_partitions_and_offsets_are_known_without_rows() {
    let fixture = fixture();
    let sql = "SELECT min(_offset), max(_offset), min(_partition), max(_partition), min(_time), count(*), count(_offset) FROM logs";
    let (_, stats) = fixture.sql(sql).await.unwrap();
    assert_eq!((stats.rows_returned, stats.rows_scanned), (1, 0));
    assert!(
        fixture.show(sql).await.contains("| 0                 | 49161             | 0 "),
        "{}",
        fixture.show(sql).await
    );
}

#[tokio::test]
async fn the_newest_rows_open_only_the_newest_segments() {
    let fixture = fixture();
    for (sql, opened) in [
        ("SELECT seq FROM logs ORDER BY _time DESC LIMIT 5", 0),
        ("SELECT seq, message FROM logs ORDER BY _time DESC LIMIT 12", 1),
        ("SELECT seq FROM logs WHERE seq < 49000 ORDER BY _time DESC, _offset LIMIT 5", 1),
    ] {
        let (_, stats) = fixture.sql(sql).await.unwrap();
        assert_eq!(stats.segments_total - stats.segments_pruned, opened, "{sql}: {stats:?}");
    }
}
