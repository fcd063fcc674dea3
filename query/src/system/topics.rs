//! What there is of each topic: `system.topics`, `system.partitions`, `system.segments`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::Result;
use stratalog_proto::ShardId;
use stratalog_proto::config::format_duration_ns;
use stratalog_storage::{SegmentKind, SegmentMeta};

use super::{numbers, optional_numbers, optional_texts, rows_of, small_numbers, texts, times};
use crate::catalog::{Catalog, PartitionInfo, TopicInfo};

/// One row a topic.
pub(super) fn topics(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let topics = catalog.topics();
    let configs = || topics.iter().map(|topic| &topic.config);
    rows_of(vec![
        ("name", texts(topics.iter().map(|topic| &topic.name))),
        ("partitions", small_numbers(topics.iter().map(|topic| topic.partitions))),
        ("format", texts(configs().map(|config| config.format.name()))),
        ("time_field", optional_texts(configs().map(|config| config.time_field.as_deref()))),
        ("bucket", texts(configs().map(|config| format_duration_ns(config.bucket_ns)))),
        ("retention", optional_texts(configs().map(|config| config.retention_ns.map(format_duration_ns)))),
        ("retention_bytes", optional_numbers(configs().map(|config| config.retention_bytes))),
        ("max_message_bytes", small_numbers(configs().map(|config| config.max_message_bytes))),
        ("id", texts(topics.iter().map(|topic| topic.id.to_string()))),
    ])
}

/// One row a partition.
pub(super) fn partitions(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let of_topic = |topic: Arc<TopicInfo>| {
        let partitions = catalog.partitions(&topic);
        partitions.into_iter().map(move |partition| (topic.clone(), partition))
    };
    let rows: Vec<(Arc<TopicInfo>, PartitionInfo)> = catalog.topics().into_iter().flat_map(of_topic).collect();
    let partitions = || rows.iter().map(|(_, partition)| partition);
    rows_of(vec![
        ("topic", texts(rows.iter().map(|(topic, _)| &topic.name))),
        ("partition", small_numbers(partitions().map(|info| info.partition.0))),
        ("shard", small_numbers(partitions().map(|info| info.shard.0))),
        ("log_start", numbers(partitions().map(|info| info.log_start.0))),
        ("high_watermark", numbers(partitions().map(|info| info.high_watermark.0))),
        ("bytes", numbers(partitions().map(|info| info.bytes))),
    ])
}

/// One row a live column segment.
pub(super) fn segments(catalog: &dyn Catalog) -> Result<RecordBatch> {
    let of_topic = |topic: Arc<TopicInfo>| {
        let segments = catalog.segments(&topic);
        segments.into_iter().map(move |(shard, meta)| (topic.clone(), shard, meta))
    };
    let rows: Vec<(Arc<TopicInfo>, ShardId, Arc<SegmentMeta>)> =
        catalog.topics().into_iter().flat_map(of_topic).collect();
    let metas = || rows.iter().map(|(_, _, meta)| meta);
    rows_of(vec![
        ("topic", texts(rows.iter().map(|(topic, _, _)| &topic.name))),
        ("shard", small_numbers(rows.iter().map(|(_, shard, _)| shard.0))),
        ("kind", texts(metas().map(|meta| kind(meta.kind)))),
        ("bucket_start", times(metas().map(|meta| Some(meta.bucket.start_ns)))),
        ("bucket_end", times(metas().map(|meta| Some(meta.bucket.end_ns)))),
        ("min_time", times(metas().map(|meta| Some(meta.min_time_ns)))),
        ("max_time", times(metas().map(|meta| Some(meta.max_time_ns)))),
        ("rows", numbers(metas().map(|meta| meta.rows))),
        ("dead_rows", numbers(metas().map(|meta| meta.dead_rows))),
        ("bytes", numbers(metas().map(|meta| meta.bytes))),
        ("analyzer_version", small_numbers(metas().map(|meta| meta.analyzer_version))),
        ("id", texts(metas().map(|meta| meta.id.to_string()))),
    ])
}

fn kind(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Column => "col",
        SegmentKind::Mixed => "mixed",
    }
}
