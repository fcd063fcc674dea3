//! CreatePartitions: topics grow.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use stratalog_proto::{Code, Error};
use stratalog_query::TopicChange;

use super::Node;
use super::altering::repeated;
use super::api::Request;
use super::errors::Refused;
use super::wire::Malformed;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: CreatePartitionsRequest = request.decode()?;
    let repeated = repeated(asked.topics.iter().map(|topic| &topic.name));
    let mut results = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let grown = match repeated.contains(&topic.name) {
            false => grow(node, topic, asked.validate_only).await,
            true => Err(Refused::new(ResponseError::InvalidRequest, "a request names each topic once")),
        };
        let told = CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
        results.push(match grown {
            Ok(()) => told,
            Err(refused) => told.with_error_code(refused.number).with_error_message(Some(refused.message)),
        });
    }
    request.encode(&CreatePartitionsResponse::default().with_results(results))
}

async fn grow(node: &Node, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    if asked.assignments.is_some() {
        let message = "replicas are placed by shards, not by partitions: leave the assignment out";
        return Err(Refused::new(ResponseError::InvalidReplicaAssignment, message));
    }
    let broker = &node.shared.broker;
    let (name, there) = (&*asked.name, broker.current_topic(&asked.name).await?.partitions);
    let Some(partitions) = u32::try_from(asked.count).ok().filter(|count| *count > there) else {
        let message = format!("topic `{name}` has {there} partitions, which may only become more");
        return Err(Refused::new(ResponseError::InvalidPartitions, &message));
    };
    let change = TopicChange { partitions: Some(partitions), ..TopicChange::default() };
    let grown = match validate_only {
        true => broker.check_change(name, &change).await,
        false => broker.change_topic(name, &change).await.map(drop),
    };
    grown.map_err(|error: Error| match error.code {
        // Too many, or somebody else was faster.
        Code::InvalidRequest => Refused::new(ResponseError::InvalidPartitions, &error.message),
        _ => error.into(),
    })
}
