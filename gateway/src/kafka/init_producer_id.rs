//! InitProducerId: an id for an idempotent producer.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: InitProducerIdRequest = request.decode()?;
    let failed = |error: i16| {
        InitProducerIdResponse::default()
            .with_error_code(error)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if asked.transactional_id.is_some() {
        // Transactions are not built: a client that asks for them must not go on without.
        return request.encode(&failed(ResponseError::UnsupportedVersion.code()));
    }
    // One that asks again, because its sequence broke, gets a new id, as from Kafka.
    request.encode(&match node.shared.broker.init_producer().await {
        Ok((id, epoch)) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(id.0)).with_producer_epoch(epoch)
        }
        Err(error) => {
            tracing::debug!(%error, "a Kafka client got no producer id");
            failed(errors::of_producer(error.code))
        }
    })
}
