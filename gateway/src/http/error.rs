//! Errors as HTTP answers: `{"error":{"code","message","retriable"}}` with the status that fits.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use stratalog_proto::{Code, Error};

/// Sent with retriable refusals: seconds to wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// nginx's "client closed request", for which HTTP has no status of its own.
const CLIENT_CLOSED: u16 = 499;

/// An error and the status it is answered with.
#[derive(Clone, Debug)]
pub(crate) struct HttpError {
    pub(crate) status: StatusCode,
    pub(crate) error: Error,
}

impl HttpError {
    /// An error of HTTP itself (method, media type, size), for which the table of codes has only `INVALID_REQUEST`.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, error: Error::new(Code::InvalidRequest, message) }
    }

    /// 400 with this sentence.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self { status: status_of(error.code), error }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(code = %self.error.code, message = %self.error.message, "an HTTP request failed inside");
        }
        let body = Json(json!({"error": error_value(&self.error)}));
        let mut response = (self.status, body).into_response();
        if self.error.code.is_retriable() {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// The `error` member of an answer.
pub(crate) fn error_value(error: &Error) -> Value {
    json!({"code": error.code.name(), "message": error.message, "retriable": error.code.is_retriable()})
}

/// The status of a code.
pub(crate) fn status_of(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest
        | Code::InvalidTopicName
        | Code::CorruptBatch
        | Code::InvalidSql
        | Code::InvalidSearch
        | Code::InvalidConfig => StatusCode::BAD_REQUEST,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownNode | Code::UnknownMember | Code::UnknownGroup => {
            StatusCode::NOT_FOUND
        }
        Code::TopicExists
        | Code::OutOfOrderSequence
        | Code::ProducerFenced
        | Code::Conflict
        | Code::WrongCluster
        | Code::QuorumAtRisk
        | Code::IllegalGeneration
        | Code::RebalanceInProgress
        | Code::FencedInstance
        | Code::GroupNotEmpty => StatusCode::CONFLICT,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::OffsetOutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::QueryBudget => StatusCode::UNPROCESSABLE_ENTITY,
        Code::ProducerLimit | Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
        Code::Cancelled => StatusCode::from_u16(CLIENT_CLOSED).expect("499 is a status"),
        Code::NotBuilt => StatusCode::NOT_IMPLEMENTED,
        Code::NotLeader | Code::Unavailable | Code::NotFormed => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout | Code::QueryDeadline => StatusCode::GATEWAY_TIMEOUT,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::Internal | Code::CorruptData | Code::Io | Code::NewerVersion => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_error_status() {
        for &code in Code::ALL {
            assert!(status_of(code).as_u16() >= 400, "{code}");
        }
    }

    #[test]
    fn retriable_refusals_say_when() {
        let response = HttpError::from(Error::new(Code::Overloaded, "full")).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
