//! Consumer groups.

mod commits;
mod members;
mod operated;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse, SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::client::Client;
use crate::node::Node;

const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// What a consumer says of itself: version 0, and the topics that it reads.
fn subscription(topic: &str) -> Bytes {
    let name = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes()].concat();
    [&[0, 0, 0, 0, 0, 1][..], &name, &(-1_i32).to_be_bytes()].concat().into()
}

/// What a leader assigns to a consumer.
pub(crate) fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let name = [&(topic.len() as u16).to_be_bytes()[..], topic.as_bytes()].concat();
    let count = (partitions.len() as i32).to_be_bytes();
    let partitions: Vec<u8> = partitions.iter().flat_map(|of| of.to_be_bytes()).collect();
    [&[0, 0, 0, 0, 0, 1][..], &name, &count, &partitions, &(-1_i32).to_be_bytes()].concat().into()
}

fn join_request(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let protocol =
        |name| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription("events"));
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range"), protocol("roundrobin")])
}

/// A member of a group, on a connection of its own.
pub(crate) struct Member {
    client: Client,
    group: String,
    pub(crate) id: String,
    instance: Option<String>,
    generation: i32,
}

impl Member {
    async fn new(node: &Node, group: &str, instance: Option<&str>) -> Self {
        let client = Client::connect(node.kafka).await;
        let instance = instance.map(str::to_owned);
        Self { client, group: group.to_owned(), id: String::new(), instance, generation: -1 }
    }

    /// A member that has joined alone, and waits for what it assigns.
    pub(crate) async fn joined_alone(node: &Node, group: &str) -> Self {
        let mut member = Self::new(node, group, None).await;
        member.ask_for_id().await;
        member.begin_to_join().await;
        let joined = member.joined().await;
        assert_eq!((joined.error_code, joined.members.len()), (0, 1), "{joined:?}");
        member
    }

    /// A member that is all its group.
    pub(crate) async fn alone(node: &Node, group: &str) -> Self {
        let mut member = Self::joined_alone(node, group).await;
        let only = [(member.id.clone(), "all")];
        assert_eq!(member.sync(&only).await, (0, "all".to_owned()));
        member
    }

    /// The first of the two joins.
    async fn ask_for_id(&mut self) {
        self.begin_to_join().await;
        let told = self.client.receive::<JoinGroupResponse>(ApiKey::JoinGroup, JOIN, 0).await;
        assert_eq!((told.error_code, told.generation_id), (79, -1), "{told:?}");
        assert!(!told.member_id.is_empty());
        self.id = told.member_id.to_string();
    }

    async fn begin_to_join(&mut self) {
        let request = join_request(&self.group, &self.id, self.instance.as_deref());
        self.client.send(ApiKey::JoinGroup, JOIN, &request).await;
    }

    async fn joined(&mut self) -> JoinGroupResponse {
        let told: JoinGroupResponse = self.client.receive(ApiKey::JoinGroup, JOIN, 0).await;
        if told.error_code == 0 {
            (self.id, self.generation) = (told.member_id.to_string(), told.generation_id);
        }
        told
    }

    async fn begin_to_sync(&mut self, assignments: &[(String, &str)]) {
        let assigned = |(member, text): &(String, &str)| (member.clone(), Bytes::copy_from_slice(text.as_bytes()));
        self.begin_to_sync_bytes(assignments.iter().map(assigned).collect()).await;
    }

    async fn begin_to_sync_bytes(&mut self, assignments: Vec<(String, Bytes)>) {
        let assignment = |(member, bytes): (String, Bytes)| {
            SyncGroupRequestAssignment::default().with_member_id(text(&member)).with_assignment(bytes)
        };
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.into_iter().map(assignment).collect());
        self.client.send(ApiKey::SyncGroup, SYNC, &request).await;
    }

    /// The code, and what is assigned.
    async fn synced(&mut self) -> (i16, String) {
        let told: SyncGroupResponse = self.client.receive(ApiKey::SyncGroup, SYNC, 0).await;
        if told.error_code == 0 {
            assert_eq!(told.protocol_name, Some(text("range")), "{told:?}");
        }
        (told.error_code, String::from_utf8(told.assignment.to_vec()).unwrap())
    }

    async fn sync(&mut self, assignments: &[(String, &str)]) -> (i16, String) {
        self.begin_to_sync(assignments).await;
        self.synced().await
    }

    /// Assigns to itself; the code.
    pub(crate) async fn sync_bytes(&mut self, assignment: &Bytes) -> i16 {
        self.begin_to_sync_bytes(vec![(self.id.clone(), assignment.clone())]).await;
        self.client.receive::<SyncGroupResponse>(ApiKey::SyncGroup, SYNC, 0).await.error_code
    }

    /// The code.
    pub(crate) async fn leave(&mut self) -> i16 {
        let request = LeaveGroupRequest::default().with_group_id(group_id(&self.group)).with_member_id(text(&self.id));
        self.client.ask::<LeaveGroupResponse>(ApiKey::LeaveGroup, 2, &request).await.error_code
    }

    /// The code.
    async fn heartbeat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        let told: HeartbeatResponse = self.client.ask(ApiKey::Heartbeat, HEARTBEAT, &request).await;
        told.error_code
    }

    /// Heartbeats until they are answered with this.
    async fn heartbeats_until(&mut self, code: i16) {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while self.heartbeat().await != code {
            assert!(tokio::time::Instant::now() < until, "no heartbeat was answered with {code}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The codes.
    async fn commit(&mut self, partitions: &[(i32, i64)]) -> Vec<i16> {
        let request = commit_request(&self.group, "events", partitions)
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        let told: OffsetCommitResponse = self.client.ask(ApiKey::OffsetCommit, 9, &request).await;
        told.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
    }
}

/// Of nobody in particular, with `at N` beside each offset.
pub(crate) fn commit_request(group: &str, topic: &str, partitions: &[(i32, i64)]) -> OffsetCommitRequest {
    let partition = |(index, offset): &(i32, i64)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text(&format!("at {offset}"))))
    };
    let partitions = partitions.iter().map(partition).collect();
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(partitions);
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}
