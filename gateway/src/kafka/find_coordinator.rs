//! FindCoordinator: there are no groups and no transactions yet, and a client that wants them is told so.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::api::Request;
use super::shape::{Field, Kind, since, until};
use super::wire::Malformed;

const SHAPE: &[Field] = &[until(Kind::Text, 3), since(Kind::I8, 1), since(Kind::List(&Kind::Text), 4)];

pub(super) fn answer(request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: FindCoordinatorRequest = request.decode(SHAPE)?;
    let what = match asked.key_type {
        0 => "consumer groups are not built yet: assign partitions to the consumer, and keep its offsets yourself",
        _ => "transactions are not built yet: produce without a transactional.id",
    };
    let (error, message) = (ResponseError::UnsupportedVersion.code(), Some(StrBytes::from_static_str(what)));
    let nobody = BrokerId(-1);
    let response = FindCoordinatorResponse::default();
    if request.version < 4 {
        let response = response.with_error_code(error).with_node_id(nobody).with_port(-1);
        return request.encode(&if request.version >= 1 { response.with_error_message(message) } else { response });
    }
    let refused = |key| {
        let coordinator = Coordinator::default().with_key(key).with_node_id(nobody).with_port(-1);
        coordinator.with_error_code(error).with_error_message(message.clone())
    };
    request.encode(&response.with_coordinators(asked.coordinator_keys.into_iter().map(refused).collect()))
}
