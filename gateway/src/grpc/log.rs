//! The service `Log`, but for Produce and Fetch, which have codecs of their own in `intake.rs` and `fetch.rs`.

use stratalog_broker::OffsetAt;
use stratalog_proto::config::check_topic_name;
use stratalog_proto::v1::list_offsets_request::At;
use stratalog_proto::v1::log_server::Log;
use stratalog_proto::v1::{
    FetchRequest, FetchResponse, InitProducerRequest, InitProducerResponse, ListOffsetsRequest, ListOffsetsResponse,
    PartitionOffset, ProduceRequest, ProduceResponse,
};
use stratalog_proto::{Code, Error, Offset, PartitionId};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, status};

#[tonic::async_trait]
impl Log for Service {
    type ProduceStream = ReceiverStream<Result<ProduceResponse, Status>>;

    async fn init_producer(
        &self,
        _request: Request<InitProducerRequest>,
    ) -> Result<Response<InitProducerResponse>, Status> {
        self.call("InitProducer", async {
            let (id, epoch) = self.shared.broker.init_producer().await?;
            Ok(InitProducerResponse { producer_id: id.0, producer_epoch: epoch.into() })
        })
        .await
    }

    /// Never called: `intake.rs` is routed before this service, because the generated codec decodes before we can count.
    async fn produce(
        &self,
        _request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        Err(unrouted("Produce"))
    }

    /// Never called: `fetch.rs` is routed before this service, because the generated codec would copy each batch again.
    async fn fetch(&self, _request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        Err(unrouted("Fetch"))
    }

    async fn list_offsets(
        &self,
        request: Request<ListOffsetsRequest>,
    ) -> Result<Response<ListOffsetsResponse>, Status> {
        let ListOffsetsRequest { topic, at } = request.into_inner();
        self.call("ListOffsets", async {
            check_topic_name(&topic)?;
            let offsets = self.shared.broker.list_offsets(&topic, offset_at(at)?).await?;
            let offset = |(partition, offset): (PartitionId, Offset)| PartitionOffset {
                partition: partition.0,
                offset: offset.0,
            };
            Ok(ListOffsetsResponse { offsets: offsets.into_iter().map(offset).collect() })
        })
        .await
    }
}

fn unrouted(method: &'static str) -> Status {
    status(method, Error::new(Code::Internal, format!("{method} was not routed to its own codec")))
}

fn offset_at(at: Option<At>) -> Result<OffsetAt, Error> {
    match at {
        Some(At::Earliest(_)) => Ok(OffsetAt::Earliest),
        Some(At::Latest(_)) => Ok(OffsetAt::Latest),
        Some(At::TimeNs(ns)) => Ok(OffsetAt::Time(ns)),
        None => Err(Error::new(Code::InvalidRequest, "say which offsets: `earliest`, `latest` or `time_ns`")),
    }
}
