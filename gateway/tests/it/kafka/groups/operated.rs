//! What is done to groups from outside: looked at, deleted, lied about.

use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ApiKey, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use tokio::io::AsyncReadExt;

use super::{Member, commit_request, group_id, subscription, text, topic_name};
use crate::kafka::client::Client;
use crate::node::Node;

async fn delete(client: &mut Client, version: i16, groups: &[&str]) -> Vec<(String, i16)> {
    let request = DeleteGroupsRequest::default().with_groups_names(groups.iter().map(|of| group_id(of)).collect());
    let told: DeleteGroupsResponse = client.ask(ApiKey::DeleteGroups, version, &request).await;
    told.results.iter().map(|of| (of.group_id.to_string(), of.error_code)).collect()
}

#[tokio::test]
async fn groups_are_described_and_listed_in_every_version() {
    let node = Node::with_topic("events").await;
    let member = Member::alone(&node, "readers").await;
    let mut client = Client::connect(node.kafka).await;
    let kept = commit_request("kept", "events", &[(0, 1)]);
    client.ask::<OffsetCommitResponse>(ApiKey::OffsetCommit, 8, &kept).await;
    for version in 0..=5 {
        let groups = ["readers", "kept", "nobody", "readers"].map(group_id);
        let request = DescribeGroupsRequest::default().with_groups(groups.into());
        let request = if version >= 3 { request.with_include_authorized_operations(true) } else { request };
        let told: DescribeGroupsResponse = client.ask(ApiKey::DescribeGroups, version, &request).await;
        let states: Vec<_> = told.groups.iter().map(|of| (&**of.group_id, &*of.group_state, of.error_code)).collect();
        assert_eq!(states, [("readers", "Stable", 0), ("kept", "Empty", 0), ("nobody", "Dead", 0)], "{version}");
        let readers = &told.groups[0];
        assert_eq!((&*readers.protocol_type, &*readers.protocol_data), ("consumer", "range"));
        let [of] = &readers.members[..] else { panic!("{readers:?}") };
        assert_eq!((&*of.member_id, &*of.client_id, &*of.client_host), (&*member.id, "tests", "/127.0.0.1"));
        assert_eq!((&of.member_metadata, &of.member_assignment[..]), (&subscription("events"), &b"all"[..]));
    }
    for version in 0..=5 {
        let request = ListGroupsRequest::default();
        let told: ListGroupsResponse = client.ask(ApiKey::ListGroups, version, &request).await;
        let mut ids: Vec<_> = told.groups.iter().map(|of| of.group_id.to_string()).collect();
        ids.sort();
        assert_eq!((told.error_code, ids), (0, vec!["kept".to_owned(), "readers".to_owned()]), "version {version}");
    }
    for (states, types, expected) in [("stable", "", "readers"), ("Empty", "Classic", "kept"), ("Dead", "", "")] {
        let among = |name| Some(text(name)).filter(|name| !name.is_empty()).into_iter().collect();
        let request = ListGroupsRequest::default().with_states_filter(among(states)).with_types_filter(among(types));
        let told: ListGroupsResponse = client.ask(ApiKey::ListGroups, 5, &request).await;
        let ids: Vec<_> = told.groups.iter().map(|of| of.group_id.to_string()).collect();
        assert_eq!(ids.join(" "), expected);
        assert!(told.groups.iter().all(|of| &*of.group_type == "classic"));
    }
    let consumers = ListGroupsRequest::default().with_types_filter(vec![text("consumer")]);
    let told: ListGroupsResponse = client.ask(ApiKey::ListGroups, 5, &consumers).await;
    assert!(told.groups.is_empty(), "{told:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_group_is_deleted_once_nobody_is_in_it() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=2 {
        let mut member = Member::alone(&node, "readers").await;
        assert_eq!(member.commit(&[(0, 9)]).await, [0]);
        let told = delete(&mut client, version, &["readers", "nobody", "readers"]).await;
        assert_eq!(told, [("nobody".to_owned(), 69), ("readers".to_owned(), 68)]);
        assert_eq!(member.leave().await, 0);
        assert_eq!(delete(&mut client, version, &["readers"]).await, [("readers".to_owned(), 0)]);
        assert_eq!(delete(&mut client, version, &["readers"]).await, [("readers".to_owned(), 69)]);
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("readers")]);
    let told: DescribeGroupsResponse = client.ask(ApiKey::DescribeGroups, 5, &request).await;
    assert_eq!(&*told.groups[0].group_state, "Dead");
    node.stop().await;
}

