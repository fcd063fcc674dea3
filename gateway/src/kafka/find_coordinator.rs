//! FindCoordinator: the node that leads the shard of a group. There are no transactions yet, and a client that wants them is
//! told so.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::api::Request;
use super::connection::Client;
use super::places::{Place, Places};
use super::wire::Malformed;
use super::{Node, errors};

/// Types of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(super) async fn answer(node: &Node, client: &Client, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: FindCoordinatorRequest = request.decode()?;
    let places = Places::now(node, client);
    let response = FindCoordinatorResponse::default();
    if request.version >= 4 {
        let mut coordinators = Vec::with_capacity(asked.coordinator_keys.len());
        for key in asked.coordinator_keys {
            let told = told(find(node, &places, asked.key_type, &key).await);
            coordinators.push(told.with_key(key));
        }
        return request.encode(&response.with_coordinators(coordinators));
    }
    let told = told(find(node, &places, asked.key_type, &asked.key).await);
    let response =
        response.with_error_code(told.error_code).with_node_id(told.node_id).with_host(told.host).with_port(told.port);
    request.encode(&if request.version >= 1 { response.with_error_message(told.error_message) } else { response })
}

/// Why there is nobody, by Kafka's number and in words.
type Nobody = (i16, String);

async fn find<'a>(node: &Node, places: &'a Places, key_type: i8, key: &str) -> Result<&'a Place, Nobody> {
    let nobody = |error: ResponseError, why: &str| Err((error.code(), why.to_owned()));
    match key_type {
        GROUP => {}
        TRANSACTION => {
            let why = "transactions are not built yet: produce without a transactional.id";
            // Any other number has librdkafka ask again until it gives up, and never show the words.
            return nobody(ResponseError::TransactionalIdAuthorizationFailed, why);
        }
        _ => return nobody(ResponseError::InvalidRequest, "keys are 0 for groups, and 1 for transactions"),
    }
    let found = node.shared.broker.groups().coordinator(key).await;
    let coordinator = found.map_err(|refusal| (errors::of_coordinator(&refusal), refusal.to_string()))?;
    let why = "the group's coordinator does not answer, or has not told yet where Kafka clients reach it";
    places.of(coordinator).map_or_else(|| nobody(ResponseError::CoordinatorNotAvailable, why), Ok)
}

fn told(found: Result<&Place, Nobody>) -> Coordinator {
    match found {
        Ok(place) => Coordinator::default().with_node_id(place.id).with_host(place.host.clone()).with_port(place.port),
        Err((error, why)) => Coordinator::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(error)
            .with_error_message(Some(StrBytes::from_string(why))),
    }
}
