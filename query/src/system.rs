//! Tables about the node itself: `system.topics`, `system.partitions`, `system.segments`, `system.columns`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, RecordBatch, StringBuilder, TimestampNanosecondBuilder, UInt32Builder,
    UInt64Builder,
};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;
use stratalog_proto::ShardId;
use stratalog_proto::config::format_duration_ns;
use stratalog_storage::{SegmentKind, SegmentMeta};

use crate::catalog::{Catalog, TopicInfo};
use crate::schema;

/// The tables there are.
pub(crate) const TABLES: [&str; 4] = ["columns", "partitions", "segments", "topics"];

/// One row a topic.
pub(crate) fn topics(catalog: &dyn Catalog) -> Result<Arc<dyn TableProvider>> {
    let mut name = StringBuilder::new();
    let mut id = StringBuilder::new();
    let mut partitions = UInt32Builder::new();
    let mut format = StringBuilder::new();
    let mut time_field = StringBuilder::new();
    let mut bucket = StringBuilder::new();
    let mut retention = StringBuilder::new();
    let mut max_message_bytes = UInt32Builder::new();
    for topic in catalog.topics() {
        name.append_value(&topic.name);
        id.append_value(topic.id.to_string());
        partitions.append_value(topic.partitions);
        format.append_value(topic.config.format.name());
        time_field.append_option(topic.config.time_field.as_deref());
        bucket.append_value(format_duration_ns(topic.config.bucket_ns));
        retention.append_option(topic.config.retention_ns.map(format_duration_ns));
        max_message_bytes.append_value(topic.config.max_message_bytes);
    }
    table(vec![
        ("name", Arc::new(name.finish())),
        ("partitions", Arc::new(partitions.finish())),
        ("format", Arc::new(format.finish())),
        ("time_field", Arc::new(time_field.finish())),
        ("bucket", Arc::new(bucket.finish())),
        ("retention", Arc::new(retention.finish())),
        ("max_message_bytes", Arc::new(max_message_bytes.finish())),
        ("id", Arc::new(id.finish())),
    ])
}

/// One row a partition.
pub(crate) fn partitions(catalog: &dyn Catalog) -> Result<Arc<dyn TableProvider>> {
    let mut topic_name = StringBuilder::new();
    let mut partition = UInt32Builder::new();
    let mut shard = UInt32Builder::new();
    let mut log_start = UInt64Builder::new();
    let mut high_watermark = UInt64Builder::new();
    let mut bytes = UInt64Builder::new();
    for topic in catalog.topics() {
        for info in catalog.partitions(&topic) {
            topic_name.append_value(&topic.name);
            partition.append_value(info.partition.0);
            shard.append_value(info.shard.0);
            log_start.append_value(info.log_start.0);
            high_watermark.append_value(info.high_watermark.0);
            bytes.append_value(info.bytes);
        }
    }
    table(vec![
        ("topic", Arc::new(topic_name.finish())),
        ("partition", Arc::new(partition.finish())),
        ("shard", Arc::new(shard.finish())),
        ("log_start", Arc::new(log_start.finish())),
        ("high_watermark", Arc::new(high_watermark.finish())),
        ("bytes", Arc::new(bytes.finish())),
    ])
}

/// One row a live column segment.
pub(crate) fn segments(catalog: &dyn Catalog) -> Result<Arc<dyn TableProvider>> {
    let mut rows = SegmentRows::default();
    for topic in catalog.topics() {
        for (shard, meta) in catalog.segments(&topic) {
            rows.push(&topic, shard, &meta);
        }
    }
    rows.finish()
}

#[derive(Default)]
struct SegmentRows {
    topic: StringBuilder,
    shard: UInt32Builder,
    id: StringBuilder,
    kind: StringBuilder,
    times: [TimestampNanosecondBuilder; 4],
    rows: UInt64Builder,
    dead_rows: UInt64Builder,
    bytes: UInt64Builder,
    analyzer_version: UInt32Builder,
}

