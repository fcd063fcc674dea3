//! OffsetFetch: how far groups have read. There are no transactions whose offsets could be unstable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::groups::{Committed, Refusal};
use stratalog_proto::{Code, PartitionId, TopicId};

use super::api::Request;
use super::room::Room;
use super::wire::Malformed;
use super::{Node, errors};

/// From this version on, several groups are asked for.
const FIRST_OF_SEVERAL: i16 = 8;
/// From this version on, an error of the group has a field of its own.
const FIRST_WITH_ERROR: i16 = 2;

/// What a partition takes in an answer beside its metadata, in memory rather than as bytes.
const PARTITION_BYTES: usize = 128;

/// Partitions by topics; `None`: all that the group has.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;
type Found = Vec<(TopicName, Vec<OffsetFetchResponsePartition>)>;

pub(super) async fn answer(node: &Node, request: &Request, room: &mut Room) -> Result<Vec<Bytes>, Malformed> {
    let asked: OffsetFetchRequest = request.decode()?;
    if request.version < FIRST_OF_SEVERAL {
        let topics = asked.topics.map(|topics| topics.into_iter().map(|of| (of.name, of.partition_indexes)).collect());
        return request.encode(&of_one(node, &asked.group_id, topics, request.version, room).await);
    }
    let mut groups = Vec::with_capacity(asked.groups.len());
    // Each once: an answer is much larger than a name.
    let mut named = BTreeSet::new();
    for group in asked.groups {
        if named.insert(group.group_id.clone()) {
            let topics = group.topics.map(|of| of.into_iter().map(|of| (of.name, of.partition_indexes)).collect());
            groups.push(of_several(node, group.group_id, topics, room).await);
        }
    }
    request.encode(&OffsetFetchResponse::default().with_groups(groups))
}

async fn of_one(node: &Node, group: &GroupId, wanted: Wanted, version: i16, room: &mut Room) -> OffsetFetchResponse {
    let response = OffsetFetchResponse::default();
    let (found, error) = match find(node, group, &wanted, version >= 5, room).await {
        Ok(found) => (found, 0),
        Err(refusal) if version >= FIRST_WITH_ERROR => (Vec::new(), errors::of_group(&refusal)),
        Err(refusal) => (failed(wanted, errors::of_group(&refusal)), 0),
    };
    let topics =
        found.into_iter().map(|(name, of)| OffsetFetchResponseTopic::default().with_name(name).with_partitions(of));
    let response = response.with_topics(topics.collect());
    if version >= FIRST_WITH_ERROR { response.with_error_code(error) } else { response }
}

async fn of_several(node: &Node, group: GroupId, wanted: Wanted, room: &mut Room) -> OffsetFetchResponseGroup {
    let told = OffsetFetchResponseGroup::default();
    let told = match find(node, &group, &wanted, true, room).await {
        Ok(found) => told.with_topics(found.into_iter().map(topic_of_several).collect()),
        Err(refusal) => told.with_error_code(errors::of_group(&refusal)),
    };
    told.with_group_id(group)
}

fn topic_of_several((name, partitions): (TopicName, Vec<OffsetFetchResponsePartition>)) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|of| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(of.partition_index)
            .with_committed_offset(of.committed_offset)
            .with_committed_leader_epoch(of.committed_leader_epoch)
            .with_metadata(of.metadata)
    });
    OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
}

async fn find(node: &Node, group: &str, wanted: &Wanted, with_epochs: bool, room: &mut Room) -> Result<Found, Refusal> {
    match wanted {
        Some(wanted) => find_some(node, group, wanted, with_epochs, room).await,
        None => find_all(node, group, with_epochs, room).await,
    }
}

/// What is wanted, in its order. What was never committed is told as such, also of topics that there are not.
async fn find_some(
    node: &Node,
    group: &str,
    wanted: &[(TopicName, Vec<i32>)],
    with_epochs: bool,
    room: &mut Room,
) -> Result<Found, Refusal> {
    let mut ids = Vec::with_capacity(wanted.len());
    for (name, _) in wanted {
        ids.push(match node.shared.broker.find_topic(name).await {
            Ok(topic) => Some(topic.id),
            Err(error) if matches!(error.code, Code::UnknownTopic | Code::InvalidTopicName) => None,
            Err(error) => return Err(Refusal::Other(error)),
        });
    }
    let committed = node.shared.broker.groups().committed(group).await?;
    let found = |id: Option<TopicId>, index: i32| {
        // A negative partition is none.
        let partition = u32::try_from(index).ok().map(PartitionId);
        id.zip(partition).and_then(|(topic, partition)| committed.get(topic, partition))
    };
    let places = wanted.iter().zip(&ids).flat_map(|((_, partitions), id)| partitions.iter().map(|of| (*id, *of)));
    fits(room, places.map(|(id, index)| found(id, index)))?;
    let told = |id: Option<TopicId>, index: i32| {
        found(id, index).map_or_else(|| nothing(index), |found| told(found, with_epochs))
    };
    let topics = wanted
        .iter()
        .zip(ids)
        .map(|((name, partitions), id)| (name.clone(), partitions.iter().map(|index| told(id, *index)).collect()));
    Ok(topics.collect())
}

/// All that the group has committed of topics that there are.
async fn find_all(node: &Node, group: &str, with_epochs: bool, room: &mut Room) -> Result<Found, Refusal> {
    let mut by_topic: BTreeMap<TopicId, Vec<OffsetFetchResponsePartition>> = BTreeMap::new();
    let committed = node.shared.broker.groups().committed(group).await?;
    fits(room, committed.iter().map(Some))?;
    for of in committed.iter() {
        by_topic.entry(of.topic).or_default().push(told(of, with_epochs));
    }
    drop(committed);
    let mut found = Vec::with_capacity(by_topic.len());
    for (id, partitions) in by_topic {
        match node.shared.broker.find_topic_by_id(id).await {
            Ok(topic) => found.push((TopicName(StrBytes::from_string(topic.name.clone())), partitions)),
            Err(error) if error.code == Code::UnknownTopic => {}
            Err(error) => return Err(Refusal::Other(error)),
        }
    }
    Ok(found)
}

/// Takes the place of what is told of partitions, before any of it is copied.
///
/// # Errors
/// There is no room for it: it is asked for again.
fn fits<'a>(room: &mut Room, told: impl Iterator<Item = Option<Committed<'a>>>) -> Result<(), Refusal> {
    let bytes: usize = told.map(|of| PARTITION_BYTES + of.map_or(0, |of| of.metadata.len())).sum();
    if room.take(bytes) { Ok(()) } else { Err(Refusal::Loading) }
}

fn told(committed: Committed<'_>, with_epoch: bool) -> OffsetFetchResponsePartition {
    let told = OffsetFetchResponsePartition::default()
        .with_partition_index(committed.partition.0 as i32)
        .with_committed_offset(committed.offset.0 as i64)
        .with_metadata(Some(StrBytes::from_string(committed.metadata.into_owned())));
    let epoch = committed.leader_epoch.and_then(|epoch| i32::try_from(epoch).ok());
    if with_epoch { told.with_committed_leader_epoch(epoch.unwrap_or(-1)) } else { told }
}

fn nothing(index: i32) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition::default().with_partition_index(index).with_committed_offset(-1)
}

/// The same error of each partition.
fn failed(wanted: Wanted, error: i16) -> Found {
    let partitions =
        |indexes: Vec<i32>| indexes.into_iter().map(|index| nothing(index).with_error_code(error)).collect();
    wanted.unwrap_or_default().into_iter().map(|(name, indexes)| (name, partitions(indexes))).collect()
}
