//! Topics, nodes and settings.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeClusterRequest, DescribeClusterResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest, MetadataResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::client::Client;
use crate::node::Node;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn about(topics: &[&str]) -> MetadataRequest {
    let topics = topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
    MetadataRequest::default().with_topics(Some(topics.collect()))
}

#[tokio::test]
async fn every_version_that_is_announced_is_answered() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=4 {
        let request = ApiVersionsRequest::default();
        let told: ApiVersionsResponse = client.ask(ApiKey::ApiVersions, version, &request).await;
        let produce = told.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 12), "librdkafka compresses only from 0 on");
        assert!(told.api_keys.iter().all(|api| api.api_key != 71 && api.api_key != 24), "not built");
    }
    for version in 0..=12 {
        let told: MetadataResponse = client.ask(ApiKey::Metadata, version, &about(&["events"])).await;
        let topic = &told.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 2), "version {version}");
        let leader = topic.partitions[0].leader_id;
        let broker = told.brokers.iter().find(|broker| broker.node_id == leader).unwrap();
        assert_eq!((&*broker.host, broker.port), ("127.0.0.1", i32::from(node.kafka.port())));
        assert!(topic.partitions[0].replica_nodes.contains(&leader));
    }
    for version in 0..=1 {
        let request = DescribeClusterRequest::default();
        let told: DescribeClusterResponse = client.ask(ApiKey::DescribeCluster, version, &request).await;
        assert_eq!((told.error_code, told.brokers.len()), (0, 1));
        assert!(!told.cluster_id.is_empty());
    }
    assert!(node.metric("stratalog_gateway_kafka_requests_total{request=\"Metadata\"}").await >= 13.0);
    node.stop().await;
}

/// librdkafka asks for all topics with three bytes behind the last field, from version 9 on.
#[tokio::test]
async fn all_topics_are_told_though_bytes_lie_behind_the_request() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let request = [&[0, 3, 0, 12, 0, 0, 0, 3, 0, 7][..], b"rdkafka", &[0, 0, 0, 0, 0, 1, 0, 0]].concat();
    client.send_frame(&request).await;
    let mut answer = client.receive_frame().await.expect("there is an answer");
    // The correlation id, and no tagged fields.
    assert_eq!(answer.split_to(5)[..], [0, 0, 0, 3, 0]);
    let told = MetadataResponse::decode(&mut answer, 12).unwrap();
    assert_eq!(told.topics[0].name, Some(name("events")));
    node.stop().await;
}

