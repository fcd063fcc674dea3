//! Column segments: listed, made and merged.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use stratalog_proto::v1;

use super::App;
use super::error::HttpError;
use super::params::{NoParams, Params, TopicName};
use super::read::rfc3339;
use crate::segments::to_v1;

/// `GET /v1/topics/{topic}/segments`
pub(super) async fn list(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    let segments = to_v1(&app.broker.segments(&name).await?);
    Ok(Json(json!({"segments": segments.iter().map(segment_value).collect::<Vec<_>>()})))
}

/// `POST /v1/topics/{topic}/seal`
pub(super) async fn seal(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    app.broker.seal_topic(&name).await?;
    Ok(Json(json!({"sealed": name})))
}

/// `POST /v1/topics/{topic}/merge`
pub(super) async fn merge(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    let merged = app.broker.merge_topic(&name).await?;
    Ok(Json(json!({"merged": merged.replaced, "made": merged.made, "rows": merged.rows, "bytes": merged.bytes})))
}

pub(super) fn segment_value(segment: &v1::Segment) -> Value {
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
