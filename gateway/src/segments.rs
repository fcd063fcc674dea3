//! Column segments as both protocols show them.

use std::sync::Arc;

use stratalog_broker::{SegmentKind, SegmentMeta};
use stratalog_proto::{SegmentId, ShardId, v1};

/// The public form of segments.
pub(crate) fn to_v1(segments: &[(ShardId, Arc<SegmentMeta>)]) -> Vec<v1::Segment> {
    segments.iter().map(|(shard, meta)| segment(*shard, meta)).collect()
}

/// The text of the 16 bytes of an id; it is also the name of the segment's file.
pub(crate) fn id_text(id: &[u8]) -> String {
    SegmentId::from_slice(id).map(|id| id.to_string()).unwrap_or_default()
}

fn segment(shard: ShardId, meta: &SegmentMeta) -> v1::Segment {
    v1::Segment {
        id: meta.id.to_bytes(),
        shard: shard.0,
        kind: kind_name(meta.kind).to_owned(),
        min_time_ns: meta.min_time_ns,
        max_time_ns: meta.max_time_ns,
        bucket_start_ns: meta.bucket.start_ns,
        bucket_end_ns: meta.bucket.end_ns,
        rows: meta.rows,
        bytes: meta.bytes,
        dead_rows: meta.dead_rows,
        ranges: meta
            .ranges
            .iter()
            .map(|range| v1::OffsetRange { partition: range.partition.0, first: range.first.0, next: range.next.0 })
            .collect(),
    }
}

fn kind_name(kind: SegmentKind) -> &'static str {
    match kind {
        SegmentKind::Column => "col",
        SegmentKind::Mixed => "mixed",
    }
}
