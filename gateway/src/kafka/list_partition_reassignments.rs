//! ListPartitionReassignments: there are none, since replicas are those of shards; `stratalog cluster status` shows what moves.

use bytes::Bytes;
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::api::Request;
use super::wire::Malformed;

pub(super) fn answer(request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let _: ListPartitionReassignmentsRequest = request.decode()?;
    request.encode(&ListPartitionReassignmentsResponse::default().with_error_message(None))
}
