//! OffsetDelete: a group forgets how far it has read of some partitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use stratalog_broker::groups::{Described, subscribed};
use stratalog_proto::{PartitionId, TopicId};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: OffsetDeleteRequest = request.decode()?;
    // Of all partitions, in their order; 0 for those that are in `offsets`, until those are deleted.
    let (mut codes, mut offsets, mut names) = (Vec::new(), Vec::new(), BTreeMap::new());
    for topic in &asked.topics {
        let found = node.shared.broker.find_topic(&topic.name).await;
        names.extend(found.as_ref().ok().map(|topic| (topic.id, topic.name.clone())));
        for partition in &topic.partitions {
            let partition = u32::try_from(partition.partition_index).map(PartitionId);
            match (&found, partition) {
                (Ok(topic), Ok(partition)) => {
                    codes.push(0);
                    offsets.push((topic.id, partition));
                }
                (Err(error), _) => codes.push(errors::of_group_code(error.code)),
                (Ok(_), Err(_)) => codes.push(ResponseError::UnknownTopicOrPartition.code()),
            }
        }
    }
    let is_read = |group: &Described, topic: TopicId| names.get(&topic).is_none_or(|name| is_read(group, name));
    let deleted = match node.shared.broker.groups().delete_offsets(&asked.group_id, &offsets, is_read).await {
        Ok(deleted) => deleted,
        Err(refusal) => {
            return request.encode(&OffsetDeleteResponse::default().with_error_code(errors::of_group(&refusal)));
        }
    };
    let mut deleted = deleted.into_iter().map(errors::of_outcome);
    for code in codes.iter_mut().filter(|code| **code == 0) {
        *code = deleted.next().unwrap_or(ResponseError::UnknownServerError.code());
    }
    let mut codes = codes.into_iter();
    let topics = asked.topics.into_iter().map(|topic| told(topic, &mut codes));
    request.encode(&OffsetDeleteResponse::default().with_topics(topics.collect()))
}

/// Whether a member of a group of consumers reads a topic. One whose subscription cannot be read may.
fn is_read(group: &Described, topic: &str) -> bool {
    group
        .members
        .iter()
        .any(|member| subscribed(&member.metadata).is_none_or(|topics| topics.iter().any(|name| name == topic)))
}

fn told(topic: OffsetDeleteRequestTopic, codes: &mut impl Iterator<Item = i16>) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.iter().zip(codes).map(|(partition, code)| {
        let told = OffsetDeleteResponsePartition::default();
        told.with_partition_index(partition.partition_index).with_error_code(code)
    });
    let partitions = partitions.collect();
    OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}
