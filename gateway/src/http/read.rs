//! `GET /v1/topics/{topic}/records` and `/offsets`: reading the log by offset.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use stratalog_broker::{FetchRequest, FetchedPartition, OffsetAt, ReadFrom};
use stratalog_proto::config::Format;
use stratalog_proto::{Code, Error, Offset, PartitionId};
use stratalog_query::TopicInfo;

use super::App;
use super::error::HttpError;
use super::media::{Media, negotiate};
use super::params::{Params, TimeNs, TopicName};
use super::produce::no_partition;
use crate::records::{Page, PageLimits, page};

/// Bytes of record batches that one request reads.
const FETCH_BYTES: usize = 4 << 20;
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 10_000;
const MAX_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    partition: Option<u32>,
    offset: Option<String>,
    limit: Option<usize>,
    wait_ms: Option<u64>,
    from_follower: Option<bool>,
}

pub(super) async fn read(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(params): Params<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let media = negotiate(&headers, &[Media::Json, Media::Ndjson])?;
    let topic = app.broker.find_topic(&name).await?;
    let partition = params.partition(&topic)?;
    let limit = params.limit()?;
    let offset = start(&app, &name, partition, params.offset.as_deref()).await?;
    let request = FetchRequest {
        topic: name.clone(),
        partitions: vec![(partition, offset)],
        max_bytes: FETCH_BYTES,
        max_wait: params.wait()?,
        from: if params.from_follower == Some(true) { ReadFrom::Replica } else { ReadFrom::Leader },
    };
    let fetched = fetch(&app, request).await?;
    let (log_start, high_watermark) = (fetched.log_start, fetched.high_watermark);
    let batches = fetched.result?;
    let limits = PageLimits { first: offset, records: limit, json_values: topic.config.format == Format::Json };
    let read = tokio::task::spawn_blocking(move || page(partition, &batches, &limits)).await;
    let page = read.map_err(|_| Error::new(Code::Internal, "reading the record batches failed"))??;
    Ok(match media {
        Media::Ndjson => ndjson(page, high_watermark),
        _ => document(&name, partition, page, log_start, high_watermark),
    })
}

impl ReadParams {
    fn partition(&self, topic: &TopicInfo) -> Result<PartitionId, HttpError> {
        match self.partition {
            Some(partition) if partition >= topic.partitions => Err(no_partition(topic, partition).into()),
            Some(partition) => Ok(PartitionId(partition)),
            None if topic.partitions == 1 => Ok(PartitionId(0)),
            None => {
                let (name, last) = (&topic.name, topic.partitions - 1);
                Err(HttpError::bad_request(format!("say which partition of `{name}` to read: ?partition=0 to {last}")))
            }
        }
    }

    fn limit(&self) -> Result<usize, HttpError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        let legal = (1..=MAX_LIMIT).contains(&limit);
        legal
            .then_some(limit)
            .ok_or_else(|| HttpError::bad_request(format!("`limit` is 1 to {MAX_LIMIT}, not {limit}")))
    }

    fn wait(&self) -> Result<Duration, HttpError> {
        let wait = Duration::from_millis(self.wait_ms.unwrap_or(0));
        let legal = wait <= MAX_WAIT;
        legal
            .then_some(wait)
            .ok_or_else(|| HttpError::bad_request(format!("`wait_ms` is at most {}", MAX_WAIT.as_millis())))
    }
}

/// The offset to read from: a number, `earliest` (which is the default) or `latest`.
async fn start(app: &App, topic: &str, partition: PartitionId, offset: Option<&str>) -> Result<Offset, HttpError> {
    let at = match offset.unwrap_or("earliest") {
        "earliest" => OffsetAt::Earliest,
        "latest" => OffsetAt::Latest,
        number => {
            let parsed = number.parse::<u64>().ok().filter(|offset| *offset <= i64::MAX as u64).map(Offset);
            return parsed.ok_or_else(|| {
                let shown: String = number.chars().take(40).flat_map(char::escape_default).collect();
                HttpError::bad_request(format!("`offset` is a number, `earliest` or `latest`, not `{shown}`"))
            });
        }
    };
    let offsets = app.broker.list_offsets(topic, at).await?;
    let found = offsets.into_iter().find(|(found, _)| *found == partition);
    found
        .map(|(_, offset)| offset)
        .ok_or_else(|| Error::new(Code::UnknownPartition, format!("`{topic}` has no partition {partition}")).into())
}

async fn fetch(app: &App, request: FetchRequest) -> Result<FetchedPartition, HttpError> {
    let stopping = app.stopping.cancelled();
    let fetched = tokio::select! {
        fetched = app.broker.fetch(request) => fetched?,
        () = stopping => return Err(Error::new(Code::Unavailable, "the node is stopping").into()),
    };
    let only = fetched.into_iter().next();
    only.ok_or_else(|| Error::new(Code::Internal, "a fetch of one partition had no answer").into())
}

fn document(topic: &str, partition: PartitionId, page: Page, log_start: Offset, high_watermark: Offset) -> Response {
    let head = json!({
        "topic": topic,
        "partition": partition.0,
        "log_start": log_start.0,
        "high_watermark": high_watermark.0,
        "next_offset": page.next.0,
    });
    let head = head.to_string();
    let mut body = head.strip_suffix('}').expect("an object ends with a brace").as_bytes().to_vec();
    body.extend_from_slice(b",\"records\":[\n");
    body.extend_from_slice(&page.lines.join(&b",\n"[..]));
    body.extend_from_slice(b"\n]}\n");
    ([(header::CONTENT_TYPE, Media::Json.header())], body).into_response()
}

fn ndjson(page: Page, high_watermark: Offset) -> Response {
    let headers = [
        (header::CONTENT_TYPE, Media::Ndjson.header()),
        (HeaderName::from_static("stratalog-next-offset"), page.next.0.into()),
        (HeaderName::from_static("stratalog-high-watermark"), high_watermark.0.into()),
    ];
    let mut body = page.lines.join(&b"\n"[..]);
    if !body.is_empty() {
        body.push(b'\n');
    }
    (headers, body).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OffsetParams {
    at: Option<String>,
}

/// `GET /v1/topics/{topic}/offsets`: the offset of each partition at `earliest`, `latest` or a time.
pub(super) async fn offsets(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(params): Params<OffsetParams>,
) -> Result<Json<Value>, HttpError> {
    let at = match params.at.as_deref().unwrap_or("latest") {
        "earliest" => OffsetAt::Earliest,
        "latest" => OffsetAt::Latest,
        time => OffsetAt::Time(TimeNs::read(time).map_err(HttpError::bad_request)?.0),
    };
    let offsets = app.broker.list_offsets(&name, at).await?;
    let offsets: Vec<Value> =
        offsets.iter().map(|(partition, offset)| json!({"partition": partition.0, "offset": offset.0})).collect();
    Ok(Json(json!({"topic": name, "offsets": offsets})))
}

/// Nanoseconds since the epoch as RFC 3339 with `Z`.
pub(super) fn rfc3339(ns: i64) -> String {
    DateTime::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Milliseconds since the epoch as RFC 3339 with `Z`; times that a calendar cannot show are cut at its ends.
pub(crate) fn rfc3339_ms(ms: i64) -> String {
    let shown = DateTime::from_timestamp_millis(ms).unwrap_or(if ms < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    });
    shown.to_rfc3339_opts(SecondsFormat::Millis, true)
}
