//! DescribeGroups: who is in groups, and does what.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::groups::{Described, DescribedMember, Refusal};

use super::api::Request;
use super::operations;
use super::room::Room;
use super::wire::Malformed;
use super::{Node, errors};

/// What a group takes in an answer beside its members, and a member beside what it says; in memory rather than as bytes.
const GROUP_BYTES: usize = 256;
const MEMBER_BYTES: usize = 256;

pub(super) async fn answer(node: &Node, request: &Request, room: &mut Room) -> Result<Vec<Bytes>, Malformed> {
    let asked: DescribeGroupsRequest = request.decode()?;
    let may_do = operations::if_asked(asked.include_authorized_operations, operations::GROUP);
    let mut groups = Vec::with_capacity(asked.groups.len());
    // Each once: an answer is much larger than a name.
    let mut named = BTreeSet::new();
    for group in asked.groups {
        if named.insert(group.clone()) {
            let told = describe(node, group, request.version, room).await;
            groups.push(told.with_authorized_operations(may_do));
        }
    }
    request.encode(&DescribeGroupsResponse::default().with_groups(groups))
}

async fn describe(node: &Node, group: GroupId, version: i16, room: &mut Room) -> DescribedGroup {
    // That there is none is no error, but a state, as in Kafka.
    let told = match node.shared.broker.groups().describe(&group).await {
        Ok(described) if room.take(bytes(&described)) => told(described, version),
        Ok(_) => DescribedGroup::default().with_error_code(errors::of_group(&Refusal::Loading)),
        Err(refusal) => DescribedGroup::default().with_error_code(errors::of_group(&refusal)),
    };
    told.with_group_id(group)
}

/// About what is told of a group.
fn bytes(described: &Described) -> usize {
    let member = |of: &DescribedMember| {
        let texts =
            of.member_id.len() + of.client_id.len() + of.host.len() + of.instance.as_ref().map_or(0, String::len);
        MEMBER_BYTES + texts + of.metadata.len() + of.assignment.len()
    };
    GROUP_BYTES + described.members.iter().map(member).sum::<usize>()
}

fn told(described: Described, version: i16) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_state(StrBytes::from_string(described.state.to_string()))
        .with_protocol_type(StrBytes::from_string(described.protocol_type))
        .with_protocol_data(StrBytes::from_string(described.protocol))
        .with_members(described.members.into_iter().map(|of| member(of, version)).collect())
}

fn member(of: DescribedMember, version: i16) -> DescribedGroupMember {
    let told = DescribedGroupMember::default()
        .with_member_id(StrBytes::from_string(of.member_id))
        .with_client_id(StrBytes::from_string(of.client_id))
        // Java's way to write an address that has no name.
        .with_client_host(StrBytes::from_string(format!("/{}", of.host)))
        .with_member_metadata(of.metadata)
        .with_member_assignment(of.assignment);
    if version >= 4 { told.with_group_instance_id(of.instance.map(StrBytes::from_string)) } else { told }
}
