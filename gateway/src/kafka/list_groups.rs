//! ListGroups: the groups that this node coordinates. Clients ask every node.

use bytes::Bytes;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::groups::{Listed, Refusal};

use super::api::Request;
use super::room::Room;
use super::wire::Malformed;
use super::{Node, errors};

/// The type of all groups there are.
const CLASSIC: &str = "classic";
/// What a group takes in an answer beside its texts, in memory rather than as bytes.
const GROUP_BYTES: usize = 256;

pub(super) fn answer(node: &Node, request: &Request, room: &mut Room) -> Result<Vec<Bytes>, Malformed> {
    let asked: ListGroupsRequest = request.decode()?;
    // None named: all are wanted.
    let among =
        |names: &[StrBytes], name: &str| names.is_empty() || names.iter().any(|of| of.eq_ignore_ascii_case(name));
    let wanted =
        |group: &Listed| among(&asked.states_filter, &group.state.to_string()) && among(&asked.types_filter, CLASSIC);
    let listed: Vec<Listed> = node.shared.broker.groups().list().into_iter().filter(wanted).collect();
    if !room.take(listed.iter().map(|group| GROUP_BYTES + group.group.len() + group.protocol_type.len()).sum()) {
        let asks_again = errors::of_group(&Refusal::Loading);
        return request.encode(&ListGroupsResponse::default().with_error_code(asks_again));
    }
    let groups = listed.into_iter().map(|group| told(group, request.version)).collect();
    request.encode(&ListGroupsResponse::default().with_groups(groups))
}

fn told(group: Listed, version: i16) -> ListedGroup {
    let told = ListedGroup::default()
        .with_group_id(GroupId(StrBytes::from_string(group.group)))
        .with_protocol_type(StrBytes::from_string(group.protocol_type));
    let told = if version >= 4 { told.with_group_state(StrBytes::from_string(group.state.to_string())) } else { told };
    if version >= 5 { told.with_group_type(StrBytes::from_static_str(CLASSIC)) } else { told }
}
