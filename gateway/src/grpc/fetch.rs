//! Fetch, with a codec of its own: each record batch is copied once, from the log's buffer into the message's frame.
//!
//! The generated codec would want header and body of a batch as one piece, and would let the frame grow as it fills.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::routing::post;
use bytes::BufMut;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use stratalog_broker::{FetchedBatch, FetchedPartition};
use stratalog_proto::config::check_topic_name;
use stratalog_proto::v1::{self, FetchRequest, FetchResponse};
use stratalog_proto::{Code, Error, Offset, PartitionId};
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::{MAX_REQUEST_BYTES, Service, convert};

const PATH: &str = "/stratalog.v1.Log/Fetch";
/// Partitions of one fetch.
const MAX_PARTITIONS: usize = 10_000;
/// Bytes of a fetch that names no maximum.
const DEFAULT_BYTES: usize = 4 << 20;
/// The largest fetch, and the longest.
const MAX_BYTES: usize = 64 << 20;
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Field numbers of `FetchResponse.partitions` and `FetchedPartition.batches`.
const PARTITIONS: u32 = 1;
const BATCHES: u32 = 6;

/// Routes Fetch here; a whole path goes before the generated service's wildcard.
pub(super) fn route(service: Service, router: &mut Router) {
    let handler = move |request: HttpRequest| async move {
        let mut grpc = Grpc::new(FetchCodec).max_decoding_message_size(MAX_REQUEST_BYTES);
        grpc.unary(Method(service), request).await.map(Body::new)
    };
    *router = std::mem::take(router).route(PATH, post(handler));
}

struct Method(Service);

impl UnaryService<FetchRequest> for Method {
    type Response = Vec<Answer>;
    type Future = BoxFuture<Response<Vec<Answer>>, Status>;

    fn call(&mut self, request: Request<FetchRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.call("Fetch", service.fetch(request.into_inner())).await })
    }
}

impl Service {
    async fn fetch(&self, request: FetchRequest) -> Result<Vec<Answer>, Error> {
        check_topic_name(&request.topic)?;
        convert::bounded("partitions", request.partitions.len(), MAX_PARTITIONS)?;
        let partitions = request.partitions.iter().map(|from| (PartitionId(from.partition), Offset(from.offset)));
        let fetch = self.shared.broker.fetch(stratalog_broker::FetchRequest {
            partitions: partitions.collect(),
            topic: request.topic,
            max_bytes: if request.max_bytes == 0 { DEFAULT_BYTES } else { MAX_BYTES.min(request.max_bytes as usize) },
            max_wait: MAX_WAIT.min(Duration::from_millis(request.max_wait_ms.into())),
        });
        let fetched = tokio::select! {
            fetched = fetch => fetched?,
            // A consumer that waits for records would hold up the end of the node.
            () = self.shared.stopping.cancelled() => return Err(Error::new(Code::Unavailable, "the node is stopping")),
        };
        Ok(fetched.into_iter().map(Answer::from).collect())
    }
}

/// One `FetchedPartition` of the answer: `head` is all of it but the batches.
struct Answer {
    head: v1::FetchedPartition,
    batches: Vec<FetchedBatch>,
}

impl From<FetchedPartition> for Answer {
    fn from(fetched: FetchedPartition) -> Self {
        let mut head = v1::FetchedPartition {
            partition: fetched.partition.0,
            log_start: fetched.log_start.0,
            high_watermark: fetched.high_watermark.0,
            ..v1::FetchedPartition::default()
        };
        let batches = fetched.result.unwrap_or_else(|error| {
            (head.code, head.message) = (error.code as u32, error.message);
            Vec::new()
        });
        Self { head, batches }
    }
}

impl Answer {
    fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.batches.iter().map(|batch| field_len(BATCHES, batch_len(batch))).sum::<usize>()
    }

    fn encode(&self, out: &mut impl BufMut) {
        // The batches are the last field, so that what follows the head is all of them.
        self.head.encode(out).expect("a frame grows as needed");
        for batch in &self.batches {
            encode_prefix(BATCHES, batch_len(batch), out);
            out.put_slice(&batch.header);
            out.put_slice(&batch.body);
        }
    }
}

fn batch_len(batch: &FetchedBatch) -> usize {
    batch.header.len() + batch.body.len()
}

/// Bytes of a length-delimited field.
fn field_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn encode_prefix(field: u32, len: usize, out: &mut impl BufMut) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Bytes of the whole `FetchResponse`.
fn encoded_len(answers: &[Answer]) -> usize {
    answers.iter().map(|answer| field_len(PARTITIONS, answer.encoded_len())).sum()
}

fn encode(answers: &[Answer], out: &mut impl BufMut) {
    for answer in answers {
        encode_prefix(PARTITIONS, answer.encoded_len(), out);
        answer.encode(out);
    }
}

#[derive(Clone, Copy, Debug)]
struct FetchCodec;

impl Codec for FetchCodec {
    type Encode = Vec<Answer>;
    type Decode = FetchRequest;
    type Encoder = FetchEncoder;
    type Decoder = ProstDecoder<FetchRequest>;

    fn encoder(&mut self) -> FetchEncoder {
        FetchEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<FetchResponse, FetchRequest>::default().decoder()
    }
}

#[derive(Clone, Copy, Debug)]
struct FetchEncoder;

impl Encoder for FetchEncoder {
    type Item = Vec<Answer>;
    type Error = Status;

    fn encode(&mut self, answers: Vec<Answer>, frame: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.reserve(encoded_len(&answers));
        encode(&answers, frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn frame_is_what_the_generated_message_reads() {
        let batch = |header: &'static [u8], body: Vec<u8>| FetchedBatch {
            header: Bytes::from_static(header),
            body: body.into(),
        };
        let fetched = |partition, result| FetchedPartition {
            partition: PartitionId(partition),
            log_start: Offset(1),
            high_watermark: Offset(300),
            result,
        };
        let answers: Vec<Answer> = [
            fetched(0, Ok(vec![batch(b"head", vec![7; 200]), batch(b"h", vec![])])),
            fetched(1, Err(Error::new(Code::OffsetOutOfRange, "gone"))),
            fetched(2, Ok(vec![])),
        ]
        .into_iter()
        .map(Answer::from)
        .collect();
        let mut bytes = Vec::new();
        encode(&answers, &mut bytes);
        assert_eq!(bytes.len(), encoded_len(&answers));
        let read = FetchResponse::decode(&bytes[..]).unwrap().partitions;
        assert_eq!(read[0].batches, [[&b"head"[..], &[7; 200]].concat(), b"h".to_vec()]);
        assert_eq!((read[0].partition, read[0].log_start, read[0].high_watermark), (0, 1, 300));
        assert_eq!((read[1].code, read[1].message.as_str()), (Code::OffsetOutOfRange as u32, "gone"));
        assert_eq!((read[2].partition, read[2].batches.len()), (2, 0));
    }
}
