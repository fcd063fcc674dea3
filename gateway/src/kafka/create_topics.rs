//! CreateTopics.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::{Code, Error};
use stratalog_query::TopicInfo;

use super::Node;
use super::altering::repeated;
use super::api::Request;
use super::configs::{set, shown};
use super::errors::Refused;
use super::wire::Malformed;

/// Sources of a value.
const OF_TOPIC: i8 = 1;
const DEFAULT: i8 = 5;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: CreateTopicsRequest = request.decode()?;
    let repeated = repeated(asked.topics.iter().map(|topic| &topic.name));
    let copies = node.shared.broker.layout().replication();
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let created = match repeated.contains(&topic.name) {
            false => create(node, topic, asked.validate_only, copies).await,
            true => Err(Refused::new(ResponseError::InvalidRequest, "a request names each topic once")),
        };
        topics.push(told(topic, created, request.version, copies));
    }
    request.encode(&CreateTopicsResponse::default().with_topics(topics))
}

/// What was made, or would be.
enum Created {
    Topic(Arc<TopicInfo>),
    Valid,
}

async fn create(node: &Node, asked: &CreatableTopic, validate_only: bool, copies: u32) -> Result<Created, Refused> {
    if !asked.assignments.is_empty() {
        let message = "replicas are placed by shards, not by partitions: leave the assignment out, and name a replication \
                       factor";
        return Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
    }
    let partitions = match asked.num_partitions {
        -1 => 0,
        count => u32::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| Refused::new(ResponseError::InvalidPartitions, "a topic has at least one partition"))?,
    };
    let config = config(asked, copies)?;
    let broker = &node.shared.broker;
    if !validate_only {
        return match broker.create_topic(&asked.name, partitions, config).await {
            Ok(topic) => Ok(Created::Topic(topic)),
            // Too many partitions.
            Err(error) if error.code == Code::InvalidRequest => {
                Err(Refused::new(ResponseError::InvalidPartitions, &error.message))
            }
            Err(error) => Err(error.into()),
        };
    }
    check_topic_name(&asked.name)?;
    config.check()?;
    match broker.find_topic(&asked.name).await {
        Ok(_) => {
            let message = format!("topic `{}` is already there", &*asked.name);
            Err(Error::new(Code::TopicExists, message).into())
        }
        Err(error) if error.code == Code::UnknownTopic => Ok(Created::Valid),
        Err(error) => Err(error.into()),
    }
}

fn config(asked: &CreatableTopic, copies: u32) -> Result<TopicConfig, Refused> {
    let mut config = TopicConfig::default();
    if asked.replication_factor != -1 {
        let set = config.set("replication", &asked.replication_factor.to_string());
        set.map_err(|error| Refused::new(ResponseError::InvalidReplicationFactor, &error.message))?;
    }
    for setting in &asked.configs {
        if let Some(value) = &setting.value {
            set(&mut config, &setting.name, value, copies)?;
        }
    }
    Ok(config)
}

fn told(asked: &CreatableTopic, created: Result<Created, Refused>, version: i16, copies: u32) -> CreatableTopicResult {
    let told = CreatableTopicResult::default().with_name(asked.name.clone());
    match created {
        Err(refused) => told.with_error_code(refused.number).with_error_message(Some(refused.message)),
        Ok(Created::Topic(topic)) if version >= 5 => {
            let told = told
                .with_num_partitions(topic.partitions as i32)
                .with_replication_factor(topic.config.replication.unwrap_or(copies) as i16)
                .with_configs(Some(shown(&topic.config, copies).into_iter().map(told_of).collect()));
            if version >= 7 { told.with_topic_id(topic.id.0) } else { told }
        }
        Ok(_) => told,
    }
}

fn told_of(setting: super::configs::Shown) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(StrBytes::from_static_str(setting.name))
        .with_value(Some(StrBytes::from_string(setting.value)))
        .with_read_only(setting.is_fixed)
        .with_config_source(if setting.is_set { OF_TOPIC } else { DEFAULT })
}
