//! Heartbeat: a member says that it is there, and is told whether its generation goes on.

use bytes::Bytes;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use stratalog_broker::groups::Heartbeat;

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: HeartbeatRequest = request.decode()?;
    let heartbeat = Heartbeat {
        group: asked.group_id.to_string(),
        generation: asked.generation_id,
        member_id: asked.member_id.to_string(),
        instance: asked.group_instance_id.as_ref().map(|of| of.to_string()),
    };
    let heard = node.shared.broker.groups().heartbeat(heartbeat).await;
    request.encode(&HeartbeatResponse::default().with_error_code(errors::of_outcome(heard)))
}
