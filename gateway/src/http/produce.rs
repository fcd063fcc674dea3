//! `POST /v1/topics/{topic}/records`: records in, offsets out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use stratalog_broker::{Broker, Multiline};
use stratalog_proto::{Code, Error};
use stratalog_query::TopicInfo;

use super::App;
use super::body::Payload;
use super::error::{HttpError, error_value, status_of};
use super::media::Media;
use super::params::{Params, TopicName};
use crate::ingest::{IngestOptions, Outcome, Plan, PlannedBatch, Shape, Summary, plan};

/// Batches of one request that are in flight together.
const IN_FLIGHT: usize = 16;
/// Longest `key` and `key_field`.
const MAX_KEY_BYTES: usize = 1_024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProduceParams {
    key_field: Option<String>,
    key: Option<String>,
    partition: Option<u32>,
    timestamp_ms: Option<i64>,
}

pub(super) async fn produce(
    State(app): State<App>,
    TopicName(name): TopicName,
    Params(params): Params<ProduceParams>,
    payload: Payload,
) -> Result<Response, HttpError> {
    let shape = match payload.content_type(&[Media::Json, Media::Ndjson, Media::Text, Media::Octets])? {
        Media::Json => Shape::Json,
        Media::Octets => Shape::Whole,
        _ => Shape::Lines,
    };
    let topic = app.broker.find_topic(&name).await?;
    let options = params.ingest_options(shape, &topic)?;
    // The payload goes along, so that its part of the budget is held until the batches are built.
    let planned = tokio::task::spawn_blocking(move || plan(shape, payload.bytes(), &options)).await;
    let planned = planned.map_err(|_| Error::new(Code::Internal, "building the record batches failed"))??;
    Ok(answer(&send(&app.broker, &name, planned).await))
}

impl ProduceParams {
    fn ingest_options(self, shape: Shape, topic: &TopicInfo) -> Result<IngestOptions, HttpError> {
        if self.key.is_some() && self.key_field.is_some() {
            return Err(HttpError::bad_request("`key` and `key_field` both say what the key is; send one of them"));
        }
        let long = [&self.key, &self.key_field].into_iter().flatten().any(|text| text.len() > MAX_KEY_BYTES);
        if long {
            return Err(HttpError::bad_request(format!("`key` and `key_field` have at most {MAX_KEY_BYTES} bytes")));
        }
        if let Some(partition) = self.partition.filter(|partition| *partition >= topic.partitions) {
            return Err(no_partition(topic, partition).into());
        }
        let multiline = topic.config.multiline.as_deref().filter(|_| shape == Shape::Lines);
        Ok(IngestOptions {
            key_field: self.key_field,
            key: self.key,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms.unwrap_or_else(now_ms),
            partitions: topic.partitions,
            first_spread: next_spread(),
            max_batch_bytes: topic.config.max_message_bytes as usize,
            format: topic.config.format,
            multiline: multiline.map(Multiline::of).transpose()?,
        })
    }
}

/// The error for a partition that the topic does not have.
pub(super) fn no_partition(topic: &TopicInfo, partition: u32) -> Error {
    let (name, partitions) = (&topic.name, topic.partitions);
    Error::new(
        Code::UnknownPartition,
        format!("topic `{name}` has no partition {partition}; it has {partitions}, from 0"),
    )
}

/// Sends the batches, in order: each is enqueued before the next one is.
async fn send(broker: &Arc<Broker>, topic: &str, plan: Plan) -> Summary {
    let mut summary = Summary::default();
    plan.refused.into_iter().for_each(|refused| summary.refused(refused));
    let sent = plan.batches.into_iter().map(|batch| send_one(broker, topic, batch));
    let mut outcomes = stream::iter(sent).buffered(IN_FLIGHT);
    while let Some(outcome) = outcomes.next().await {
        summary.add(outcome);
    }
    summary
}

async fn send_one(broker: &Broker, topic: &str, batch: PlannedBatch) -> Outcome {
    let result = broker.produce(topic, batch.partition, batch.bytes).await;
    let result = result.map(|produced| (produced.base_offset, produced.token));
    Outcome { partition: batch.partition, records: batch.records, result }
}

/// 200 if all were taken, 207 if some were, else the status of the first error, with the summary beside it.
fn answer(summary: &Summary) -> Response {
    let mut body = summary.to_json();
    let status = match summary.failure() {
        Some(error) => {
            body["error"] = error_value(&error);
            status_of(error.code)
        }
        None if summary.has_errors() => StatusCode::MULTI_STATUS,
        None => StatusCode::OK,
    };
    (status, Json(body)).into_response()
}

/// A number that goes up with each request, so that small requests reach all partitions.
fn next_spread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
