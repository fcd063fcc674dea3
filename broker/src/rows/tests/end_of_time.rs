//! Event times up to the last nanosecond that 64 bits hold, in April 2262.

use super::*;

#[tokio::test]
async fn times_up_to_the_last_nanosecond_are_sealed_in_their_buckets() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, timed(TopicConfig::default())));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let times = [0, 1, i64::MAX - 2 * HOUR, i64::MAX - HOUR, i64::MAX - 1, i64::MAX];
    let records = times.map(|time| format!(r#"{{"ts":{time}}}"#));
    log.produce(&logs, 0, &records.each_ref().map(String::as_str));
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();

    assert_eq!(rows_of(&rows, &logs).await.len(), times.len());
    let snapshot = rows.snapshot(&logs, &[], soon()).await.unwrap();
    let mut bounds: Vec<(i64, i64)> = Vec::new();
    for segment in &snapshot.shards[0].segments {
        assert_eq!((segment.meta.kind, segment.meta.dead_rows), (SegmentKind::Column, 0), "S3");
        bounds.push((segment.meta.min_time_ns, segment.meta.max_time_ns));
    }
    bounds.sort_unstable();
    assert_eq!(bounds.first(), Some(&(0, 1_000_000_000)), "the number 1 is a second");
    assert_eq!(bounds.last().map(|(_, last)| *last), Some(i64::MAX));
    assert!(rows.coverage(&logs)[0].1.holds(), "S1");
    rows.stop().await;
}
