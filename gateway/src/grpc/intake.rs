//! The codec of Produce: counts the batches of a request before they are decoded.
//!
//! An empty batch takes two bytes on the wire and forty in memory, so a request of 16 MiB could otherwise take twenty
//! times as much before its count is checked (X1).

use std::future::{Ready, ready};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::routing::post;
use bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use stratalog_proto::config::MAX_PRODUCE_REQUEST_BYTES;
use stratalog_proto::v1::{ProduceRequest, ProduceResponse};
use stratalog_proto::{Code, Error};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::produce;
use crate::gateway::Shared;

const PATH: &str = "/stratalog.v1.Log/Produce";
/// The field number of `ProduceRequest.batches`.
const BATCHES: u32 = 3;
/// Batches in one request.
const MAX_BATCHES: usize = 10_000;

/// Routes Produce here; a whole path goes before the generated service's wildcard.
pub(super) fn route(shared: Arc<Shared>, router: &mut Router) {
    let handler = move |request: HttpRequest| async move {
        let mut grpc = Grpc::new(IntakeCodec).max_decoding_message_size(MAX_PRODUCE_REQUEST_BYTES);
        grpc.streaming(Method(shared), request).await.map(Body::new)
    };
    *router = std::mem::take(router).route(PATH, post(handler));
}

struct Method(Arc<Shared>);

impl StreamingService<ProduceRequest> for Method {
    type Response = ProduceResponse;
    type ResponseStream = ReceiverStream<Result<ProduceResponse, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, requests: Request<Streaming<ProduceRequest>>) -> Self::Future {
        ready(Ok(Response::new(produce::serve(self.0.clone(), requests.into_inner()))))
    }
}

#[derive(Clone, Copy, Debug)]
struct IntakeCodec;

impl Codec for IntakeCodec {
    type Encode = ProduceResponse;
    type Decode = ProduceRequest;
    type Encoder = ProstEncoder<ProduceResponse>;
    type Decoder = IntakeDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> IntakeDecoder {
        IntakeDecoder(ProstCodec::<ProduceResponse, ProduceRequest>::default().decoder())
    }
}

struct IntakeDecoder(ProstDecoder<ProduceRequest>);

impl Decoder for IntakeDecoder {
    type Item = ProduceRequest;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<ProduceRequest>, Status> {
        check_count(message.chunk())?;
        self.0.decode(message)
    }
}

/// Refuses a message with too many batches. One that is malformed passes: the real decoder says what is wrong with it.
fn check_count(mut message: &[u8]) -> Result<(), Error> {
    let mut count = 0;
    while let Ok((field, wire_type)) = decode_key(&mut message) {
        count += usize::from(field == BATCHES);
        if count > MAX_BATCHES {
            let text = format!("a produce request names at most {MAX_BATCHES} batches; send several requests");
            return Err(Error::new(Code::InvalidRequest, text));
        }
        if skip_field(wire_type, field, &mut message, DecodeContext::default()).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;
    use stratalog_proto::v1::PartitionBatch;

    use super::*;

    #[test]
    fn x1_batches_are_counted_before_they_are_decoded() {
        let request = |count| ProduceRequest {
            request_id: 7,
            topic: "t".into(),
            batches: vec![PartitionBatch { partition: 1, batch: vec![9; 3].into() }; count],
        };
        check_count(&request(MAX_BATCHES).encode_to_vec()).unwrap();
        let error = check_count(&request(MAX_BATCHES + 1).encode_to_vec()).unwrap_err();
        assert_eq!(error.code, Code::InvalidRequest);
    }

    proptest! {
        #[test]
        fn x1_any_message_is_counted(message in proptest::collection::vec(any::<u8>(), 0..200)) {
            check_count(&message).unwrap();
        }
    }
}
