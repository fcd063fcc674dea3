//! The service `Groups`, and `system.groups`.

use kafka_protocol::messages::{ApiKey, OffsetCommitResponse};
use serde_json::json;
use stratalog_proto::v1::groups_client::GroupsClient;
use stratalog_proto::v1::reset_offsets_request::To;
use stratalog_proto::v1::{
    DeleteGroupRequest, DescribeGroupRequest, GroupPartition, ListGroupsRequest, ResetOffsetsRequest, ResetPartition,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::kafka::client::Client;
use crate::kafka::groups::{Member, assignment, commit_request};
use crate::node::Node;

async fn groups(node: &Node) -> GroupsClient<Channel> {
    GroupsClient::new(node.channel().await)
}

fn describe(group: &str) -> DescribeGroupRequest {
    DescribeGroupRequest { group: group.to_owned() }
}

fn reset(to: To) -> ResetOffsetsRequest {
    let (group, topic) = ("readers".to_owned(), String::new());
    ResetOffsetsRequest { group, topic, to: Some(to), dry_run: false }
}

fn code(status: Result<impl Sized, Status>) -> (Code, String) {
    let status = status.err().unwrap();
    (status.code(), status.metadata().get("stratalog-code").unwrap().to_str().unwrap().to_owned())
}

/// A node with ten records in each of two partitions, and a group that has read three of the first.
async fn with_readers() -> Node {
    let node = Node::with_topic("events").await;
    for partition in 0..2 {
        let path = format!("/v1/topics/events/records?partition={partition}");
        let lines = "{\"a\":1}\n".repeat(10);
        let sent = node.post(&path).header("content-type", "application/x-ndjson").body(lines).send().await.unwrap();
        assert_eq!(sent.status(), 200, "{}", sent.text().await.unwrap());
    }
    let mut client = Client::connect(node.kafka).await;
    let request = commit_request("readers", "events", &[(0, 3)]);
    let told: OffsetCommitResponse = client.ask(ApiKey::OffsetCommit, 8, &request).await;
    assert_eq!(told.topics[0].partitions[0].error_code, 0);
    node
}

#[tokio::test]
async fn groups_are_shown_with_their_members_and_their_lag() {
    let node = with_readers().await;
    let mut member = Member::joined_alone(&node, "readers").await;
    let assigned = assignment("events", &[0, 1]);
    assert_eq!(member.sync_bytes(&assigned).await, 0);
    let mut groups = groups(&node).await;
    let listed = groups.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups;
    let listed: Vec<_> = listed.iter().map(|of| (&*of.group, &*of.state, &*of.protocol_type)).collect();
    assert_eq!(listed, [("readers", "Stable", "consumer")]);
    let told = groups.describe_group(describe("readers")).await.unwrap().into_inner();
    assert_eq!((&*told.state, &*told.protocol, told.generation), ("Stable", "range", 1));
    assert_eq!((&*told.members[0].client_id, &*told.members[0].host), ("tests", "127.0.0.1"));
    let of = |partition, committed: Option<u64>, metadata: &str| GroupPartition {
        topic: "events".to_owned(),
        partition,
        committed,
        metadata: metadata.to_owned(),
        log_start: 0,
        high_watermark: 10,
        member: member.id.clone(),
    };
    assert_eq!(told.partitions, [of(0, Some(3), "at 3"), of(1, None, "")]);
    let sql = "SELECT \"group\", state, topic, partition, committed_offset, high_watermark, lag, member, client_id, host \
               FROM system.groups ORDER BY partition";
    let answer = node.sql(sql, &json!({"tokens": []})).await;
    let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let expected = |partition: u32, committed: Option<u64>, lag: Option<u64>| {
        json!({"group": "readers", "state": "Stable", "topic": "events", "partition": partition,
            "committed_offset": committed, "high_watermark": 10, "lag": lag, "member": member.id, "client_id": "tests",
            "host": "127.0.0.1"})
    };
    assert_eq!(rows, &[expected(0, Some(3), Some(7)), expected(1, None, None)]);
    assert_eq!(code(groups.describe_group(describe("nobody")).await), (Code::NotFound, "UNKNOWN_GROUP".to_owned()));
    node.stop().await;
}

#[tokio::test]
async fn a_group_without_members_is_reset_and_deleted() {
    let node = with_readers().await;
    let mut groups = groups(&node).await;
    let at = |partition, before, after| ResetPartition { topic: "events".to_owned(), partition, before, after };
    let on_topic = |to| ResetOffsetsRequest { topic: "events".to_owned(), ..reset(to) };
    let dry = ResetOffsetsRequest { dry_run: true, ..on_topic(To::Latest(true)) };
    let steps = [
        (dry.clone(), vec![at(0, Some(3), 10), at(1, None, 10)]),
        (dry, vec![at(0, Some(3), 10), at(1, None, 10)]),
        (reset(To::ShiftBy(-1)), vec![at(0, Some(3), 2)]),
        (on_topic(To::ShiftBy(5)), vec![at(0, Some(2), 7)]),
        (on_topic(To::Offset(99)), vec![at(0, Some(7), 10), at(1, None, 10)]),
        (reset(To::Earliest(true)), vec![at(0, Some(10), 0), at(1, Some(10), 0)]),
        (reset(To::TimeNs(i64::MAX)), vec![at(0, Some(0), 10), at(1, Some(0), 10)]),
    ];
    for (request, expected) in steps {
        let what = format!("{request:?}");
        assert_eq!(groups.reset_offsets(request).await.unwrap().into_inner().partitions, expected, "{what}");
    }
    let without = ResetOffsetsRequest { to: None, ..reset(To::Latest(true)) };
    assert_eq!(code(groups.reset_offsets(without).await), (Code::InvalidArgument, "INVALID_REQUEST".to_owned()));
    let nobodys = ResetOffsetsRequest { group: "nobody".to_owned(), ..reset(To::Latest(true)) };
    assert_eq!(code(groups.reset_offsets(nobodys.clone()).await).1, "UNKNOWN_GROUP");
    let new = ResetOffsetsRequest { topic: "events".to_owned(), ..nobodys };
    assert_eq!(groups.reset_offsets(new).await.unwrap().into_inner().partitions.len(), 2, "a group may begin so");
    let delete = |group: &str| DeleteGroupRequest { group: group.to_owned() };
    let mut member = Member::alone(&node, "readers").await;
    let full = (Code::FailedPrecondition, "GROUP_NOT_EMPTY".to_owned());
    assert_eq!(code(groups.reset_offsets(reset(To::Latest(true))).await), full);
    assert_eq!(code(groups.delete_group(delete("readers")).await), full);
    assert_eq!(member.leave().await, 0);
    groups.delete_group(delete("readers")).await.unwrap();
    assert_eq!(code(groups.delete_group(delete("readers")).await).1, "UNKNOWN_GROUP");
    let listed = groups.list_groups(ListGroupsRequest {}).await.unwrap().into_inner().groups;
    assert_eq!(listed.iter().map(|of| &*of.group).collect::<Vec<_>>(), ["nobody"]);
    node.stop().await;
}