impl SegmentRows {
    fn push(&mut self, topic: &TopicInfo, shard: ShardId, meta: &SegmentMeta) {
        self.topic.append_value(&topic.name);
        self.shard.append_value(shard.0);
        self.id.append_value(meta.id.to_string());
        self.kind.append_value(match meta.kind {
            SegmentKind::Column => "col",
            SegmentKind::Mixed => "mixed",
        });
        let times = [meta.bucket.start_ns, meta.bucket.end_ns, meta.min_time_ns, meta.max_time_ns];
        self.times.iter_mut().zip(times).for_each(|(column, time)| column.append_value(time));
        self.rows.append_value(meta.rows);
        self.dead_rows.append_value(meta.dead_rows);
        self.bytes.append_value(meta.bytes);
        self.analyzer_version.append_value(meta.analyzer_version);
    }

    fn finish(mut self) -> Result<Arc<dyn TableProvider>> {
        let [bucket_start, bucket_end, min_time, max_time] =
            self.times.map(|mut times| Arc::new(times.finish().with_timezone("UTC")) as ArrayRef);
        table(vec![
            ("topic", Arc::new(self.topic.finish())),
            ("shard", Arc::new(self.shard.finish())),
            ("kind", Arc::new(self.kind.finish())),
            ("bucket_start", bucket_start),
            ("bucket_end", bucket_end),
            ("min_time", min_time),
            ("max_time", max_time),
            ("rows", Arc::new(self.rows.finish())),
            ("dead_rows", Arc::new(self.dead_rows.finish())),
            ("bytes", Arc::new(self.bytes.finish())),
            ("analyzer_version", Arc::new(self.analyzer_version.finish())),
            ("id", Arc::new(self.id.finish())),
        ])
    }
}

/// One row a column of a topic, with `merged` the schema of each topic's rows.
pub(crate) fn columns<'a>(topics: impl Iterator<Item = (&'a TopicInfo, &'a Schema)>) -> Result<Arc<dyn TableProvider>> {
    let mut topic_name = StringBuilder::new();
    let mut position = Int64Builder::new();
    let mut column = StringBuilder::new();
    let mut data_type = StringBuilder::new();
    let mut shown = BooleanBuilder::new();
    for (topic, merged) in topics {
        for (at, field) in schema::table_schema(merged, |_| true).fields().iter().enumerate() {
            topic_name.append_value(&topic.name);
            position.append_value(at as i64 + 1);
            column.append_value(field.name());
            data_type.append_value(type_name(field.data_type()));
            shown.append_value(!schema::HIDDEN.contains(&field.name().as_str()));
        }
    }
    table(vec![
        ("topic", Arc::new(topic_name.finish())),
        ("position", Arc::new(position.finish())),
        ("column", Arc::new(column.finish())),
        ("type", Arc::new(data_type.finish())),
        ("shown", Arc::new(shown.finish())),
    ])
}

/// One row a column of a table of ours, in the shape of [`columns`].
pub(crate) fn describe(schema: &Schema) -> Result<Arc<dyn TableProvider>> {
    let mut position = Int64Builder::new();
    let mut column = StringBuilder::new();
    let mut data_type = StringBuilder::new();
    let mut shown = BooleanBuilder::new();
    for (at, field) in schema.fields().iter().enumerate() {
        position.append_value(at as i64 + 1);
        column.append_value(field.name());
        data_type.append_value(type_name(field.data_type()));
        shown.append_value(true);
    }
    table(vec![
        ("position", Arc::new(position.finish())),
        ("column", Arc::new(column.finish())),
        ("type", Arc::new(data_type.finish())),
        ("shown", Arc::new(shown.finish())),
    ])
}

/// The type as SQL calls it.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int32 | DataType::UInt32 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt64 => "bigint".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 => "text".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => "timestamp(9) utc".to_owned(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => "timestamp(3) utc".to_owned(),
        other => other.to_string(),
    }
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let rows = RecordBatch::try_from_iter(columns)?;
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}
