//! What happens around every request: a deadline, a check of where it comes from, a count.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use stratalog_proto::{Code, Error};

use super::App;
use super::error::HttpError;
use crate::metrics::HttpLabels;

/// Ends a request that is not answered in time. Whether a produce was taken is unknown then, and its code says so.
pub(super) async fn deadline(State(app): State<App>, request: Request, next: Next) -> Result<Response, HttpError> {
    let limit = app.options.request_timeout;
    tokio::time::timeout(limit, next.run(request)).await.map_err(|_| {
        let message = format!("the request was not answered within {limit:?}; whether it took effect is unknown");
        Error::new(Code::Timeout, message).into()
    })
}

/// Refuses what a page of another origin makes a browser send: without authentication, being able to reach this port is
/// all that a request has to show for itself.
pub(super) async fn same_origin(request: Request, next: Next) -> Result<Response, HttpError> {
    if is_cross_origin(request.headers()) {
        let message = "requests that a web page of another origin makes are refused";
        return Err(HttpError::new(StatusCode::FORBIDDEN, message));
    }
    Ok(next.run(request).await)
}

fn is_cross_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let origin = origin.as_bytes();
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_none() || authority != host
}

/// Counts the request and the time to the head of its answer.
pub(super) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("none", |path| path.as_str()).to_owned();
    let response = next.run(request).await;
    let labels = HttpLabels { method, route, status: response.status().as_u16() };
    app.metrics.http(labels, started.elapsed());
    response
}

/// Methods are text that a client chooses: those that we do not serve share a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_our_own_origin_may_ask() {
        let ask = |origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_cross_origin(&headers)
        };
        assert!(!ask(None) && !ask(Some("http://127.0.0.1:8080")));
        assert!(ask(Some("http://evil.example")) && ask(Some("null")) && ask(Some("http://127.0.0.1:9090")));
    }
}
