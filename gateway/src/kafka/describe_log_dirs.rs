//! DescribeLogDirs: what the node that is asked has of partitions, and the room that it has for more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use stratalog_query::TopicInfo;

use super::Node;
use super::api::Request;
use super::wire::Malformed;

/// The first version that tells how large a disk is.
const FIRST_WITH_ROOM: i16 = 4;

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DescribeLogDirsRequest = request.decode()?;
    // Each topic once; of null all, with all partitions.
    let wanted: Option<BTreeMap<TopicName, BTreeSet<i32>>> = asked.topics.map(|topics| {
        let mut wanted: BTreeMap<_, BTreeSet<i32>> = BTreeMap::new();
        topics.into_iter().for_each(|topic| wanted.entry(topic.topic).or_default().extend(topic.partitions));
        wanted
    });
    let mut topics = Vec::new();
    for topic in node.shared.broker.topics() {
        let name = TopicName(StrBytes::from_string(topic.name.clone()));
        let here = match &wanted {
            None => partitions_here(node, &topic, None),
            Some(wanted) => match wanted.get(&name) {
                Some(partitions) => partitions_here(node, &topic, Some(partitions)),
                None => continue,
            },
        };
        if !here.is_empty() {
            topics.push(DescribeLogDirsTopic::default().with_name(name).with_partitions(here));
        }
    }
    let dir = StrBytes::from_string(node.shared.broker.data_dir().display().to_string());
    let told = DescribeLogDirsResult::default().with_log_dir(dir);
    let broker = Arc::clone(&node.shared.broker);
    let space = tokio::task::spawn_blocking(move || broker.space()).await;
    let told = match space {
        Ok(Ok(space)) if request.version >= FIRST_WITH_ROOM => {
            let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            told.with_total_bytes(bytes(space.total)).with_usable_bytes(bytes(space.free)).with_topics(topics)
        }
        Ok(Ok(_)) => told.with_topics(topics),
        Ok(Err(_)) | Err(_) => told.with_error_code(ResponseError::KafkaStorageError.code()),
    };
    request.encode(&DescribeLogDirsResponse::default().with_results(vec![told]))
}

/// Those of these partitions of which this node has a replica.
fn partitions_here(node: &Node, topic: &TopicInfo, wanted: Option<&BTreeSet<i32>>) -> Vec<DescribeLogDirsPartition> {
    let here = node.shared.broker.partitions_here(topic);
    let told = here.into_iter().map(|info| {
        DescribeLogDirsPartition::default()
            .with_partition_index(info.partition.0 as i32)
            .with_partition_size(i64::try_from(info.bytes).unwrap_or(i64::MAX))
    });
    told.filter(|told| wanted.is_none_or(|wanted| wanted.contains(&told.partition_index))).collect()
}
