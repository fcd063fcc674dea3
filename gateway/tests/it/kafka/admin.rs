//! Changing topics, and asking nodes about themselves.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ApiKey, BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, DescribeClusterRequest,
    DescribeClusterResponse, DescribeConfigsRequest, DescribeConfigsResponse, DescribeLogDirsRequest,
    DescribeLogDirsResponse, ElectLeadersRequest, ElectLeadersResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    ProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::batch::Compression;

use super::client::Client;
use super::log::{batch, name, produce};
use crate::node::Node;

const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;

/// Settings of a resource, as pairs of name and value.
pub(super) async fn settings(client: &mut Client, kind: i8, of: &str) -> Vec<(String, String)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(of.to_owned()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let told: DescribeConfigsResponse = client.ask(ApiKey::DescribeConfigs, 4, &request).await;
    assert_eq!(told.results[0].error_code, 0, "{told:?}");
    let pair = |config: &kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult| {
        (config.name.to_string(), config.value.as_deref().unwrap_or_default().to_owned())
    };
    told.results[0].configs.iter().map(pair).collect()
}

async fn setting(client: &mut Client, key: &str) -> String {
    let all = settings(client, TOPIC, "events").await;
    all.into_iter().find(|(name, _)| name == key).unwrap().1
}

/// Sets (0) and deletes (1) settings of a resource; its error.
async fn change(client: &mut Client, version: i16, kind: i8, of: &str, ops: &[(i8, &str, &str)], dry: bool) -> i16 {
    let config = |&(operation, name, value): &(i8, &str, &str)| {
        incremental::AlterableConfig::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_config_operation(operation)
            .with_value((operation != 1).then(|| StrBytes::from_string(value.to_owned())))
    };
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(of.to_owned()))
        .with_configs(ops.iter().map(config).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(dry);
    let told: IncrementalAlterConfigsResponse = client.ask(ApiKey::IncrementalAlterConfigs, version, &request).await;
    let told = &told.responses[0];
    assert_eq!(told.error_code != 0, told.error_message.as_ref().is_some_and(|why| why.len() > 10), "{told:?}");
    told.error_code
}

#[tokio::test]
async fn settings_change_one_by_one() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=1 {
        let ops = [(0, "retention.ms", "60000"), (0, "max.message.bytes", "4096"), (0, "cleanup.policy", "delete")];
        assert_eq!(change(&mut client, version, TOPIC, "events", &ops, true).await, 0);
        assert_eq!(setting(&mut client, "retention.ms").await, "-1", "it was only looked at");
        assert_eq!(change(&mut client, version, TOPIC, "events", &ops, false).await, 0);
        assert_eq!(setting(&mut client, "retention.ms").await, "60000");
        assert_eq!(change(&mut client, version, TOPIC, "events", &[(1, "retention.ms", "")], false).await, 0);
        assert_eq!(setting(&mut client, "retention.ms").await, "-1");
        assert_eq!(setting(&mut client, "max.message.bytes").await, "4096", "the others stay");
        // Of a node, what was never set is deleted by Kafka's tools once they have moved a replica.
        let throttle = [(1, "leader.replication.throttled.rate", "")];
        assert_eq!(change(&mut client, version, BROKER, "1", &throttle, false).await, 0);
    }
    node.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_and_nothing_changes() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let before = settings(&mut client, TOPIC, "events").await;
    for dry in [true, false] {
        for (kind, of, op, error) in [
            (TOPIC, "events", (0, "cleanup.policy", "compact"), 40),
            (TOPIC, "events", (0, "no.such", "1"), 40),
            (TOPIC, "events", (1, "no.such", ""), 40),
            (TOPIC, "events", (0, "max.message.bytes", "1"), 40),
            (TOPIC, "events", (0, "bucket", "13m"), 40),
            (TOPIC, "events", (0, "retention.ms", "9"), 42),
            (TOPIC, "events", (2, "cleanup.policy", "delete"), 40),
            (TOPIC, "events", (3, "cleanup.policy", "delete"), 40),
            (TOPIC, "events", (9, "cleanup.policy", "delete"), 42),
            (TOPIC, "nowhere", (0, "retention.bytes", "9"), 3),
            (BROKER, "1", (0, "num.partitions", "9"), 42),
            (BROKER, "1", (3, "leader.replication.throttled.rate", "9"), 40),
            (8, "1", (0, "x", "y"), 42),
        ] {
            // What is right before it is not done either; a setting is named once.
            let told = change(&mut client, 1, kind, of, &[(0, "retention.ms", "5"), op], dry).await;
            assert_eq!(told, error, "{op:?} of {of}");
        }
    }
    let resource = incremental::AlterConfigsResource::default().with_resource_type(TOPIC);
    let twice = vec![resource.with_resource_name("events".into()); 2];
    let request = IncrementalAlterConfigsRequest::default().with_resources(twice);
    let told: IncrementalAlterConfigsResponse = client.ask(ApiKey::IncrementalAlterConfigs, 1, &request).await;
    assert_eq!(told.responses.iter().map(|told| told.error_code).collect::<Vec<_>>(), [42, 42]);
    assert_eq!(settings(&mut client, TOPIC, "events").await, before);
    node.stop().await;
}