#[tokio::test]
async fn a_version_of_api_versions_that_is_not_known_is_answered_with_those_that_are() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    client.send_frame(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'x']).await;
    let frame = client.receive_frame().await.unwrap();
    assert_eq!(&frame[..], [0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    let told: ApiVersionsResponse = client.ask(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default()).await;
    assert_eq!(told.error_code, 0, "the connection goes on");
    node.stop().await;
}

#[tokio::test]
async fn topics_come_and_go() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    for version in 2..=7 {
        let topic = format!("made-{version}");
        let setting = |key: &'static str, value: &'static str| {
            CreatableTopicConfig::default().with_name(key.into()).with_value(Some(value.into()))
        };
        let asked = CreatableTopic::default()
            .with_name(name(&topic))
            .with_num_partitions(3)
            .with_replication_factor(-1)
            .with_configs(vec![setting("retention.ms", "60000"), setting("cleanup.policy", "delete")]);
        let request = CreateTopicsRequest::default().with_topics(vec![asked.clone()]).with_timeout_ms(9_000);
        let tried: CreateTopicsResponse =
            client.ask(ApiKey::CreateTopics, version, &request.clone().with_validate_only(true)).await;
        assert_eq!(tried.topics[0].error_code, 0);
        let made: CreateTopicsResponse = client.ask(ApiKey::CreateTopics, version, &request).await;
        assert_eq!(made.topics[0].error_code, 0, "{made:?}");
        let again: CreateTopicsResponse = client.ask(ApiKey::CreateTopics, version, &request).await;
        assert_eq!(again.topics[0].error_code, 36);
    }
    let all: MetadataResponse = client.ask(ApiKey::Metadata, 9, &MetadataRequest::default().with_topics(None)).await;
    assert_eq!(all.topics.len(), 6);
    for version in 1..=6 {
        let topic = format!("made-{}", version + 1);
        let request = match version {
            6 => DeleteTopicsRequest::default()
                .with_topics(vec![DeleteTopicState::default().with_name(Some(name(&topic)))]),
            _ => DeleteTopicsRequest::default().with_topic_names(vec![name(&topic)]),
        };
        let gone: DeleteTopicsResponse = client.ask(ApiKey::DeleteTopics, version, &request).await;
        assert_eq!(gone.responses[0].error_code, 0, "{gone:?}");
        let again: DeleteTopicsResponse = client.ask(ApiKey::DeleteTopics, version, &request).await;
        assert_eq!(again.responses[0].error_code, 3);
    }
    node.stop().await;
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_with_kafkas_codes() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let plain = || CreatableTopic::default().with_num_partitions(1).with_replication_factor(-1);
    let with = |key: &'static str, value: &'static str| {
        let setting = CreatableTopicConfig::default().with_name(key.into()).with_value(Some(value.into()));
        plain().with_name(name("t")).with_configs(vec![setting])
    };
    for (topic, error) in [
        (plain().with_name(name("a/b")), 17),
        (plain().with_name(name("t")).with_num_partitions(0), 37),
        (plain().with_name(name("t")).with_replication_factor(99), 38),
        (plain().with_name(name("t")).with_assignments(vec![Default::default()]), 39),
        (with("cleanup.policy", "compact"), 40),
        (with("no.such", "1"), 40),
        (plain().with_name(name("events")), 36),
    ] {
        let request = CreateTopicsRequest::default().with_topics(vec![topic]);
        let told: CreateTopicsResponse = client.ask(ApiKey::CreateTopics, 7, &request).await;
        assert_eq!(told.topics[0].error_code, error, "{told:?}");
        assert!(told.topics[0].error_message.is_some());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_topic_that_a_client_asks_for_is_created_if_it_lets_be() {
    let node = Node::start().await;
    let mut client = Client::connect(node.kafka).await;
    let without = about(&["wanted"]).with_allow_auto_topic_creation(false);
    let told: MetadataResponse = client.ask(ApiKey::Metadata, 12, &without).await;
    assert_eq!(told.topics[0].error_code, 3);
    let told: MetadataResponse = client.ask(ApiKey::Metadata, 12, &about(&["wanted", "not/a/name"])).await;
    assert_eq!((told.topics[0].error_code, told.topics[0].partitions.len()), (0, 4));
    assert_eq!(told.topics[1].error_code, 17);
    // Kafka's own Java client leaves the name empty where it goes by the id.
    for unnamed in [None, Some(name(""))] {
        let by_id = MetadataRequestTopic::default().with_name(unnamed).with_topic_id(told.topics[0].topic_id);
        let request = MetadataRequest::default().with_topics(Some(vec![by_id]));
        let again: MetadataResponse = client.ask(ApiKey::Metadata, 12, &request).await;
        assert_eq!(again.topics[0].name.as_ref().map(|name| &***name), Some("wanted"));
    }
    node.stop().await;
}

#[tokio::test]
async fn settings_are_shown_by_kafkas_names() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 1..=4 {
        let resource = |kind, name: &'static str| {
            DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(name.into())
        };
        let some = resource(2, "events").with_configuration_keys(Some(vec!["retention.ms".into(), "nothing".into()]));
        let all = resource(2, "events").with_configuration_keys(None);
        let missing = resource(2, "nowhere").with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![some, missing]);
        let told: DescribeConfigsResponse = client.ask(ApiKey::DescribeConfigs, version, &request).await;
        let [some, missing] = &told.results[..] else { panic!("{told:?}") };
        let request = DescribeConfigsRequest::default().with_resources(vec![all]);
        let told: DescribeConfigsResponse = client.ask(ApiKey::DescribeConfigs, version, &request).await;
        let [all] = &told.results[..] else { panic!("{told:?}") };
        assert_eq!((&*some.configs[0].name, some.configs[0].value.as_deref()), ("retention.ms", Some("-1")));
        assert_eq!(some.configs.len(), 1);
        assert!(all.configs.iter().any(|setting| &*setting.name == "cleanup.policy" && setting.read_only));
        assert_eq!(missing.error_code, 3);
    }
    node.stop().await;
}

#[tokio::test]
async fn records_are_deleted_and_epochs_end_where_the_log_does() {
    let node = Node::with_topic("events").await;
    node.produce("events", "{\"a\":1}\n".repeat(10)).await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=2 {
        let partition =
            |index, offset| DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name("events")).with_partitions(vec![
            partition(0, -1),
            partition(1, 1_000),
            partition(9, 0),
            partition(1, -5),
        ]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(1_000);
        let told: DeleteRecordsResponse = client.ask(ApiKey::DeleteRecords, version, &request).await;
        let codes: Vec<i16> = told.topics[0].partitions.iter().map(|partition| partition.error_code).collect();
        assert_eq!(codes, [0, 1, 3, 1], "version {version}");
        assert!(told.topics[0].partitions[0].low_watermark >= 0);
    }
    for version in 2..=4 {
        let partition = OffsetForLeaderPartition::default().with_partition(1).with_leader_epoch(1_000_000);
        let topic = OffsetForLeaderTopic::default().with_topic(name("events")).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let told: OffsetForLeaderEpochResponse = client.ask(ApiKey::OffsetForLeaderEpoch, version, &request).await;
        assert_eq!(told.topics[0].partitions[0].error_code, 0, "{told:?}");
    }
    node.stop().await;
}
