//! Column segments and the retention drop.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use stratalog_proto::v1;

use super::App;
use super::body::Payload;
use super::error::HttpError;
use super::params::{NoParams, Params, TimeNs, TopicName};
use super::read::rfc3339;
use crate::segments::to_v1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DropBody {
    before: TimeNs,
    #[serde(default)]
    dry_run: bool,
}

/// `GET /v1/topics/{topic}/segments`
pub(super) async fn list(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    let segments = to_v1(&app.broker.segments(&name)?);
    Ok(Json(json!({"segments": segments.iter().map(segment_value).collect::<Vec<_>>()})))
}

/// `POST /v1/topics/{topic}/retention/drop`
pub(super) async fn drop_before(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
    payload: Payload,
) -> Result<Json<Value>, HttpError> {
    let body: DropBody = payload.json()?;
    let dropped = app.broker.drop_before(&name, body.before.0, body.dry_run).await?;
    let segments: Vec<Value> = to_v1(&dropped.segments).iter().map(segment_value).collect();
    Ok(Json(json!({
        "dry_run": body.dry_run,
        "dropped": segments,
        "rows": dropped.rows,
        "bytes": dropped.bytes,
        "elapsed_us": dropped.elapsed.as_micros() as u64,
    })))
}

fn segment_value(segment: &v1::Segment) -> Value {
    let ranges: Vec<Value> = segment
        .ranges
        .iter()
        .map(|range| json!({"partition": range.partition, "first": range.first, "next": range.next}))
        .collect();
    json!({
        "id": crate::segments::id_text(&segment.id),
        "shard": segment.shard,
        "kind": segment.kind,
        "min_time": rfc3339(segment.min_time_ns),
        "max_time": rfc3339(segment.max_time_ns),
        "bucket_start": rfc3339(segment.bucket_start_ns),
        "bucket_end": rfc3339(segment.bucket_end_ns),
        "rows": segment.rows,
        "dead_rows": segment.dead_rows,
        "bytes": segment.bytes,
        "offsets": ranges,
    })
}
