//! Log search.

use expect_test::expect;
use stratalog_proto::{Code, RaftIndex, ShardId, Token};

use super::fixture::{Fixture, Place, positions};
use super::rows::{Row, Value};
use crate::{EngineOptions, SearchRequest};

fn request(query: &str) -> SearchRequest {
    SearchRequest { topic: "logs".into(), query: query.into(), ..SearchRequest::default() }
}

/// Rows a second apart, old ones sealed; one is dead.
fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("logs");
    let rows: Vec<Row> = (0..100_u64)
        .map(|n| {
            let row = Row::new((n % 2) as u32, n / 2, n as i64 * 1_000_000_000);
            match n {
                42 => row.dead("not JSON"),
                n if n % 10 == 0 => {
                    row.text("message", "disk full").int("status", 507).with("retry", Value::Bool(true))
                }
                _ => row.text("message", "all is well").int("status", 200),
            }
        })
        .collect();
    fixture.add("logs", Place::Sealed, &rows[..60]);
    fixture.add("logs", Place::Tail, &rows[60..]);
    fixture
}

#[tokio::test]
async fn the_newest_matches_come_first() {
    let fixture = fixture();
    let (batch, stats) = fixture.search(SearchRequest { limit: Some(3), ..request("disk") }).await.unwrap();
    assert_eq!(positions(&batch), [(0, 45), (0, 40), (0, 35)]);
    assert_eq!(stats.rows_returned, 3);
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["_time", "_partition", "_offset", "message", "retry", "status"]);
}

#[tokio::test]
async fn columns_without_values_in_the_hits_are_left_out() {
    let fixture = fixture();
    let (batch, _) = fixture.search(SearchRequest { limit: Some(1), ..request("well") }).await.unwrap();
    assert!(batch.column_by_name("retry").is_none() && batch.column_by_name("_dead").is_none());
    let (none, _) = fixture.search(request("nothing-like-this")).await.unwrap();
    assert_eq!((none.num_rows(), none.num_columns()), (0, 3));
}

/// Two chunks of the tail of which it is known what words they have, and whose `status` is a number in one, text in the other.
#[tokio::test]
async fn q2_a_number_that_is_text_beside_other_rows_is_found_where_words_are_known() {
    let fixture = Fixture::new();
    fixture.topic("logs");
    let rows = |status: fn(Row) -> Row| (0..2).map(|n| status(Row::new(0, n, 0))).collect::<Vec<_>>();
    fixture.add("logs", Place::Tail, &rows(|row| row.int("status", 507)));
    fixture.add("logs", Place::Tail, &rows(|row| row.text("status", "507 disk full").text("path", "/507")));
    let found = async |query: &str| fixture.search(request(query)).await.unwrap().0.num_rows();
    assert_eq!(found("status:507").await, 4);
    assert_eq!((found("disk").await, found("path:507").await, found("absent").await), (2, 2, 0));
}

#[tokio::test]
async fn an_empty_query_finds_every_row_dead_ones_included() {
    let fixture = fixture();
    let (batch, _) = fixture.search(SearchRequest { limit: Some(1_000), ..request("") }).await.unwrap();
    assert_eq!(batch.num_rows(), 100);
    assert!(batch.column_by_name("_dead").is_some());
    let (dead, _) = fixture.search(request("_exists_:_dead")).await.unwrap();
    assert_eq!(positions(&dead), [(0, 21)]);
}

#[tokio::test]
async fn the_time_range_is_half_open() {
    let fixture = fixture();
    let range = SearchRequest { from_ns: Some(10_000_000_000), to_ns: Some(20_000_000_000), ..request("disk") };
    let (batch, _) = fixture.search(range).await.unwrap();
    assert_eq!(positions(&batch), [(0, 5)]);
}

#[tokio::test]
async fn fields_compare_by_the_type_of_their_column() {
    let fixture = fixture();
    for (query, expected) in [
        ("status:507", 10),
        ("status:>=507", 10),
        ("status:[500 TO 599]", 10),
        ("status:5*", 10),
        ("-status:200", 11),
        ("status:abc", 0),
        ("retry:true", 10),
        ("message:\"disk full\" AND status:507", 10),
        ("nowhere:1 OR disk", 10),
        ("nowhere:1", 0),
        ("_partition:1", 50),
        ("_offset:<5", 10),
        ("_key:k3", 20),
        ("_exists_:retry", 10),
        ("_time:<1970-01-01T00:00:10Z", 10),
        ("_time:1970-01-01", 100),
    ] {
        let (batch, _) = fixture.search(SearchRequest { limit: Some(1_000), ..request(query) }).await.unwrap();
        assert_eq!(batch.num_rows(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_search_stops_reading_at_its_limit() {
    let fixture = Fixture::with_options(EngineOptions { threads: 1, ..EngineOptions::default() });
    fixture.topic("logs");
    for hour in 0..4 {
        let row =
            |n: u64| Row::new(0, hour * 20_000 + n, (hour * 20_000 + n) as i64).text("message", "same words here");
        fixture.add("logs", Place::Sealed, &(0..20_000).map(row).collect::<Vec<_>>());
    }
    let (batch, stats) = fixture.search(SearchRequest { limit: Some(5), ..request("words") }).await.unwrap();
    assert_eq!(
        positions(&batch).iter().map(|(_, offset)| *offset).collect::<Vec<_>>(),
        [79_999, 79_998, 79_997, 79_996, 79_995]
    );
    assert!(stats.segments_pruned == 3 && stats.rows_scanned <= 8_192, "{stats:?}");
}

#[tokio::test]
async fn tokens_of_other_topics_are_not_waited_for() {
    let fixture = fixture();
    let tokens =
        vec![Token { shard: ShardId(1), index: RaftIndex(9) }, Token { shard: ShardId(77), index: RaftIndex(9) }];
    fixture.search(SearchRequest { tokens, ..request("disk") }).await.unwrap();
    assert_eq!(*fixture.catalog.tokens.lock(), [Token { shard: ShardId(1), index: RaftIndex(9) }]);
}

#[tokio::test]
async fn errors_say_what_to_do() {
    let fixture = fixture();
    let mut shown = String::new();
    for request in [
        request("(disk"),
        SearchRequest { topic: "log".into(), ..request("disk") },
        SearchRequest { limit: Some(1_000_000), ..request("disk") },
    ] {
        let error = fixture.search(request).await.unwrap_err();
        assert_ne!(error.code, Code::Internal);
        shown += &format!("{}: {}\n", error.code, error.message);
    }
    expect![[r#"
        INVALID_SEARCH: the search query is not understood at byte 0: this '(' is not closed; write \( to search for it
        UNKNOWN_TOPIC: there is no topic `log`; did you mean `logs`?
        INVALID_REQUEST: a search returns at most 10000 rows, not 1000000; use SQL for more
    "#]]
    .assert_eq(&shown);
}