#[tokio::test]
async fn offsets_are_deleted_of_topics_that_nobody_reads() {
    let node = Node::with_topic("events").await;
    let created = node.post("/v1/topics").json(&serde_json::json!({"name": "others"})).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let mut client = Client::connect(node.kafka).await;
    let others = commit_request("readers", "others", &[(0, 1)]);
    client.ask::<OffsetCommitResponse>(ApiKey::OffsetCommit, 8, &others).await;
    let mut member = Member::alone(&node, "readers").await;
    assert_eq!(member.commit(&[(0, 2)]).await, [0]);
    let topic = |name: &str, partitions: &[i32]| {
        let partition = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
        let partitions = partitions.iter().map(partition).collect();
        OffsetDeleteRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    };
    let topics = vec![topic("events", &[0]), topic("nowhere", &[0]), topic("others", &[0, -1])];
    let request = OffsetDeleteRequest::default().with_group_id(group_id("readers")).with_topics(topics);
    let told: OffsetDeleteResponse = client.ask(ApiKey::OffsetDelete, 0, &request).await;
    let codes: Vec<Vec<i16>> =
        told.topics.iter().map(|of| of.partitions.iter().map(|of| of.error_code).collect()).collect();
    assert_eq!((told.error_code, codes), (0, vec![vec![86], vec![3], vec![0, 3]]));
    let nobody = request.with_group_id(group_id("nobody"));
    let told: OffsetDeleteResponse = client.ask(ApiKey::OffsetDelete, 0, &nobody).await;
    assert_eq!((told.error_code, told.topics.len()), (69, 0));
    node.stop().await;
}

/// Lists that claim more than there is, in each request that has one.
#[tokio::test]
async fn x1_who_lies_about_groups_is_disconnected_and_the_node_serves_on() {
    let node = Node::with_topic("events").await;
    let many = &[0x7f, 0xff, 0xff, 0xff][..];
    let group = &[0, 1, b'g'][..];
    let member = &[0, 1, b'm'][..];
    let number = &[0, 0, 0, 1][..];
    let lies: [(ApiKey, i16, Vec<&[u8]>); 11] = [
        (ApiKey::JoinGroup, 0, vec![group, number, member, &[0, 1, b'c'], many]),
        // Metadata that is not there.
        (ApiKey::JoinGroup, 0, vec![group, number, member, &[0, 1, b'c'], number, member, many]),
        (ApiKey::SyncGroup, 0, vec![group, number, member, many]),
        (ApiKey::LeaveGroup, 3, vec![group, many]),
        (ApiKey::OffsetCommit, 2, vec![group, number, member, &[0; 8], many]),
        (ApiKey::OffsetCommit, 2, vec![group, number, member, &[0; 8], number, member, many]),
        (ApiKey::OffsetFetch, 1, vec![group, many]),
        // Compactly, as many.
        (ApiKey::OffsetFetch, 8, vec![&[0xff, 0xff, 0xff, 0xff, 0x0f]]),
        (ApiKey::DescribeGroups, 0, vec![many]),
        (ApiKey::DeleteGroups, 0, vec![many]),
        (ApiKey::OffsetDelete, 0, vec![group, many]),
    ];
    for (key, version, parts) in lies {
        let mut client = Client::connect(node.kafka).await;
        let head = [&(key as i16).to_be_bytes()[..], &version.to_be_bytes(), number, &[0, 0]].concat();
        let tags: &[u8] = if key.request_header_version(version) >= 2 { &[0] } else { &[] };
        client.send_frame(&[&head[..], tags, &parts.concat()].concat()).await;
        let mut said = Vec::new();
        // A reset is an end, too.
        let _ = client.socket.read_to_end(&mut said).await;
        assert_eq!(said, b"", "{key:?}");
    }
    let mut member = Member::alone(&node, "readers").await;
    assert_eq!(member.heartbeat().await, 0);
    node.stop().await;
}