#[tokio::test]
async fn all_settings_change_at_once_and_ours_stay() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let ops = [(0, "retention.bytes", "1000000"), (0, "time.field", "ts")];
    assert_eq!(change(&mut client, 1, TOPIC, "events", &ops, false).await, 0);
    for version in 0..=2 {
        let config = AlterableConfig::default().with_name("retention.ms".into()).with_value(Some("70000".into()));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name("events".into())
            .with_configs(vec![config.clone()]);
        let node_itself = resource.clone().with_resource_type(BROKER).with_resource_name("1".into());
        let empty = resource.clone().with_resource_name("e".into()).with_configs(vec![config.with_value(None)]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource, node_itself, empty]);
        let told: AlterConfigsResponse = client.ask(ApiKey::AlterConfigs, version, &request).await;
        assert_eq!(told.responses.iter().map(|told| told.error_code).collect::<Vec<_>>(), [0, 42, 42]);
        for (key, value) in [("retention.ms", "70000"), ("retention.bytes", "-1"), ("time.field", "ts")] {
            assert_eq!(setting(&mut client, key).await, value, "{key}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_tells_its_own_settings() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let told: DescribeClusterResponse =
        client.ask(ApiKey::DescribeCluster, 0, &DescribeClusterRequest::default()).await;
    let me = told.brokers[0].broker_id.0.to_string();
    let shown = settings(&mut client, BROKER, &me).await;
    assert!(shown.is_sorted());
    for (key, value) in [("broker.id", me.as_str()), ("num.partitions", "4"), ("max.connections", "10000")] {
        assert!(shown.contains(&(key.to_owned(), value.to_owned())), "{shown:?}");
    }
    assert_eq!(settings(&mut client, BROKER, "").await, []);
    let other = DescribeConfigsResource::default().with_resource_type(BROKER).with_resource_name("99".into());
    let request = DescribeConfigsRequest::default().with_resources(vec![other.with_configuration_keys(None)]);
    let told: DescribeConfigsResponse = client.ask(ApiKey::DescribeConfigs, 4, &request).await;
    assert_eq!(told.results[0].error_code, 42);
    node.stop().await;
}

#[tokio::test]
async fn topics_get_more_partitions_and_never_fewer() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=3 {
        let count = 3 + i32::from(version);
        let grow = |topic: &str, count: i32| {
            CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None)
        };
        let assigned = grow("events", 90).with_assignments(Some(vec![CreatePartitionsAssignment::default()]));
        let ask = |topics: Vec<CreatePartitionsTopic>, dry: bool| {
            CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(9_000).with_validate_only(dry)
        };
        for (topics, dry, errors) in [
            (vec![grow("events", count), grow("nowhere", 9)], true, vec![0, 3]),
            (vec![grow("events", count)], false, vec![0]),
            (vec![grow("events", count)], false, vec![37]),
            (vec![grow("events", 1)], false, vec![37]),
            (vec![grow("events", -1)], true, vec![37]),
            (vec![grow("events", 1_000_000)], true, vec![37]),
            (vec![assigned], false, vec![39]),
            (vec![grow("events", 90), grow("events", 91)], false, vec![42, 42]),
        ] {
            let told: CreatePartitionsResponse = client.ask(ApiKey::CreatePartitions, version, &ask(topics, dry)).await;
            assert_eq!(told.results.iter().map(|told| told.error_code).collect::<Vec<_>>(), errors, "{told:?}");
        }
        let records = batch(&[r#"{"a":1}"#], Compression::None);
        let request = produce("events", -1, &[(count - 1, records)]);
        let told: ProduceResponse = client.ask(ApiKey::Produce, 9, &request).await;
        assert_eq!(told.responses[0].partition_responses[0].error_code, 0, "the new partition takes records");
    }
    let rows = node.sql("SELECT count(*) FROM events", &serde_json::json!({"tokens": []})).await;
    assert!(rows["rows"].is_array(), "{rows}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_tells_what_it_has_on_its_disk() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    let records = batch(&[r#"{"a":1}"#], Compression::None);
    let bytes = records.len() as i64;
    let _: ProduceResponse = client.ask(ApiKey::Produce, 9, &produce("events", -1, &[(1, records)])).await;
    for version in 1..=4 {
        let topic = DescribableLogDirTopic::default().with_topic(name("events")).with_partitions(vec![1, 7]);
        let other = DescribableLogDirTopic::default().with_topic(name("nowhere")).with_partitions(vec![0]);
        for (topics, expected) in [(None, vec![(0, 0), (1, bytes)]), (Some(vec![topic, other]), vec![(1, bytes)])] {
            let request = DescribeLogDirsRequest::default().with_topics(topics);
            let told: DescribeLogDirsResponse = client.ask(ApiKey::DescribeLogDirs, version, &request).await;
            let dir = &told.results[0];
            assert_eq!((dir.error_code, dir.log_dir.is_empty(), dir.topics.len()), (0, false, 1));
            assert_eq!(dir.total_bytes > dir.usable_bytes, version == 4, "{dir:?}");
            let partitions = dir.topics[0].partitions.iter();
            let shown: Vec<_> = partitions.map(|told| (told.partition_index, told.partition_size)).collect();
            assert_eq!(shown, expected);
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn leaders_and_replicas_are_as_they_are() {
    let node = Node::with_topic("events").await;
    let mut client = Client::connect(node.kafka).await;
    for version in 0..=2 {
        for kind in if version == 0 { 0..=0 } else { 0..=1 } {
            let topic = |of: &str| TopicPartitions::default().with_topic(name(of)).with_partitions(vec![0, 9]);
            let request = ElectLeadersRequest::default().with_election_type(kind).with_timeout_ms(1_000);
            let some = request.clone().with_topic_partitions(Some(vec![topic("events"), topic("nowhere")]));
            let told: ElectLeadersResponse = client.ask(ApiKey::ElectLeaders, version, &some).await;
            let codes = told.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
            let codes: Vec<i16> = codes.map(|told| told.error_code).collect();
            assert_eq!(codes, [84, 3, 3, 3], "version {version}, kind {kind}");
            let all: ElectLeadersResponse =
                client.ask(ApiKey::ElectLeaders, version, &request.with_topic_partitions(None)).await;
            assert_eq!((all.error_code, all.replica_election_results.len()), (0, 0));
        }
    }
    let request = ListPartitionReassignmentsRequest::default().with_topics(None);
    let told: ListPartitionReassignmentsResponse = client.ask(ApiKey::ListPartitionReassignments, 0, &request).await;
    assert_eq!((told.error_code, told.topics.len()), (0, 0));

    let to = |index: i32, nodes: Option<Vec<i32>>| {
        let replicas = nodes.map(|nodes| nodes.into_iter().map(BrokerId).collect());
        ReassignablePartition::default().with_partition_index(index).with_replicas(replicas)
    };
    let partitions = vec![to(0, Some(vec![1])), to(0, Some(vec![1, 2])), to(1, None), to(9, Some(vec![1]))];
    let topic = ReassignableTopic::default().with_name(name("events")).with_partitions(partitions);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let told: AlterPartitionReassignmentsResponse = client.ask(ApiKey::AlterPartitionReassignments, 0, &request).await;
    let codes: Vec<i16> = told.responses[0].partitions.iter().map(|told| told.error_code).collect();
    assert_eq!((told.error_code, codes), (0, vec![0, 39, 85, 3]));
    node.stop().await;
}
