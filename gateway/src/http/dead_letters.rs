//! Dead letters: why there are any, and another try.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use stratalog_query::SqlRequest;

use super::App;
use super::answer::{ANSWER_MEDIA, respond};
use super::error::HttpError;
use super::media::negotiate;
use super::params::{NoParams, Params, TopicName};
use crate::dead_letters::dead_letter_reasons;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 10_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    limit: Option<u32>,
}

/// `GET /v1/topics/{topic}/dead-letters`
pub(super) async fn list(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(params): Params<ListParams>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let media = negotiate(&headers, ANSWER_MEDIA)?;
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(HttpError::bad_request(format!("`limit` is 1 to {MAX_LIMIT}, not {limit}")));
    }
    app.broker.find_topic(&name).await?;
    let statement = SqlRequest { sql: dead_letter_reasons(&name, limit)?, ..SqlRequest::default() };
    respond(&app, app.broker.engine().sql(statement).await?, media).await
}

/// `POST /v1/topics/{topic}/dead-letters/retry`
pub(super) async fn retry(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, HttpError> {
    let retried = app.broker.retry_dead_letters(&name).await?;
    Ok(Json(json!({"tried": retried.tried, "mended": retried.mended, "dead": retried.dead()})))
}
