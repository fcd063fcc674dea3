//! SQL and search.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use stratalog_proto::config::{DURATION_FORM, check_topic_name, parse_duration_ns};
use stratalog_proto::{Code, Error, Token};
use stratalog_query::{Parameter, SearchRequest, SqlRequest};

use super::App;
use super::answer::{ANSWER_MEDIA, respond};
use super::body::Payload;
use super::error::HttpError;
use super::media::{Media, negotiate};
use super::parameters::parameters;
use super::params::{NoParams, Params, TimeNs, tokens};
use crate::gateway::client_name;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlBody {
    sql: String,
    timeout_ms: Option<u64>,
    #[serde(default, deserialize_with = "tokens")]
    tokens: Vec<Token>,
    #[serde(default, deserialize_with = "parameters")]
    parameters: Vec<Parameter>,
    id: Option<String>,
}

/// The query string of a statement that is sent as text.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlParams {
    timeout_ms: Option<u64>,
    id: Option<String>,
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
        _ => SqlBody { sql: utf8(&payload)?, timeout_ms: None, tokens: Vec::new(), parameters: Vec::new(), id: None },
    };
    drop(payload);
    let timeout = body.timeout_ms.or(params.timeout_ms).map(Duration::from_millis);
    let request = SqlRequest {
        sql: body.sql,
        parameters: body.parameters,
        tokens: body.tokens,
        timeout,
        id: body.id.or(params.id),
        client: client(&headers),
    };
    let answer = app.broker.engine().sql(request).await?;
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
    id: Option<String>,
}

/// `DELETE /v1/queries/{id}`
pub(super) async fn kill(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, HttpError> {
    let not_found = |error: Error| HttpError { status: StatusCode::NOT_FOUND, error };
    app.broker.engine().kill(&id).map_err(not_found)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who asks, as `system.queries` shows it.
fn client(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    client_name("http", agent)
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
        id: body.id,
        client: client(&headers),
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

#[cfg(test)]
mod tests {
    use stratalog_mutation::Decoder;

    use super::super::body::parse;
    use super::*;

    /// 0 for SQL or 1 for a search (u8), and a body.
    const QUESTIONS: Decoder = Decoder {
        name: "questions",
        samples: questions,
        run: read_question,
        words: &[
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "null",
            "-1",
            "1e999",
            "\\u0000",
            "\"sqll\":",
            "\"since\": \"5d\"",
            "é",
        ],
        memory_bytes: 1 << 20,
    };

    fn questions() -> Vec<Vec<u8>> {
        let sql = r#"{"sql": "SELECT $1, $2", "timeout_ms": 5, "id": "a", "tokens": [{"shard": 1, "index": 7}],
            "parameters": [null, true, -5, 1.5, "x", {"double": 5}, {"timestamp": "2026-01-31T12:00:00.5Z"}]}"#;
        let search = r#"{"topic": "logs", "query": "a b", "since": "1h", "to": "2026-01-31", "limit": 9}"#;
        let from = r#"{"topic": "logs", "query": "*", "from": 1700000000000000000, "tokens": []}"#;
        [(0, sql), (1, search), (1, from)].map(|(kind, body)| [&[kind], body.as_bytes()].concat()).into()
    }

    fn read_question(bytes: &[u8]) -> bool {
        let refused = |error: HttpError| assert!(!error.error.message.is_empty(), "an error says what is wrong");
        match bytes.split_first() {
            Some((0, body)) => parse::<SqlBody>(body).map_err(refused).is_ok(),
            Some((_, body)) => {
                let read = parse::<SearchBody>(body).map_err(refused);
                read.is_ok_and(|body| body.start_ns().is_ok() && check_topic_name(&body.topic).is_ok())
            }
            None => false,
        }
    }

    #[test]
    fn x1_questions_that_lie() {
        QUESTIONS.check();
    }
}
