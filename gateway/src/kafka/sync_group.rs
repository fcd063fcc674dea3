//! SyncGroup: the leader of a group says who does what, and each member is told its part. The others wait for the leader.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::groups::{Sync, Synced};

use super::api::Request;
use super::connection::Client;
use super::wire::Malformed;
use super::{Node, errors};

/// From this version on, the protocol is named.
const FIRST_WITH_PROTOCOL: i16 = 5;

pub(super) async fn answer(node: &Node, client: &Client, request: &mut Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: SyncGroupRequest = request.decode()?;
    let sync = sync(&asked);
    drop(asked);
    request.let_go();
    if request.version >= FIRST_WITH_PROTOCOL && (sync.protocol_type.is_none() || sync.protocol.is_none()) {
        let error = ResponseError::InconsistentGroupProtocol.code();
        return request.encode(&SyncGroupResponse::default().with_error_code(error));
    }
    let synced = client.unless_leaving(node.shared.broker.groups().sync(sync)).await;
    request.encode(&match synced {
        Ok(synced) => told(synced, request.version),
        Err(refusal) => SyncGroupResponse::default().with_error_code(errors::of_group(&refusal)),
    })
}

/// A copy of all that was asked.
fn sync(asked: &SyncGroupRequest) -> Sync {
    let text = |text: &Option<StrBytes>| text.as_ref().map(|of| of.to_string());
    let assignments = asked.assignments.iter();
    Sync {
        group: asked.group_id.to_string(),
        generation: asked.generation_id,
        member_id: asked.member_id.to_string(),
        instance: text(&asked.group_instance_id),
        protocol_type: text(&asked.protocol_type),
        protocol: text(&asked.protocol_name),
        assignments: assignments.map(|of| (of.member_id.to_string(), Bytes::copy_from_slice(&of.assignment))).collect(),
    }
}

fn told(synced: Synced, version: i16) -> SyncGroupResponse {
    let told = SyncGroupResponse::default().with_assignment(synced.assignment);
    if version < FIRST_WITH_PROTOCOL {
        return told;
    }
    told.with_protocol_type(Some(StrBytes::from_string(synced.protocol_type)))
        .with_protocol_name(Some(StrBytes::from_string(synced.protocol)))
}
