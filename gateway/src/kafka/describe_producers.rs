//! DescribeProducers: the idempotent producers of partitions. None of them has a transaction.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId, TopicName};
use stratalog_broker::ProducerInfo;
use stratalog_proto::PartitionId;

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

/// What a producer without transactions has in the place of one.
const NO_TRANSACTION: i32 = -1;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DescribeProducersRequest = request.decode()?;
    // Each once: an answer is much larger than a name.
    let mut wanted: BTreeMap<TopicName, BTreeSet<i32>> = BTreeMap::new();
    for topic in asked.topics {
        wanted.entry(topic.name).or_default().extend(topic.partition_indexes);
    }
    let mut topics = Vec::with_capacity(wanted.len());
    for (name, indexes) in wanted {
        let mut partitions = Vec::with_capacity(indexes.len());
        for index in indexes {
            partitions.push(of_partition(node, &name, index).await);
        }
        topics.push(TopicResponse::default().with_name(name).with_partitions(partitions));
    }
    request.encode(&DescribeProducersResponse::default().with_topics(topics))
}

async fn of_partition(node: &Node, topic: &str, index: i32) -> PartitionResponse {
    let told = PartitionResponse::default().with_partition_index(index);
    // A negative partition is none.
    let partition = PartitionId(u32::try_from(index).unwrap_or(u32::MAX));
    match node.shared.broker.producers(topic, partition).await {
        Ok(producers) => told.with_active_producers(producers.iter().map(producer).collect()),
        Err(error) => {
            told.with_error_code(errors::number(error.code)).with_error_message(Some(errors::message(&error)))
        }
    }
}

fn producer(info: &ProducerInfo) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(info.producer.0))
        .with_producer_epoch(info.epoch.into())
        .with_last_sequence(info.last_sequence)
        .with_last_timestamp(info.last_time_ns / 1_000_000)
        .with_coordinator_epoch(NO_TRANSACTION)
        .with_current_txn_start_offset(NO_TRANSACTION.into())
}
