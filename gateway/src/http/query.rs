//! SQL and search.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use stratalog_proto::config::{DURATION_FORM, check_topic_name, parse_duration_ns};
use stratalog_proto::{Code, Error, Token};
use stratalog_query::{SearchRequest, SqlRequest};

use super::App;
use super::answer::{ANSWER_MEDIA, respond};
use super::body::Payload;
use super::error::HttpError;
use super::media::{Media, negotiate};
use super::params::{NoParams, Params, TimeNs, tokens};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlBody {
    sql: String,
    timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "tokens")]
    tokens: Vec<Token>,
}

/// The query string of a statement that is sent as text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlParams {
    timeout_ms: Option<u64>,
}

/// `POST /v1/sql`
pub(super) async fn sql(
    State(app): State<App>,
    Params(params): Params<SqlParams>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, HttpError> {
    let media = negotiate(&headers, ANSWER_MEDIA)?;
    let body = match payload.content_type(&[Media::Json, Media::Text])? {
        Media::Json => payload.parse()?,
        _ => SqlBody { sql: utf8(&payload)?, timeout_ms: None, tokens: Vec::new() },
    };
    drop(payload);
    let timeout = body.timeout_ms.or(params.timeout_ms).map(Duration::from_millis);
    let answer = app.broker.engine().sql(SqlRequest { sql: body.sql, tokens: body.tokens, timeout }).await?;
    respond(&app, answer, media).await
}

fn utf8(payload: &Payload) -> Result<String, HttpError> {
    let text = std::str::from_utf8(payload.bytes());
    text.map(str::to_owned).map_err(|error| HttpError::bad_request(format!("the statement is not UTF-8: {error}")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchBody {
    topic: String,
    query: String,
    from: Option<TimeNs>,
    to: Option<TimeNs>,
    since: Option<String>,
    limit: Option<usize>,
    timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "tokens")]
    tokens: Vec<Token>,
}

/// `POST /v1/search`
pub(super) async fn search(
    State(app): State<App>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    payload: Payload,
) -> Result<Response, HttpError> {
    let media = negotiate(&headers, ANSWER_MEDIA)?;
    let body: SearchBody = payload.json()?;
    drop(payload);
    check_topic_name(&body.topic)?;
    let request = SearchRequest {
        from_ns: body.start_ns()?,
        to_ns: body.to.map(|time| time.0),
        topic: body.topic,
        query: body.query,
        limit: body.limit,
        tokens: body.tokens,
        timeout: body.timeout_ms.map(Duration::from_millis),
    };
    let answer = app.broker.engine().search(request).await?;
    respond(&app, answer, media).await
}

impl SearchBody {
    fn start_ns(&self) -> Result<Option<i64>, Error> {
        let Some(since) = &self.since else { return Ok(self.from.map(|time| time.0)) };
        if self.from.is_some() {
            return Err(Error::new(
                Code::InvalidRequest,
                "`since` and `from` both say where to start; send one of them",
            ));
        }
        let ago = parse_duration_ns(since).and_then(|ns| i64::try_from(ns).ok()).ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("`since` cannot be `{}`: {DURATION_FORM}", since.escape_default()))
        })?;
        Ok(Some(now_ns().saturating_sub(ago)))
    }
}

/// The node's clock, in nanoseconds since the epoch.
fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
