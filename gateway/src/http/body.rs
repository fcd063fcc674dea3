//! Bodies of requests: bounded in bytes after decompression, in time, and over all requests together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use stratalog_proto::{Code, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::error::HttpError;
use super::media::{Media, content_type};
use super::suggest::with_suggestion;

/// The longest JSON that asks for something; records are not read by this. A statement has 256 KiB, and its parameters text.
const MAX_JSON_BYTES: usize = 4 << 20;
/// Of each end of an error's text.
const MAX_SHOWN_BYTES: usize = 500;

/// Reads bodies within bounds. The middleware before it has undone `Content-Encoding: gzip`.
pub(crate) struct Bodies {
    max_bytes: usize,
    budget: Arc<Semaphore>,
    timeout: Duration,
}

/// A whole body. It holds its part of the budget until it is dropped.
pub(crate) struct Payload {
    headers: HeaderMap,
    bytes: Bytes,
    _held: Held,
}

/// A part of the budget that grows as bytes come in.
struct Held(Option<OwnedSemaphorePermit>);

impl Bodies {
    pub(crate) fn new(max_bytes: usize, budget_bytes: usize, timeout: Duration) -> Self {
        Self { max_bytes, budget: Arc::new(Semaphore::new(budget_bytes)), timeout }
    }

    async fn read(&self, request: Request) -> Result<Payload, HttpError> {
        let (parts, body) = request.into_parts();
        refuse_encoding(&parts.headers)?;
        let read = tokio::time::timeout(self.timeout, self.collect(body)).await;
        let (bytes, held) = read.map_err(|_| {
            let message = format!("the body was not there after {:?}; send it faster or in parts", self.timeout);
            HttpError::new(StatusCode::REQUEST_TIMEOUT, message)
        })??;
        Ok(Payload { headers: parts.headers, bytes, _held: held })
    }

    async fn collect(&self, body: Body) -> Result<(Bytes, Held), HttpError> {
        let mut chunks = body.into_data_stream();
        let mut held = Held(None);
        let mut whole = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                HttpError::bad_request(format!(
                    "the body could not be read; is it cut off, or not the gzip it claims? {error}"
                ))
            })?;
            if chunk.len() > self.max_bytes - whole.len() {
                let message =
                    format!("the body has more than {} bytes after decompression; send it in parts", self.max_bytes);
                return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            held.grow(&self.budget, chunk.len())?;
            whole.extend_from_slice(&chunk);
        }
        Ok((whole.freeze(), held))
    }
}

impl Held {
    fn grow(&mut self, budget: &Arc<Semaphore>, bytes: usize) -> Result<(), HttpError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = budget.clone().try_acquire_many_owned(bytes).map_err(|_| {
            HttpError::from(Error::new(Code::Overloaded, "too many request bodies are in memory; try again shortly"))
        })?;
        match &mut self.0 {
            Some(permit) => permit.merge(more),
            None => self.0 = Some(more),
        }
        Ok(())
    }
}

/// Whatever encoding the middleware left is one that we do not read.
fn refuse_encoding(headers: &HeaderMap) -> Result<(), HttpError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding.as_bytes() != b"identity" => {
            let message = format!("Content-Encoding {encoding:?} is not read here; send gzip, or none");
            Err(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message))
        }
        _ => Ok(()),
    }
}

impl Payload {
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn content_type(&self, allowed: &[Media]) -> Result<Media, HttpError> {
        content_type(&self.headers, allowed)
    }

    /// Reads the body as JSON of the shape `T`, whatever `Content-Type` says about it.
    ///
    /// # Errors
    /// 400 with line and column, and a suggestion for an unknown field; 413 for a body that no such request has.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        parse(&self.bytes)
    }

    /// Reads a body that has to be `application/json`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        self.content_type(&[Media::Json])?;
        self.parse()
    }
}

/// As [`Payload::parse`].
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, HttpError> {
    if body.len() > MAX_JSON_BYTES {
        let message = format!("the JSON body has {} bytes, and such a request at most {MAX_JSON_BYTES}", body.len());
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    serde_json::from_slice(body).map_err(|error| {
        let message = with_suggestion(&clipped(error.to_string()));
        HttpError::bad_request(format!("the JSON body is not what this request takes: {message}"))
    })
}

/// Without the middle of a text that quotes a long body: its end says line and column.
fn clipped(text: String) -> String {
    if text.len() <= 2 * MAX_SHOWN_BYTES {
        return text;
    }
    let (head, tail) =
        (text.floor_char_boundary(MAX_SHOWN_BYTES), text.ceil_char_boundary(text.len() - MAX_SHOWN_BYTES));
    format!("{}…{}", &text[..head], &text[tail..])
}

impl FromRequest<App> for Payload {
    type Rejection = HttpError;

    async fn from_request(request: Request, app: &App) -> Result<Self, HttpError> {
        app.bodies.read(request).await
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn read(bodies: &Bodies, chunks: &[&'static [u8]]) -> Result<Payload, u16> {
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk))).collect();
        let request = Request::new(Body::from_stream(stream::iter(chunks)));
        bodies.read(request).await.map_err(|error| error.status.as_u16())
    }

    #[test]
    fn an_error_quotes_little_of_a_long_body() {
        let body = format!("{{\"{}\": 1}}", "é".repeat(1 << 20));
        let error = parse::<super::super::params::NoParams>(body.as_bytes()).unwrap_err().error;
        assert!(error.message.len() < 3 * MAX_SHOWN_BYTES && error.message.contains("line 1"), "{}", error.message);
    }

    #[tokio::test]
    async fn body_over_the_limit_is_413() {
        let bodies = Bodies::new(4, 100, Duration::from_secs(5));
        assert_eq!(read(&bodies, &[b"ab", b"cd"]).await.unwrap().bytes(), &b"abcd"[..]);
        assert_eq!(read(&bodies, &[b"ab", b"cde"]).await.err(), Some(413));
    }

    #[tokio::test]
    async fn bodies_give_their_budget_back() {
        let bodies = Bodies::new(10, 10, Duration::from_secs(5));
        let first = read(&bodies, &[b"abc", b"def"]).await.unwrap();
        assert_eq!(read(&bodies, &[b"12345"]).await.err(), Some(429));
        drop(first);
        assert_eq!(read(&bodies, &[b"12345", b"67890"]).await.unwrap().bytes().len(), 10);
    }

    #[tokio::test]
    async fn body_that_never_ends_is_408() {
        let bodies = Bodies::new(10, 10, Duration::from_millis(10));
        let request = Request::new(Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()));
        assert_eq!(bodies.read(request).await.err().unwrap().status.as_u16(), 408);
    }
}
