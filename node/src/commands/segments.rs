//! `stratalog segments`, and how a segment is shown wherever one is.

use std::io::Write;

use serde_json::{Value, json};
use stratalog_proto::v1;
use uuid::Uuid;

use crate::cli::{Global, OutputFormat};
use crate::failure::Failure;
use crate::output::{Listing, human_bytes, human_count};
use crate::times::format_time_ns;

pub(super) async fn run(global: &Global, topic: &str) -> Result<(), Failure> {
    let segments = global.client().await?.segments(topic).await?;
    listing(&segments).print(global.format())?;
    if global.format() == OutputFormat::Table {
        writeln!(std::io::stdout(), "{}", summary(&segments))?;
    }
    Ok(())
}

/// One row a segment.
pub(super) fn listing(segments: &[v1::Segment]) -> Listing {
    let mut listing = Listing::new(&[
        "id",
        "shard",
        "kind",
        "bucket_start",
        "bucket_end",
        "min_time",
        "max_time",
        "rows",
        "dead_rows",
        "bytes",
        "offsets",
    ]);
    for segment in segments {
        listing.push(vec![
            Uuid::from_slice(&segment.id).unwrap_or_default().to_string().into(),
            segment.shard.into(),
            segment.kind.clone().into(),
            format_time_ns(segment.bucket_start_ns).into(),
            format_time_ns(segment.bucket_end_ns).into(),
            format_time_ns(segment.min_time_ns).into(),
            format_time_ns(segment.max_time_ns).into(),
            segment.rows.into(),
            segment.dead_rows.into(),
            segment.bytes.into(),
            offsets(segment),
        ]);
    }
    listing
}

/// One line that adds segments up.
pub(super) fn summary(segments: &[v1::Segment]) -> String {
    let rows: u64 = segments.iter().map(|s| s.rows).sum();
    let bytes: u64 = segments.iter().map(|s| s.bytes).sum();
    format!("{} segments, {} rows, {}", segments.len(), human_count(rows), human_bytes(bytes))
}

fn offsets(segment: &v1::Segment) -> Value {
    segment.ranges.iter().map(|r| json!({"partition": r.partition, "first": r.first, "next": r.next})).collect()
}
