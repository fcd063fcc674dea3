//! Queries that need more memory than they may use: the right answer by way of the disk, or a clear error.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use stratalog_proto::Code;

use super::fixture::Fixture;
use crate::EngineOptions;

const ROWS: u64 = 300_000;

/// Rows with a key each, some 36 MB of text; a query may use less memory than that.
const KEYS: &str = "WITH logs AS (SELECT value AS n, concat(value * 7919 % 300007, '-', repeat('x', 100)) AS key \
                    FROM generate_series(0, 299999))";

fn fixture(options: EngineOptions) -> (Fixture, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let spill_dir = Some(dir.path().join("spill"));
    (Fixture::with_options(EngineOptions { threads: 2, spill_dir, ..options }), dir)
}

fn small() -> EngineOptions {
    EngineOptions { query_memory_bytes: 24 << 20, ..EngineOptions::default() }
}

/// Less than there is to sort, and enough that one of two sorts merges while the other still takes rows.
fn for_sorts() -> EngineOptions {
    EngineOptions { query_memory_bytes: 32 << 20, ..EngineOptions::default() }
}

#[tokio::test]
async fn everything_is_sorted_on_disk() {
    let (fixture, dir) = fixture(for_sorts());
    let (batches, stats) = fixture.sql(&format!("{KEYS} SELECT key FROM logs ORDER BY key")).await.unwrap();
    let keys: Vec<&str> =
        batches.iter().flat_map(|batch| batch.column(0).as_string::<i32>().iter().flatten()).collect();
    assert_eq!(keys.len() as u64, ROWS);
    assert!(keys.is_sorted());
    assert!(stats.spilled_bytes > 1 << 20, "{stats:?}");
    assert_eq!(std::fs::read_dir(dir.path().join("spill")).unwrap().count(), 0);
    assert_eq!(fixture.engine.reserved(), 0);
}

#[tokio::test]
async fn queries_that_wait_take_no_memory_from_the_one_that_runs() {
    let options = EngineOptions { memory_bytes: 32 << 20, max_running: 1, max_waiting: 100, ..for_sorts() };
    let (fixture, _dir) = fixture(options);
    fixture.topic("t");
    let mut sorts = fixture.start(&format!("{KEYS} SELECT key FROM logs ORDER BY key")).await.unwrap();
    let waiting: Vec<_> = (0..100).map(|_| fixture.start("SELECT * FROM t ORDER BY _time")).collect();
    let waiting = futures::future::join_all(waiting);
    let sorted = async {
        let rows: usize = sorts.collect().await.unwrap().iter().map(|batch| batch.num_rows()).sum();
        let spilled = sorts.stats().spilled_bytes;
        drop(sorts);
        (rows as u64, spilled)
    };
    let waiting = async {
        for waited in waiting.await {
            drop(waited.unwrap());
        }
    };
    let ((rows, spilled), ()) = tokio::join!(sorted, waiting);
    assert_eq!(rows, ROWS);
    assert!(spilled > 1 << 20, "{spilled}");
}

#[tokio::test]
async fn a_group_for_every_row_is_right() {
    let (fixture, _dir) = fixture(small());
    let groups = "SELECT key, count(*) AS c, max(n) AS m FROM logs GROUP BY key";
    let sql = format!("{KEYS} SELECT count(*), sum(c), sum(m) FROM ({groups})");
    let (batches, stats) = fixture.sql(&sql).await.unwrap();
    let value = |column: usize| batches[0].column(column).as_primitive::<Int64Type>().value(0) as u64;
    assert_eq!((value(0), value(1), value(2)), (ROWS, ROWS, ROWS * (ROWS - 1) / 2));
    assert!(stats.spilled_bytes > 0, "{stats:?}");
}

#[tokio::test]
async fn a_topic_joined_with_itself_is_merged_where_a_hash_table_does_not_fit() {
    // Four sorts at once of 72 MB in all, each with its share; less than 40 MB are too few for some turns of their threads.
    let (fixture, _dir) = fixture(EngineOptions { query_memory_bytes: 56 << 20, ..EngineOptions::default() });
    let sql = format!("{KEYS} SELECT count(*), sum(a.n) FROM logs a JOIN logs b ON a.key = b.key");
    let (batches, stats) = fixture.sql(&sql).await.unwrap();
    let value = |column: usize| batches[0].column(column).as_primitive::<Int64Type>().value(0) as u64;
    assert_eq!((value(0), value(1)), (ROWS, ROWS * (ROWS - 1) / 2));
    assert!(stats.spilled_bytes > 0, "{stats:?}");
}

#[tokio::test]
async fn more_disk_than_a_query_may_use_is_an_error_that_says_so() {
    let (fixture, _dir) = fixture(EngineOptions { query_spill_bytes: 1 << 20, ..small() });
    for sql in ["SELECT key FROM logs ORDER BY key", "SELECT key, count(*) FROM logs GROUP BY key"] {
        let error = fixture.sql(&format!("{KEYS} {sql}")).await.unwrap_err();
        assert!(error.code == Code::QueryBudget && error.message.contains("query.spill_bytes"), "{sql}: {error}");
    }
    assert_eq!(fixture.sql(&format!("{KEYS} SELECT max(n) FROM logs")).await.unwrap().1.rows_returned, 1);
}
