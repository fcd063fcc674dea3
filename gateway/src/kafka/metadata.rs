//! Metadata: the nodes, the topics, and who leads their partitions.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::{Code, Error, TopicId};
use stratalog_query::TopicInfo;

use super::api::Request;
use super::connection::Client;
use super::operations;
use super::places::{Place, Places};
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, client: &Client, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: MetadataRequest = request.decode()?;
    // Version 0 had no null: there an empty list means all.
    let all = |topics: &[MetadataRequestTopic]| request.version == 0 && topics.is_empty();
    let found = match asked.topics.filter(|topics| !all(topics)) {
        None => every_topic(node).await.into_iter().map(Found::Topic).collect(),
        Some(topics) => {
            let mut found = Vec::with_capacity(topics.len());
            // Each once: an answer is much larger than a name.
            let mut named = BTreeSet::new();
            for topic in topics {
                if named.insert((topic.name.clone(), topic.topic_id)) {
                    found.push(find(node, topic, asked.allow_auto_topic_creation).await);
                }
            }
            found
        }
    };
    let shards: BTreeSet<_> =
        found.iter().filter_map(Found::topic).flat_map(|topic| topic.shards.iter().copied()).collect();
    node.shared.broker.hear_leaders(shards.into_iter()).await;
    // Afterwards, so that it knows the shards of what was just created.
    let places = Places::now(node, client);
    let version = request.version;
    let may_do = operations::if_asked(asked.include_topic_authorized_operations, operations::TOPIC);
    let may_do_here = operations::if_asked(asked.include_cluster_authorized_operations, operations::CLUSTER);
    let told = |found: Found| found.told(&places, version).with_topic_authorized_operations(may_do);
    let response = MetadataResponse::default()
        .with_brokers(places.brokers.iter().map(broker).collect())
        .with_controller_id(places.controller())
        .with_cluster_authorized_operations(may_do_here)
        .with_topics(found.into_iter().map(told).collect());
    request.encode(&if request.version >= 2 { response.with_cluster_id(Some(places.cluster_id())) } else { response })
}

/// All topics; as this node knows them, where no majority says what is new.
async fn every_topic(node: &Node) -> Vec<Arc<TopicInfo>> {
    let broker = &node.shared.broker;
    broker.list_topics().await.unwrap_or_else(|_| broker.topics())
}

/// What became of a topic that was asked for.
enum Found {
    Topic(Arc<TopicInfo>),
    Not { name: Option<TopicName>, id: uuid::Uuid, error: ResponseError },
}

async fn find(node: &Node, asked: MetadataRequestTopic, may_create: bool) -> Found {
    let MetadataRequestTopic { topic_id, name, .. } = asked;
    // A client that goes by the id may leave the name empty, and not null.
    let name = name.filter(|_| topic_id.is_nil());
    let broker = &node.shared.broker;
    let found = match &name {
        Some(name) => match by_name(node, name).await {
            Err(error) if error.code == Code::UnknownTopic && may_create && node.shares.options.auto_create_topics => {
                create(node, name).await
            }
            found => found,
        },
        None => broker.find_topic_by_id(TopicId(topic_id)).await,
    };
    match found {
        Ok(topic) => Found::Topic(topic),
        Err(error) => {
            let of_id = name.is_none() && error.code == Code::UnknownTopic;
            let error = if of_id { ResponseError::UnknownTopicId } else { errors::of_topic(error.code) };
            Found::Not { name, id: topic_id, error }
        }
    }
}

async fn by_name(node: &Node, name: &str) -> Result<Arc<TopicInfo>, Error> {
    check_topic_name(name)?;
    node.shared.broker.find_topic(name).await
}

/// Creates a topic with the settings that topics have that ask for none, as Kafka does.
async fn create(node: &Node, name: &str) -> Result<Arc<TopicInfo>, Error> {
    let broker = &node.shared.broker;
    match broker.create_topic(name, 0, TopicConfig::default()).await {
        // Somebody else was faster.
        Err(error) if error.code == Code::TopicExists => broker.find_topic(name).await,
        created => {
            if created.is_ok() {
                tracing::info!(topic = name, "a Kafka client asked for a topic that was not there: it was created");
            }
            created
        }
    }
}

impl Found {
    fn topic(&self) -> Option<&TopicInfo> {
        if let Found::Topic(topic) = self { Some(topic) } else { None }
    }

    fn told(self, places: &Places, version: i16) -> MetadataResponseTopic {
        let (with_ids, with_epochs) = (version >= 10, version >= 7);
        let told = MetadataResponseTopic::default();
        match self {
            Found::Topic(topic) => {
                let told = told
                    .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
                    .with_partitions(partitions(&topic, places, with_epochs));
                if with_ids { told.with_topic_id(topic.id.0) } else { told }
            }
            Found::Not { name, id, error } => {
                let told = told.with_name(name).with_error_code(error.code());
                if with_ids { told.with_topic_id(id) } else { told }
            }
        }
    }
}

fn partitions(topic: &TopicInfo, places: &Places, with_epochs: bool) -> Vec<MetadataResponsePartition> {
    let partition = |(index, shard)| {
        let (leader, epoch) = places.lead(shard);
        let mut replicas = places.replicas(shard);
        // Clients look for the leader among them.
        if !replicas.contains(&leader) {
            replicas.push(leader);
        }
        let (offline, in_sync) = replicas.iter().copied().partition(|replica| places.is_away(*replica));
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(leader)
            .with_leader_epoch(if with_epochs { epoch } else { -1 })
            .with_isr_nodes(in_sync)
            .with_offline_replicas(offline)
            .with_replica_nodes(replicas)
    };
    (0..).zip(topic.shards.iter().copied()).map(partition).collect()
}

fn broker(place: &Place) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(place.id)
        .with_host(place.host.clone())
        .with_port(place.port)
        .with_rack(place.rack.clone())
}
