//! The metadata in bytes, as they are kept in `state/`. `docs/FORMATS.md`, "State".

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Code, Error, ShardId, TenantId, TopicId, internal};
use stratalog_query::TopicInfo;

use super::cluster::Cluster;
use super::slots::Slots;
use super::state::{MAX_PARTITIONS, MAX_TOPICS, MetaState};

impl MetaState {
    /// The whole state. The same state is always the same bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let encode = |topic: &Arc<TopicInfo>| internal::MetaTopic {
            topic: topic.id.to_bytes(),
            tenant: topic.tenant.0,
            name: topic.name.clone(),
            config: Some(topic.config.to_internal()),
            shards: topic.shards.iter().map(|shard| shard.0).collect(),
        };
        let topics = self.topics().map(encode).collect();
        let (time_ns, next_producer) = (self.time_ns, self.next_producer);
        let (cluster, group_shards) = (self.cluster.to_message(), self.slots.to_proto());
        internal::MetaState { time_ns, next_producer, topics, cluster, group_shards }.encode_to_vec()
    }

    /// Reads a state back.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for bytes that are no state, or a state that contradicts itself.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Error> {
        let state =
            internal::MetaState::decode(bytes).map_err(|error| corrupt(&format!("it does not decode: {error}")))?;
        if state.topics.len() > MAX_TOPICS || state.next_producer < 0 {
            return Err(corrupt("its counts are out of bounds"));
        }
        let (time_ns, next_producer) = (state.time_ns, state.next_producer);
        let cluster = state.cluster.map(Cluster::from_message).transpose()?.unwrap_or_default();
        let slots = Slots::from_proto(&state.group_shards).map_err(corrupt)?;
        let mut decoded = Self { time_ns, next_producer, cluster, slots, ..Self::default() };
        for raw in state.topics {
            let topic = decode_topic(raw)?;
            let in_order = decoded.topics.last_key_value().is_none_or(|(last, _)| *last < topic.id);
            let taken = decoded.names.insert((topic.tenant, topic.name.clone()), topic.id);
            if !in_order || taken.is_some() {
                return Err(corrupt(&format!("topic `{}` is there twice, or not in its place", topic.name)));
            }
            decoded.topics.insert(topic.id, Arc::new(topic));
        }
        Ok(decoded)
    }
}

fn decode_topic(raw: internal::MetaTopic) -> Result<TopicInfo, Error> {
    let id = TopicId::from_slice(&raw.topic).ok_or_else(|| corrupt("a topic id does not have 16 bytes"))?;
    let config = raw.config.as_ref().ok_or_else(|| corrupt("a topic has no settings"))?;
    let partitions = u32::try_from(raw.shards.len()).unwrap_or(u32::MAX);
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err(corrupt(&format!("topic `{}` has {partitions} partitions", raw.name)));
    }
    Ok(TopicInfo {
        id,
        tenant: TenantId(raw.tenant),
        name: raw.name,
        partitions,
        config: TopicConfig::from_internal(config)?,
        shards: raw.shards.into_iter().map(ShardId).collect(),
    })
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::CorruptData, format!("the state of the metadata group is damaged: {what}"))
}
