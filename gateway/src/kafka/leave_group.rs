//! LeaveGroup: members leave, and the others need not wait for their sessions to end.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use stratalog_broker::groups::Leaving;

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

/// From this version on, several leave at once.
const FIRST_OF_SEVERAL: i16 = 3;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: LeaveGroupRequest = request.decode()?;
    let is_of_several = request.version >= FIRST_OF_SEVERAL;
    let members = match is_of_several {
        true => asked.members,
        false => vec![MemberIdentity::default().with_member_id(asked.member_id)],
    };
    let leaving = members.iter().map(|member| Leaving {
        member_id: member.member_id.to_string(),
        instance: member.group_instance_id.as_ref().map(|of| of.to_string()),
    });
    let left = node.shared.broker.groups().leave(&asked.group_id, leaving.collect()).await;
    let response = LeaveGroupResponse::default();
    let codes = match left {
        Err(refusal) => return request.encode(&response.with_error_code(errors::of_group(&refusal))),
        Ok(outcomes) => outcomes.into_iter().map(errors::of_outcome),
    };
    // One outcome a member.
    let mut codes = codes.chain(std::iter::repeat(ResponseError::UnknownServerError.code()));
    if !is_of_several {
        return request.encode(&response.with_error_code(codes.next().unwrap_or_default()));
    }
    let told = members.into_iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    request.encode(&response.with_members(told.collect()))
}
