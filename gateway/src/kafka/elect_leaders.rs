//! ElectLeaders: no partition prefers a leader, and the shards spread theirs by themselves.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use stratalog_query::TopicInfo;

use super::Node;
use super::api::Request;
use super::errors::Refused;
use super::wire::Malformed;

/// The kind of election that Kafka's clients ask for by default: of the first replica.
const PREFERRED: i8 = 0;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: ElectLeadersRequest = request.decode()?;
    let mut results = Vec::new();
    // Of all partitions only those are told whose leader changes.
    for topic in asked.topic_partitions.into_iter().flatten() {
        results.push(told(node, topic, asked.election_type).await);
    }
    request.encode(&ElectLeadersResponse::default().with_replica_election_results(results))
}

async fn told(node: &Node, asked: TopicPartitions, kind: i8) -> ReplicaElectionResult {
    let found = node.shared.broker.find_topic(&asked.topic).await;
    let layout = node.shared.broker.layout();
    let is_led = |topic: &TopicInfo, index: i32| {
        let shard = usize::try_from(index).ok().and_then(|index| topic.shards.get(index));
        shard.is_some_and(|shard| layout.lead(*shard).0.is_some())
    };
    let of_partition = |index: i32| {
        let refused = match &found {
            Err(error) => error.clone().into(),
            Ok(topic) if !u32::try_from(index).is_ok_and(|index| index < topic.partitions) => Refused::new(
                ResponseError::UnknownTopicOrPartition,
                &format!("topic `{}` has {} partitions", topic.name, topic.partitions),
            ),
            Ok(_) if kind == PREFERRED => {
                let message =
                    "no partition prefers a leader: `stratalog cluster transfer-leader` moves that of a shard";
                Refused::new(ResponseError::ElectionNotNeeded, message)
            }
            Ok(topic) if is_led(topic, index) => {
                Refused::new(ResponseError::ElectionNotNeeded, "the partition has its leader")
            }
            Ok(_) => {
                let message = "a leader is never elected that lacks what was acknowledged";
                Refused::new(ResponseError::EligibleLeadersNotAvailable, message)
            }
        };
        PartitionResult::default()
            .with_partition_id(index)
            .with_error_code(refused.number)
            .with_error_message(Some(refused.message))
    };
    let partitions = asked.partitions.into_iter().map(of_partition).collect();
    ReplicaElectionResult::default().with_topic(asked.topic).with_partition_result(partitions)
}
