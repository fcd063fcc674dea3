//! The statistics of an answer as JSON.

use serde_json::{Value, json};
use stratalog_proto::v1::QueryStats;

/// The `stats` member of JSON answers, and the value of the trailer of all others.
pub(crate) fn stats_json(stats: &QueryStats) -> Value {
    let fences: Vec<Value> = stats
        .fences
        .iter()
        .map(|fence| json!({"shard": fence.shard, "index": fence.index, "lag": fence.lag}))
        .collect();
    json!({
        "rows_returned": stats.rows_returned,
        "rows_scanned": stats.rows_scanned,
        "bytes_scanned": stats.bytes_scanned,
        "segments_total": stats.segments_total,
        "segments_pruned": stats.segments_pruned,
        "granules_total": stats.granules_total,
        "granules_pruned": stats.granules_pruned,
        "tail_rows": stats.tail_rows,
        "elapsed_us": stats.elapsed_us,
        "fences": fences,
        "catalogue_version": stats.catalogue_version,
        "query_id": stats.query_id,
        "spilled_bytes": stats.spilled_bytes,
        "dead_letter_topics": stats.dead_letter_topics,
    })
}
