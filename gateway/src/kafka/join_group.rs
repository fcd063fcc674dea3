//! JoinGroup: a member comes into the next generation of its group. The answer waits until the others are there.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::groups::{Join, Joined, JoinedMember, Refusal};

use super::api::Request;
use super::connection::Client;
use super::wire::Malformed;
use super::{Node, errors};

/// From this version on, a new member is told its id before it joins.
const FIRST_WITH_IDS_BEFORE: i16 = 4;
/// From this version on, the protocol may be null.
const FIRST_WITHOUT_PROTOCOL: i16 = 7;
/// From this version on, a leader may be told to leave the assignment as it is.
const FIRST_THAT_SKIPS: i16 = 9;

pub(super) async fn answer(node: &Node, client: &Client, request: &mut Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: JoinGroupRequest = request.decode()?;
    let join = join(&asked, client, request);
    let member = StrBytes::from_string(join.member_id.clone());
    // It may wait for as long as a rebalance takes.
    drop(asked);
    request.let_go();
    let joined = client.unless_leaving(node.shared.broker.groups().join(join)).await;
    request.encode(&match joined {
        Ok(joined) => told(joined, request.version),
        Err(refusal) => refused(&refusal, member, request.version),
    })
}

/// A copy of all that was asked.
fn join(asked: &JoinGroupRequest, client: &Client, request: &Request) -> Join {
    let rebalance_ms = if request.version >= 1 { asked.rebalance_timeout_ms } else { asked.session_timeout_ms };
    let protocols = asked.protocols.iter();
    Join {
        group: asked.group_id.to_string(),
        member_id: asked.member_id.to_string(),
        instance: asked.group_instance_id.as_ref().map(|of| of.to_string()),
        client_id: request.client.to_string(),
        host: client.peer.ip().to_string(),
        protocol_type: asked.protocol_type.to_string(),
        protocols: protocols.map(|of| (of.name.to_string(), Bytes::copy_from_slice(&of.metadata))).collect(),
        session_timeout: millis(asked.session_timeout_ms),
        rebalance_timeout: millis(rebalance_ms),
        needs_member_id: request.version >= FIRST_WITH_IDS_BEFORE && asked.group_instance_id.is_none(),
        knows_skipping: request.version >= FIRST_THAT_SKIPS,
    }
}

/// A time below zero is none.
fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn told(joined: Joined, version: i16) -> JoinGroupResponse {
    let member = |of: JoinedMember| {
        let told = JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(of.member_id))
            .with_metadata(of.metadata);
        if version >= 5 { told.with_group_instance_id(of.instance.map(StrBytes::from_string)) } else { told }
    };
    let told = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_name(Some(StrBytes::from_string(joined.protocol)))
        .with_leader(StrBytes::from_string(joined.leader))
        .with_member_id(StrBytes::from_string(joined.member_id))
        .with_members(joined.members.into_iter().map(member).collect());
    let told = if version >= FIRST_THAT_SKIPS { told.with_skip_assignment(joined.skip_assignment) } else { told };
    if version >= FIRST_WITHOUT_PROTOCOL {
        return told.with_protocol_type(Some(StrBytes::from_string(joined.protocol_type)));
    }
    told
}

fn refused(refusal: &Refusal, asked: StrBytes, version: i16) -> JoinGroupResponse {
    let member = match refusal {
        Refusal::MemberIdRequired(given) => StrBytes::from_string(given.clone()),
        _ => asked,
    };
    let told = JoinGroupResponse::default().with_error_code(errors::of_group(refusal)).with_member_id(member);
    if version >= FIRST_WITHOUT_PROTOCOL { told.with_protocol_name(None) } else { told }
}
