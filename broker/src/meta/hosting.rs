//! What shards are told of the topics whose partitions they host.

use std::collections::BTreeMap;

use stratalog_proto::entry::Command;
use stratalog_proto::{ShardId, TopicId, internal};
use stratalog_query::TopicInfo;

/// The shards of a topic, each with the partitions that it hosts, ascending.
pub(crate) fn partitions_by_shard(topic: &TopicInfo) -> BTreeMap<ShardId, Vec<u32>> {
    let mut by_shard = BTreeMap::<ShardId, Vec<u32>>::new();
    for (partition, shard) in (0..).zip(&topic.shards) {
        by_shard.entry(*shard).or_default().push(partition);
    }
    by_shard
}

/// Has a shard host these partitions of a topic, with the topic's settings.
pub(crate) fn put_topic(topic: &TopicInfo, partitions: Vec<u32>) -> Command {
    let config = Some(topic.config.to_internal());
    Command::PutTopic(internal::PutTopic { topic: topic.id.to_bytes(), partitions, config })
}

/// Has a shard forget a topic, with all that it holds of it.
pub(crate) fn remove_topic(topic: TopicId) -> Command {
    Command::RemoveTopic(internal::RemoveTopic { topic: topic.to_bytes() })
}
