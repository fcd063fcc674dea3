//! One produce stream: requests are answered as they become durable, and enqueued in the order in which they came.
//!
//! One task reads requests and drives them all. A request's futures are polled for the first time in the order of
//! arrival, and by that poll a batch joins its partition's queue in the broker; so the sequences of an idempotent
//! producer stay in order though many requests are in flight. Nothing is read beyond the bounds below, and the
//! transport's flow control then holds the client back.

use std::sync::Arc;

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use stratalog_broker::{Broker, Produced};
use stratalog_proto::config::check_topic_name;
use stratalog_proto::v1::{PartitionBatch, PartitionResult, ProduceRequest, ProduceResponse};
use stratalog_proto::{Code, Error, PartitionId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::convert;
use crate::gateway::Shared;

/// Requests in flight on one stream, answers that the client has not taken included.
const MAX_IN_FLIGHT: usize = 256;
/// Bytes of record batches in flight on one stream; one request may go beyond.
const MAX_IN_FLIGHT_BYTES: usize = 16 << 20;

type Answer = Result<ProduceResponse, Status>;
type Slot = mpsc::OwnedPermit<Answer>;

/// Serves `requests` until the client ends the stream or leaves, or the node stops.
pub(super) fn serve<S>(shared: Arc<Shared>, requests: S) -> ReceiverStream<Answer>
where
    S: Stream<Item = Result<ProduceRequest, Status>> + Send + Unpin + 'static,
{
    let (answers, stream) = mpsc::channel(MAX_IN_FLIGHT);
    tokio::spawn(run(shared, requests, answers));
    ReceiverStream::new(stream)
}

/// What ends the reading of requests.
enum Next {
    /// A request, and the place where its answer will go.
    Request(ProduceRequest, Slot),
    /// The client has sent all.
    End,
    /// The stream broke, or cannot be read.
    Broken(Status),
}

async fn run<S>(shared: Arc<Shared>, mut requests: S, answers: mpsc::Sender<Answer>)
where
    S: Stream<Item = Result<ProduceRequest, Status>> + Send + Unpin,
{
    let mut in_flight = FuturesUnordered::new();
    let mut bytes_in_flight = 0;
    let mut reading = true;
    // What the client is told after the last answer; nothing if it ended the stream itself.
    let mut last_words = None;
    while reading || !in_flight.is_empty() {
        tokio::select! {
            Some((bytes, slot, response)) = in_flight.next() => {
                bytes_in_flight -= bytes;
                count(&shared, &response);
                Slot::send(slot, Ok(response));
            }
            next = next(&mut requests, &answers), if reading && bytes_in_flight < MAX_IN_FLIGHT_BYTES => match next {
                Next::Request(request, slot) => {
                    let bytes: usize = request.batches.iter().map(|batch| batch.batch.len()).sum();
                    bytes_in_flight += bytes;
                    let answer = answer(&shared.broker, request);
                    in_flight.push(async move { (bytes, slot, answer.await) });
                }
                Next::End => reading = false,
                Next::Broken(status) => (reading, last_words) = (false, Some(status)),
            },
            // The client left: nobody waits for what is in flight, and whether it was written stays open.
            () = answers.closed() => return,
            () = shared.stopping.cancelled(), if reading => {
                let stopping = Error::new(Code::Unavailable, "the node is stopping; connect again");
                (reading, last_words) = (false, Some(stopping.into()));
            }
        }
    }
    if let Some(status) = last_words {
        // The client may have gone meanwhile.
        let _ = answers.send(Err(status)).await;
    }
}

/// Reads a request once there is room for its answer.
async fn next<S>(requests: &mut S, answers: &mpsc::Sender<Answer>) -> Next
where
    S: Stream<Item = Result<ProduceRequest, Status>> + Unpin,
{
    let Ok(slot) = answers.clone().reserve_owned().await else { return Next::End };
    match requests.next().await {
        Some(Ok(request)) => Next::Request(request, slot),
        Some(Err(status)) => Next::Broken(status),
        None => Next::End,
    }
}

/// Produces every batch of a request; each has its own result, in their order.
async fn answer(broker: &Broker, request: ProduceRequest) -> ProduceResponse {
    let ProduceRequest { request_id, topic, batches } = request;
    let results = match check_topic_name(&topic) {
        Ok(()) => join_all(batches.into_iter().map(|batch| produce(broker, &topic, batch))).await,
        Err(error) => batches.iter().map(|batch| result(batch.partition, Err(error.clone()))).collect(),
    };
    ProduceResponse { request_id, results }
}

async fn produce(broker: &Broker, topic: &str, batch: PartitionBatch) -> PartitionResult {
    let produced = broker.produce(topic, PartitionId(batch.partition), batch.batch).await;
    result(batch.partition, produced)
}

fn result(partition: u32, produced: Result<Produced, Error>) -> PartitionResult {
    let mut result = PartitionResult { partition, ..PartitionResult::default() };
    match produced {
        Ok(produced) => {
            result.base_offset = produced.base_offset.0;
            result.token = Some(convert::token(produced.token));
        }
        Err(error) => (result.code, result.message) = (error.code as u32, error.message),
    }
    result
}

fn count(shared: &Shared, response: &ProduceResponse) {
    let failed =
        response.results.iter().find(|result| result.code != 0).and_then(|result| Code::from_number(result.code));
    shared.metrics.grpc("Produce", failed.map_or("OK", Code::name));
}
