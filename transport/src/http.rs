//! What calls and streams are on HTTP/2, for both ends, and the settings of a connection.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method as Verb, Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::{Method, TransportOptions};

const SERVICE: &str = "/stratalog.internal.v1.Peer/";
const CALL: HeaderValue = HeaderValue::from_static("application/vnd.stratalog.call");
const STREAM: HeaderValue = HeaderValue::from_static("application/vnd.stratalog.stream");
/// The most bytes of an HTTP/2 DATA frame: small enough that many streams take turns, large enough to cost little.
const MAX_DATA_BYTES: u32 = 128 << 10;
/// Of one stream, what may wait to be written.
const SEND_BUFFER_BYTES: usize = 1 << 20;
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// One message and one answer, or messages in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Call,
    Stream,
}

/// The request of a method.
pub(crate) fn request<B>(method: Method, shape: Shape, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = Verb::POST;
    *request.uri_mut() = uri(method);
    request.headers_mut().insert(CONTENT_TYPE, if shape == Shape::Call { CALL } else { STREAM });
    request
}

fn uri(method: Method) -> Uri {
    let text = format!("http://peer{SERVICE}{}", method.name());
    text.parse().expect("names of methods are letters")
}

/// What a request asks for; `None` if it is none of ours.
pub(crate) fn asked<B>(request: &Request<B>) -> Option<(Method, Shape)> {
    let method = Method::from_name(request.uri().path().strip_prefix(SERVICE)?)?;
    let kind = request.headers().get(CONTENT_TYPE)?;
    let shape = [(CALL, Shape::Call), (STREAM, Shape::Stream)].into_iter().find(|(name, _)| name == kind)?.1;
    (request.method() == Verb::POST).then_some((method, shape))
}

/// Of the side that connects.
pub(crate) fn client(options: &TransportOptions) -> hyper::client::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_frame_size(MAX_DATA_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(options.ping_interval)
        .keep_alive_timeout(options.ping_timeout)
        .keep_alive_while_idle(true);
    builder
}

/// Of the side that was connected to.
pub(crate) fn server(options: &TransportOptions) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_frame_size(MAX_DATA_BYTES)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(options.max_streams)
        // A process that was stopped finds at once all that was asked and taken back meanwhile.
        .max_pending_accept_reset_streams(options.max_streams as usize)
        .keep_alive_interval(options.ping_interval)
        .keep_alive_timeout(options.ping_timeout);
    builder
}

/// How long a connection that is to close may still answer what it was asked.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(1);
