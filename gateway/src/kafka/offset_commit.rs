//! OffsetCommit: how far a group has read.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use stratalog_broker::groups::{Commit, CommitOffset, Refusal};
use stratalog_proto::{Error, Offset, PartitionId};
use stratalog_query::TopicInfo;

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

/// From this version on, a member is told if there is no such group.
const FIRST_WITHOUT_GROUP: i16 = 9;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: OffsetCommitRequest = request.decode()?;
    // Of all partitions, in their order; 0 for those that are in `offsets`, until those are committed.
    let (mut codes, mut offsets) = (Vec::new(), Vec::new());
    for topic in &asked.topics {
        let found = node.shared.broker.find_topic(&topic.name).await;
        for partition in &topic.partitions {
            let offset = offset(&found, partition);
            codes.push(*offset.as_ref().err().unwrap_or(&0));
            offsets.extend(offset);
        }
    }
    let mut committed = commit(node, &asked, offsets, request.version).await.into_iter();
    for code in codes.iter_mut().filter(|code| **code == 0) {
        *code = committed.next().unwrap_or(ResponseError::UnknownServerError.code());
    }
    let mut codes = codes.into_iter();
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut codes).map(|(partition, code)| {
            let told = OffsetCommitResponsePartition::default();
            told.with_partition_index(partition.partition_index).with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    request.encode(&OffsetCommitResponse::default().with_topics(topics.collect()))
}

/// What is to be committed of a partition, or why not, by Kafka's number.
fn offset(topic: &Result<Arc<TopicInfo>, Error>, asked: &OffsetCommitRequestPartition) -> Result<CommitOffset, i16> {
    let topic = topic.as_ref().map_err(|error| errors::of_group_code(error.code))?;
    let partition = u32::try_from(asked.partition_index).ok().filter(|partition| *partition < topic.partitions);
    let offset = u64::try_from(asked.committed_offset).map_err(|_| ResponseError::InvalidRequest.code())?;
    Ok(CommitOffset {
        topic: topic.id,
        partition: PartitionId(partition.ok_or_else(|| ResponseError::UnknownTopicOrPartition.code())?),
        offset: Offset(offset),
        leader_epoch: u32::try_from(asked.committed_leader_epoch).ok(),
        metadata: asked.committed_metadata.as_ref().map(|of| of.to_string()).unwrap_or_default(),
    })
}

/// What became of each offset, by Kafka's number.
async fn commit(node: &Node, asked: &OffsetCommitRequest, offsets: Vec<CommitOffset>, version: i16) -> Vec<i16> {
    let count = offsets.len();
    let commit = Commit {
        group: asked.group_id.to_string(),
        generation: asked.generation_id_or_member_epoch,
        member_id: asked.member_id.to_string(),
        instance: asked.group_instance_id.as_ref().map(|of| of.to_string()),
        offsets,
    };
    match node.shared.broker.groups().commit(commit).await {
        Ok(outcomes) => outcomes.into_iter().map(errors::of_outcome).collect(),
        Err(Refusal::NotFound) if version < FIRST_WITHOUT_GROUP => {
            vec![ResponseError::IllegalGeneration.code(); count]
        }
        Err(refusal) => vec![errors::of_group(&refusal); count],
    }
}
