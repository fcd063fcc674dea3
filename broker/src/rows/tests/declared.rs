//! Declared columns on their way: a table without rows, the tail, segments, and columns that are declared late.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};

use super::*;

fn declared(columns: &str) -> TopicConfig {
    let mut config = TopicConfig::default();
    config.set("columns", columns).unwrap();
    config
}

async fn schema(rows: &Rows, topic: &TopicInfo) -> SchemaRef {
    rows.snapshot(topic, &[], soon()).await.unwrap().schema
}

async fn column_type(rows: &Rows, topic: &TopicInfo, name: &str) -> Option<DataType> {
    schema(rows, topic).await.field_with_name(name).ok().map(|field| field.data_type().clone())
}

fn timestamp() -> Option<DataType> {
    Some(DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))
}

/// The rows of the one segment.
async fn sealed(rows: &Rows, topic: &TopicInfo) -> RecordBatch {
    let snapshot = rows.snapshot(topic, &[], soon()).await.unwrap();
    assert!(snapshot.shards[0].tail.is_empty());
    let reader = snapshot.shards[0].segments.last().unwrap().reader().unwrap();
    let columns = (0..reader.schema().fields().len()).map(|column| reader.read(column, 0).unwrap()).collect();
    RecordBatch::try_new(reader.schema().clone(), columns).unwrap()
}

#[tokio::test]
async fn declared_columns_are_in_the_table_with_no_row_and_with_none_that_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = declared("status bigint, at timestamp, note text");
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, config));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    let check = async |when: &str| {
        assert_eq!(column_type(&rows, &logs, "status").await, Some(DataType::Int64), "{when}");
        assert_eq!(column_type(&rows, &logs, "at").await, timestamp(), "{when}");
        assert_eq!(column_type(&rows, &logs, "note").await, Some(DataType::Utf8), "{when}");
    };
    check("no row").await;
    log.produce(&logs, 0, &[r#"{"status":null,"other":1}"#]);
    caught_up(&rows).await;
    check("a row without them, in the tail").await;
    rows.seal_now(&logs).await.unwrap();
    check("a row without them, sealed").await;
    rows.stop().await;
}

#[tokio::test]
async fn values_keep_their_declared_types_in_segments() {
    let dir = tempfile::tempdir().unwrap();
    let config = declared("status bigint not null, at timestamp, version text");
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, config));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &[r#"{"status":"200","at":"2026-01-31","version":1.10}"#, r#"{"status":"ok"}"#]);
    log.produce(&logs, 0, &[r#"{"status":404,"version":"2"}"#]);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();
    let batch = sealed(&rows, &logs).await;
    assert_eq!(Some(batch.schema_ref().field_with_name("at").unwrap().data_type().clone()), timestamp());
    let statuses = batch.column_by_name("status").unwrap().as_primitive::<Int64Type>().clone();
    assert_eq!(statuses.iter().flatten().collect::<Vec<_>>(), [200, 404]);
    let versions = batch.column_by_name("version").unwrap().as_string::<i32>().clone();
    assert_eq!(versions.iter().flatten().collect::<Vec<_>>(), ["1.10", "2"]);
    assert_eq!(batch.column_by_name("_dead").unwrap().null_count(), 2);
    rows.stop().await;
}

#[tokio::test]
async fn a_column_that_is_declared_late_reads_as_the_widest_of_its_types() {
    let dir = tempfile::tempdir().unwrap();
    let (log, logs) = (MemLog::new(dir.path()), topic("logs", 1, TopicConfig::default()));
    log.create(&logs);
    let rows = start(&log, std::slice::from_ref(&logs), quiet()).await;
    log.produce(&logs, 0, &[r#"{"took":1,"at":"2026-01-31"}"#]);
    caught_up(&rows).await;
    rows.seal_now(&logs).await.unwrap();

    let later = Arc::new(TopicInfo { config: declared("took double, at timestamp, new boolean"), ..(*logs).clone() });
    assert_eq!(column_type(&rows, &later, "took").await, Some(DataType::Float64));
    assert_eq!(column_type(&rows, &later, "at").await, Some(DataType::Utf8), "a time and text are text");
    assert_eq!(column_type(&rows, &later, "new").await, Some(DataType::Boolean));
    assert_eq!(column_type(&rows, &logs, "new").await, None);
    rows.stop().await;
}
