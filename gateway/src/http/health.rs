//! What this is, whether it lives, whether it serves, and its metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::App;
use super::error::HttpError;

/// OpenMetrics 1.0 text.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// `GET /`
pub(super) async fn about() -> Json<Value> {
    Json(json!({
        "name": "stratalog",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "A replayable log whose records are at once rows for SQL and text for search.",
        "endpoints": [
            "GET /healthz",
            "GET /readyz",
            "GET /metrics",
            "GET /v1/cluster",
            "GET /v1/topics",
            "POST /v1/topics",
            "GET /v1/topics/{topic}",
            "PATCH /v1/topics/{topic}",
            "DELETE /v1/topics/{topic}",
            "POST /v1/topics/{topic}/records",
            "GET /v1/topics/{topic}/records",
            "GET /v1/topics/{topic}/offsets",
            "GET /v1/topics/{topic}/segments",
            "POST /v1/topics/{topic}/records/delete",
            "POST /v1/topics/{topic}/retention/drop",
            "POST /v1/topics/{topic}/retention/apply",
            "POST /v1/topics/{topic}/seal",
            "POST /v1/topics/{topic}/merge",
            "GET /v1/topics/{topic}/dead-letters",
            "POST /v1/topics/{topic}/dead-letters/retry",
            "POST /v1/sql",
            "POST /v1/search",
        ],
    }))
}

/// `GET /healthz`: the process lives and answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /readyz`: the broker serves; else 503 with the reason.
pub(super) async fn readyz(State(app): State<App>) -> Result<Json<Value>, HttpError> {
    app.broker.ready()?;
    Ok(Json(json!({"status": "ready"})))
}

/// `GET /metrics`
pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], app.metrics.encode_with(&app.broker.metrics()))
}
