//! A streamed answer as an HTTP body: its pieces, then a trailer with the statistics.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use stratalog_proto::Error;
use stratalog_proto::v1::QueryStats;
use stratalog_query::Answer;

use super::App;
use super::error::HttpError;
use super::media::Media;
use crate::rows::{ArrowStream, Csv, JsonBody, NdjsonBody, Piece, Pieces, RowEncoder, pump, stats_json};

/// What a query can be answered as, the default first.
pub(super) const ANSWER_MEDIA: &[Media] = &[Media::Json, Media::Ndjson, Media::Csv, Media::ArrowStream];
/// The trailer that holds the statistics as JSON, for clients that send `TE: trailers`.
const STATS_TRAILER: &str = "stratalog-stats";

/// Answers with the rows as `media`. What fails before the first rows is an error with a status; what fails later cuts the
/// body off, so that a part never looks like the whole.
pub(super) async fn respond(app: &App, answer: Answer, media: Media) -> Result<Response, HttpError> {
    let pieces = pump(answer, encoder(media), app.options.stall_timeout, app.metrics.queries_cancelled.clone()).await?;
    let headers = [
        (header::CONTENT_TYPE, media.header()),
        (header::TRAILER, HeaderValue::from_static(STATS_TRAILER)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::new(StreamBody::new(frames(pieces)))).into_response())
}

fn encoder(media: Media) -> Box<dyn RowEncoder> {
    match media {
        Media::Ndjson => Box::new(NdjsonBody::default()),
        Media::Csv => Box::new(Csv),
        Media::ArrowStream => Box::new(ArrowStream::default()),
        Media::Json | Media::Text | Media::Octets => Box::new(JsonBody::default()),
    }
}

fn frames(pieces: Pieces) -> impl Stream<Item = Result<Frame<Bytes>, Error>> + Send {
    stream::unfold(pieces, |mut pieces| async move {
        let frame = match pieces.next().await? {
            Ok(Piece::Bytes(bytes)) => Ok(Frame::data(bytes)),
            Ok(Piece::Stats(stats)) => Ok(Frame::trailers(stats_trailer(&stats))),
            Err(error) => Err(error),
        };
        Some((frame, pieces))
    })
}

fn stats_trailer(stats: &QueryStats) -> HeaderMap {
    let value = HeaderValue::from_str(&stats_json(stats).to_string()).expect("numbers and names are legal in a header");
    HeaderMap::from_iter([(HeaderName::from_static(STATS_TRAILER), value)])
}
