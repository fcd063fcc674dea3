//! Snapshots, fences and statistics.

use std::sync::atomic::Ordering;

use stratalog_proto::{RaftIndex, ShardId, Token, v1};

use super::fixture::{Fixture, Place};
use super::rows::Row;
use crate::SqlRequest;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    for topic in ["a", "b"] {
        fixture.topic(topic);
        let rows: Vec<Row> = (0..10).map(|n| Row::new(0, n, n as i64).int("x", n as i64)).collect();
        fixture.add(topic, Place::Tail, &rows);
    }
    fixture
}

#[tokio::test]
async fn a_statement_takes_one_snapshot_of_each_topic() {
    let fixture = fixture();
    let sql = "SELECT a.x FROM a JOIN b ON a.x = b.x JOIN a AS c ON c.x = b.x WHERE a.x IN (SELECT x FROM a)";
    let (batches, _) = fixture.sql(sql).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 10);
    assert_eq!(fixture.catalog.snapshots.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_answer_reports_its_fence() {
    let fixture = fixture();
    let (_, stats) = fixture.sql("SELECT x FROM a WHERE x > 3").await.unwrap();
    let fence = |shard| v1::ShardFence { shard, index: 100, lag: 0 };
    assert_eq!(stats.fences, [fence(0), fence(1)]);
    assert_eq!((stats.catalogue_version, stats.rows_returned, stats.rows_scanned, stats.tail_rows), (7, 6, 10, 10));
}

#[tokio::test]
async fn tokens_reach_the_snapshots_of_their_shards() {
    let fixture = fixture();
    let token = |shard| Token { shard: ShardId(shard), index: RaftIndex(5) };
    let request =
        SqlRequest { sql: "SELECT 1 FROM a".into(), tokens: vec![token(0), token(9)], ..SqlRequest::default() };
    fixture.engine.sql(request).await.unwrap().collect().await.unwrap();
    assert_eq!(*fixture.catalog.tokens.lock(), [token(0)]);
}
