//! Who is in a group, and what each member has to do.

use std::time::{Duration, Instant};

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::{
    ApiKey, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};

use super::{Member, group_id, join_request, text};
use crate::kafka::client::Client;
use crate::node::Node;

#[tokio::test]
async fn a_coordinator_is_found_in_every_version() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    let (host, port) = ("127.0.0.1", i32::from(node.kafka.port()));
    for version in 0..=3 {
        let request = FindCoordinatorRequest::default().with_key(text("readers"));
        let told: FindCoordinatorResponse = client.ask(ApiKey::FindCoordinator, version, &request).await;
        assert_eq!((told.error_code, &*told.host, told.port), (0, host, port), "version {version}");
    }
    let keys = vec![text("readers"), text("others"), text("")];
    let request = FindCoordinatorRequest::default().with_coordinator_keys(keys);
    let told: FindCoordinatorResponse = client.ask(ApiKey::FindCoordinator, 4, &request).await;
    let found: Vec<_> = told.coordinators.iter().map(|of| (&*of.key, of.error_code, of.port)).collect();
    assert_eq!(found, [("readers", 0, port), ("others", 0, port), ("", 24, -1)]);
    node.stop().await;
}

#[tokio::test]
async fn who_looks_for_transactions_is_told_that_there_are_none_yet() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    for version in 1..=4 {
        let request = FindCoordinatorRequest::default().with_key_type(1);
        let request = match version {
            4 => request.with_coordinator_keys(vec![text("payments")]),
            _ => request.with_key(text("payments")),
        };
        let told: FindCoordinatorResponse = client.ask(ApiKey::FindCoordinator, version, &request).await;
        let (code, message) = match told.coordinators.first() {
            Some(coordinator) => (coordinator.error_code, coordinator.error_message.as_ref()),
            None => (told.error_code, told.error_message.as_ref()),
        };
        // The only number with which librdkafka shows the words.
        assert_eq!(code, 53, "version {version}");
        assert!(message.is_some_and(|message| message.contains("not built yet")), "{message:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_member_joins_lives_and_leaves_in_every_version() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=9 {
        let group = format!("readers-{version}");
        let mut request = join_request(&group, "", None);
        let mut joined: JoinGroupResponse = client.ask(ApiKey::JoinGroup, version, &request).await;
        if version >= 4 {
            assert_eq!(joined.error_code, 79, "version {version}");
            request = request.with_member_id(joined.member_id);
            joined = client.ask(ApiKey::JoinGroup, version, &request).await;
        }
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}: {joined:?}");
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
        assert_eq!(joined.protocol_name, Some(text("range")));
        assert_eq!(joined.protocol_type, (version >= 7).then(|| text("consumer")));
        let id = joined.member_id;
        let request = SyncGroupRequest::default().with_group_id(group_id(&group)).with_generation_id(1);
        let request = request.with_member_id(id.clone());
        let request = match version.min(5) {
            5 => request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
            _ => request,
        };
        let synced: SyncGroupResponse = client.ask(ApiKey::SyncGroup, version.min(5), &request).await;
        assert_eq!(synced.error_code, 0, "version {version}");
        let request = HeartbeatRequest::default().with_group_id(group_id(&group)).with_generation_id(1);
        let request = request.with_member_id(id.clone());
        let told: HeartbeatResponse = client.ask(ApiKey::Heartbeat, version.min(4), &request).await;
        assert_eq!(told.error_code, 0, "version {version}");
        assert_eq!(leave(&mut client, &group, &id, version.min(5)).await, 0, "version {version}");
        assert_eq!(leave(&mut client, &group, &id, version.min(5)).await, 25, "version {version}");
    }
    node.stop().await;
}

/// The code of the member.
async fn leave(client: &mut Client, group: &str, member: &str, version: i16) -> i16 {
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    let request = match version {
        3.. => request.with_members(vec![MemberIdentity::default().with_member_id(text(member))]),
        _ => request.with_member_id(text(member)),
    };
    let told: LeaveGroupResponse = client.ask(ApiKey::LeaveGroup, version, &request).await;
    told.members.first().map_or(told.error_code, |member| member.error_code)
}

#[tokio::test]
async fn two_members_share_what_there_is_and_the_generation_grows() {
    let node = Node::with_topic("events").await;
    let mut first = Member::alone(&node, "readers").await;
    let stale = first.generation;
    let mut second = Member::new(&node, "readers", None).await;
    second.ask_for_id().await;
    second.begin_to_join().await;
    first.heartbeats_until(27).await;
    assert_eq!(first.sync(&[]).await.0, 27, "the generation is about to end");
    first.begin_to_join().await;
    let (of_first, of_second) = (first.joined().await, second.joined().await);
    assert_eq!((of_first.error_code, of_second.error_code), (0, 0), "{of_first:?} {of_second:?}");
    assert_eq!((first.generation, second.generation), (stale + 1, stale + 1));
    assert_eq!((&of_first.leader, &of_second.leader), (&text(&first.id), &text(&first.id)));
    assert_eq!((of_first.members.len(), of_second.members.len()), (2, 0), "the leader alone is told of the others");
    assert!(of_first.members.iter().all(|member| member.metadata == super::subscription("events")));
    // Who syncs first waits for the leader.
    second.begin_to_sync(&[]).await;
    let assigned = [(first.id.clone(), "zero"), (second.id.clone(), "one")];
    assert_eq!(first.sync(&assigned).await, (0, "zero".to_owned()));
    assert_eq!(second.synced().await, (0, "one".to_owned()));
    assert_eq!((first.heartbeat().await, second.heartbeat().await), (0, 0));
    // What is of the generation before counts no more.
    second.generation = stale;
    assert_eq!(second.heartbeat().await, 22);
    assert_eq!(second.commit(&[(0, 5)]).await, [22]);
    assert_eq!(second.sync(&[]).await.0, 22);
    second.id = "stranger".to_owned();
    assert_eq!(second.heartbeat().await, 25);
    node.stop().await;
}

