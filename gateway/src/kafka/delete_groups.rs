//! DeleteGroups: groups without members go, with what they committed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DeleteGroupsRequest = request.decode()?;
    // A group that is named twice is deleted once.
    let mut codes = BTreeMap::new();
    for group in asked.groups_names {
        if let Entry::Vacant(code) = codes.entry(group) {
            let deleted = node.shared.broker.groups().delete(code.key()).await;
            code.insert(errors::of_outcome(deleted));
        }
    }
    let told = |(group, code)| DeletableGroupResult::default().with_group_id(group).with_error_code(code);
    request.encode(&DeleteGroupsResponse::default().with_results(codes.into_iter().map(told).collect()))
}
