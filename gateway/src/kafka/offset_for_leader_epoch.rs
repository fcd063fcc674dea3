//! OffsetForLeaderEpoch: where an epoch ends, for clients that look whether what they read was cut off. It never is, since what
//! was acknowledged stays, unless data is lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use stratalog_proto::{PartitionId, Term};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, epochs, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: OffsetForLeaderEpochRequest = request.decode()?;
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in asked.topics {
        let claims = topic.partitions.iter().map(|partition| (partition.partition, partition.current_leader_epoch));
        let refused = match node.shared.broker.find_topic(&topic.topic).await {
            Ok(found) => epochs::refused(node, &found, claims).await,
            // What is wrong with it is told of each partition.
            Err(_) => BTreeMap::new(),
        };
        let ends = topic.partitions.iter().map(|asked| end(node, &topic.topic, asked, &refused));
        let ends = join_all(ends).await;
        topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(ends));
    }
    request.encode(&OffsetForLeaderEpochResponse::default().with_topics(topics))
}

async fn end(
    node: &Node,
    topic: &str,
    asked: &OffsetForLeaderPartition,
    refused: &BTreeMap<i32, ResponseError>,
) -> EpochEndOffset {
    let told = EpochEndOffset::default().with_partition(asked.partition).with_leader_epoch(-1).with_end_offset(-1);
    if let Some(error) = refused.get(&asked.partition) {
        return told.with_error_code(error.code());
    }
    // A negative partition is none; a negative epoch is older than all.
    let partition = PartitionId(u32::try_from(asked.partition).unwrap_or(u32::MAX));
    let Ok(epoch) = u64::try_from(asked.leader_epoch) else { return told };
    match node.shared.broker.end_offset_of_epoch(topic, partition, Term(epoch)).await {
        Ok((epoch, offset)) => told.with_leader_epoch(epochs::number(epoch)).with_end_offset(offset.0 as i64),
        Err(error) => told.with_error_code(errors::number(error.code)),
    }
}
