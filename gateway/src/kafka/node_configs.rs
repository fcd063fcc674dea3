//! The settings of a node by Kafka's names, as far as they have a meaning here. Its own names are in `system.settings`.

use stratalog_proto::config::TopicConfig;

use super::Node;
use super::configs::{Shown, Type};
use super::fetch::MAX_SESSIONS;
use super::frames::MAX_FRAME_BYTES;
use super::requests::fetch::MAX_BYTES;

/// All of them, in the order of their names. None can be changed while the node runs.
pub(super) fn shown(node: &Node) -> Vec<Shown> {
    let layout = node.shared.broker.layout();
    let (copies, topics) = (layout.replication(), TopicConfig::default());
    let fixed = |name, value: String, kind| Shown { name, value, kind, is_set: true, is_fixed: true };
    let reached = layout.kafka_addresses().into_iter();
    // Kafka's name of a listener that has none.
    let reached = reached.map(|(name, address)| format!("{}://{address}", name.unwrap_or("PLAINTEXT")));
    vec![
        fixed("advertised.listeners", reached.collect::<Vec<_>>().join(","), Type::Text),
        fixed("auto.create.topics.enable", node.shares.options.auto_create_topics.to_string(), Type::Bool),
        fixed("broker.id", layout.me().0.to_string(), Type::Int),
        fixed("compression.type", "producer".to_owned(), Type::Text),
        fixed("connections.max.idle.ms", node.shares.options.idle_timeout.as_millis().to_string(), Type::Long),
        fixed("default.replication.factor", copies.to_string(), Type::Int),
        fixed("delete.topic.enable", true.to_string(), Type::Bool),
        fixed("fetch.max.bytes", MAX_BYTES.to_string(), Type::Int),
        fixed("log.cleanup.policy", "delete".to_owned(), Type::List),
        fixed("log.dirs", node.shared.broker.data_dir().display().to_string(), Type::Text),
        fixed("log.message.timestamp.type", "CreateTime".to_owned(), Type::Text),
        fixed("log.retention.bytes", minus_one_or(topics.retention_bytes), Type::Long),
        fixed("log.retention.ms", minus_one_or(topics.retention_ns.map(|ns| ns / 1_000_000)), Type::Long),
        fixed("max.connections", node.shares.options.max_connections.to_string(), Type::Int),
        fixed("max.incremental.fetch.session.cache.slots", MAX_SESSIONS.to_string(), Type::Int),
        fixed("message.max.bytes", topics.max_message_bytes.to_string(), Type::Int),
        fixed("min.insync.replicas", (copies / 2 + 1).to_string(), Type::Int),
        fixed("num.partitions", node.shared.broker.default_partitions().to_string(), Type::Int),
        fixed("socket.request.max.bytes", MAX_FRAME_BYTES.to_string(), Type::Int),
        fixed("unclean.leader.election.enable", false.to_string(), Type::Bool),
    ]
}

fn minus_one_or(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}
