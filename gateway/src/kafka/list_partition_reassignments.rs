//! ListPartitionReassignments: there are none, since replicas are those of shards; `stratalog cluster status` shows what moves.

use bytes::Bytes;
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::api::Request;
use super::shape::{Field, Kind, always};
use super::wire::Malformed;

const TOPIC: &[Field] = &[always(Kind::Text), always(Kind::List(&Kind::I32))];
const SHAPE: &[Field] = &[always(Kind::I32), always(Kind::List(&Kind::Struct(TOPIC)))];

pub(super) fn answer(request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let _: ListPartitionReassignmentsRequest = request.decode(SHAPE)?;
    request.encode(&ListPartitionReassignmentsResponse::default().with_error_message(None))
}
