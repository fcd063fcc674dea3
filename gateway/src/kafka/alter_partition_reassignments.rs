//! AlterPartitionReassignments: replicas belong to shards, which `stratalog cluster move` moves.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId};
use stratalog_query::TopicInfo;

use super::Node;
use super::api::Request;
use super::connection::Client;
use super::errors::Refused;
use super::places::Places;
use super::wire::Malformed;

pub(super) async fn answer(node: &Node, client: &Client, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: AlterPartitionReassignmentsRequest = request.decode()?;
    let places = Places::now(node, client);
    let mut responses = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        responses.push(told(node, &places, topic).await);
    }
    let response = AlterPartitionReassignmentsResponse::default().with_error_message(None);
    request.encode(&response.with_responses(responses))
}

async fn told(node: &Node, places: &Places, asked: ReassignableTopic) -> ReassignableTopicResponse {
    let found = node.shared.broker.find_topic(&asked.name).await;
    let of_partition = |partition: ReassignablePartition| {
        let told = ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
        let outcome = match &found {
            Err(error) => Err(error.clone().into()),
            Ok(topic) => stays(topic, places, &partition),
        };
        match outcome {
            Ok(()) => told.with_error_message(None),
            Err(refused) => told.with_error_code(refused.number).with_error_message(Some(refused.message)),
        }
    };
    let partitions = asked.partitions.into_iter().map(of_partition).collect();
    ReassignableTopicResponse::default().with_name(asked.name).with_partitions(partitions)
}

/// Whether a partition is to have the replicas that it has. Nothing else can be done here.
fn stays(topic: &TopicInfo, places: &Places, asked: &ReassignablePartition) -> Result<(), Refused> {
    let shard = usize::try_from(asked.partition_index).ok().and_then(|index| topic.shards.get(index));
    let Some(shard) = shard else {
        let message = format!("topic `{}` has {} partitions", topic.name, topic.partitions);
        return Err(Refused::new(ResponseError::UnknownTopicOrPartition, &message));
    };
    let Some(replicas) = &asked.replicas else {
        return Err(Refused::new(
            ResponseError::NoReassignmentInProgress,
            "nothing is under way that could be given up",
        ));
    };
    let mut replicas: Vec<BrokerId> = replicas.clone();
    replicas.sort_unstable();
    if replicas == places.replicas(*shard) {
        return Ok(());
    }
    let message = format!(
        "replicas are those of shards, and this partition is of shard {shard}: `stratalog cluster move` moves its replicas"
    );
    Err(Refused::new(ResponseError::InvalidReplicaAssignment, &message))
}