#[tokio::test]
async fn who_leaves_has_the_others_join_again() {
    let node = Node::with_topic("events").await;
    let mut first = Member::alone(&node, "readers").await;
    let mut second = Member::new(&node, "readers", None).await;
    second.ask_for_id().await;
    second.begin_to_join().await;
    first.heartbeats_until(27).await;
    first.begin_to_join().await;
    first.joined().await;
    second.joined().await;
    let identity = |id: &str| MemberIdentity::default().with_member_id(text(id));
    let members = vec![identity(&second.id), identity("stranger")];
    let request = LeaveGroupRequest::default().with_group_id(group_id("readers")).with_members(members);
    let told: LeaveGroupResponse = second.client.ask(ApiKey::LeaveGroup, 5, &request).await;
    let codes: Vec<_> = told.members.iter().map(|member| (&*member.member_id, member.error_code)).collect();
    assert_eq!((told.error_code, codes), (0, vec![(second.id.as_str(), 0), ("stranger", 25)]));
    first.heartbeats_until(27).await;
    first.begin_to_join().await;
    let joined = first.joined().await;
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 3, 1));
    node.stop().await;
}

#[tokio::test]
async fn a_static_member_is_replaced_without_a_rebalance() {
    let node = Node::with_topic("events").await;
    let mut before = Member::new(&node, "readers", Some("one")).await;
    before.begin_to_join().await;
    let joined = before.joined().await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1), "a static member has its id at once: {joined:?}");
    assert_eq!(before.sync(&[(before.id.clone(), "all")]).await, (0, "all".to_owned()));
    let mut after = Member::new(&node, "readers", Some("one")).await;
    after.begin_to_join().await;
    let joined = after.joined().await;
    assert_eq!((joined.error_code, after.generation), (0, before.generation), "{joined:?}");
    assert!(joined.skip_assignment, "{joined:?}");
    assert_ne!(after.id, before.id);
    assert_eq!(after.sync(&[]).await, (0, "all".to_owned()));
    assert_eq!((before.heartbeat().await, after.heartbeat().await), (82, 0));
    assert_eq!(before.commit(&[(0, 1)]).await, [82]);
    // By its instance alone, it leaves.
    let one = MemberIdentity::default().with_group_instance_id(Some(text("one")));
    let request = LeaveGroupRequest::default().with_group_id(group_id("readers")).with_members(vec![one]);
    let told: LeaveGroupResponse = after.client.ask(ApiKey::LeaveGroup, 4, &request).await;
    assert_eq!((told.members[0].error_code, told.members[0].group_instance_id.clone()), (0, Some(text("one"))));
    assert_ne!(after.heartbeat().await, 0);
    node.stop().await;
}

#[tokio::test]
async fn joins_that_cannot_be_are_refused_with_kafkas_codes() {
    let node = Node::with_topic("events").await;
    let _first = Member::alone(&node, "readers").await;
    let mut client = Client::connect(node.kafka).await;
    let plain = || join_request("others", "", None);
    let other_kind = join_request("readers", "", None).with_protocol_type(text("connect"));
    for (request, error) in [
        (join_request("", "", None), 24),
        (plain().with_session_timeout_ms(1), 26),
        (plain().with_session_timeout_ms(-1), 26),
        (plain().with_protocols(Vec::new()), 23),
        (other_kind, 23),
        (join_request("readers", "stranger", None), 25),
    ] {
        let told: JoinGroupResponse = client.ask(ApiKey::JoinGroup, 3, &request).await;
        assert_eq!((told.error_code, &told.member_id), (error, &request.member_id), "{told:?}");
    }
    let without_protocol = SyncGroupRequest::default().with_group_id(group_id("readers")).with_protocol_type(None);
    let told: SyncGroupResponse = client.ask(ApiKey::SyncGroup, 5, &without_protocol).await;
    assert_eq!(told.error_code, 23);
    node.stop().await;
}

#[tokio::test]
async fn nobody_waits_for_a_member_whose_client_has_gone_and_a_node_that_stops_for_none() {
    let node = Node::with_topic("events").await;
    let _first = Member::alone(&node, "readers").await;
    // Both wait until the first one joins again, which it never does.
    let mut gone = Member::new(&node, "readers", None).await;
    gone.ask_for_id().await;
    gone.begin_to_join().await;
    drop(gone);
    let mut waits = Member::new(&node, "readers", None).await;
    waits.ask_for_id().await;
    waits.begin_to_join().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    node.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it did not wait for the members");
    assert_eq!(waits.joined().await.error_code, 16, "the member looks for another coordinator");
}
