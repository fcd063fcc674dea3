//! Fetch, answered past the codec: record batches leave as slices of the buffers that were read.

mod message;

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request as HttpRequest;
use axum::routing::post;
use stratalog_broker::{FetchedPartition, ReadFrom};
use stratalog_proto::config::check_topic_name;
use stratalog_proto::v1::{FetchRequest, FetchResponse};
use stratalog_proto::{Code, Error, Offset, PartitionId};
use tonic::codegen::BoxFuture;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{MAX_REQUEST_BYTES, Service, convert};
use message::FetchMessage;

const PATH: &str = "/stratalog.v1.Log/Fetch";
/// Partitions of one fetch.
const MAX_PARTITIONS: usize = 10_000;
/// Bytes of a fetch that names no maximum.
const DEFAULT_BYTES: usize = 4 << 20;
/// The largest fetch, and the longest.
const MAX_BYTES: usize = 64 << 20;
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Routes Fetch here; a whole path goes before the generated service's wildcard.
pub(super) fn route(service: Service, router: &mut Router) {
    let handler = move |request: HttpRequest| async move {
        let codec = ProstCodec::<FetchResponse, FetchRequest>::default();
        let mut grpc = Grpc::new(codec).max_decoding_message_size(MAX_REQUEST_BYTES);
        let mut answer = grpc.unary(Method(service), request).await;
        match answer.extensions_mut().remove::<FetchMessage>() {
            Some(message) => answer.map(|_| Body::new(message.into_body())),
            None => answer.map(Body::new),
        }
    };
    *router = std::mem::take(router).route(PATH, post(handler));
}

struct Method(Service);

/// Answers with an empty message, and the one to be sent in its place beside it.
impl UnaryService<FetchRequest> for Method {
    type Response = FetchResponse;
    type Future = BoxFuture<Response<FetchResponse>, Status>;

    fn call(&mut self, request: Request<FetchRequest>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let fetched = service.call("Fetch", service.fetch(request.into_inner())).await?;
            let mut answer = Response::new(FetchResponse::default());
            answer.extensions_mut().insert(FetchMessage::new(fetched.into_inner()));
            Ok(answer)
        })
    }
}

impl Service {
    async fn fetch(&self, request: FetchRequest) -> Result<Vec<FetchedPartition>, Error> {
        check_topic_name(&request.topic)?;
        convert::bounded("partitions", request.partitions.len(), MAX_PARTITIONS)?;
        let partitions = request.partitions.iter().map(|from| (PartitionId(from.partition), Offset(from.offset)));
        let fetch = self.shared.broker.fetch(stratalog_broker::FetchRequest {
            partitions: partitions.collect(),
            topic: request.topic.clone(),
            max_bytes: if request.max_bytes == 0 { DEFAULT_BYTES } else { MAX_BYTES.min(request.max_bytes as usize) },
            max_wait: MAX_WAIT.min(Duration::from_millis(request.max_wait_ms.into())),
            from: match request {
                FetchRequest { from_zone: true, .. } => ReadFrom::Zone,
                FetchRequest { from_follower: true, .. } => ReadFrom::Replica,
                _ => ReadFrom::Leader,
            },
        });
        tokio::select! {
            fetched = fetch => fetched,
            // A consumer that waits for records would hold up the end of the node.
            () = self.shared.stopping.cancelled() => Err(Error::new(Code::Unavailable, "the node is stopping")),
        }
    }
}
