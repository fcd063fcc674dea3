//! The state of a shard in bytes, as it is kept in `state/` and sent to a new replica. `docs/FORMATS.md`, "State".

use bytes::Bytes;
use prost::Message;
use stratalog_proto::config::TopicConfig;
use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, Term, TopicId, internal};
use stratalog_storage::Manifest;

use super::erasures::Erasures;
use super::groups::GroupTable;
use super::{ShardState, StateHash, TopicState};
use crate::shard::epochs::Epochs;
use crate::shard::partition::{BatchSlot, Kept, PartitionState};
use crate::shard::producers::{MAX_PRODUCERS, Producers};

impl ShardState {
    /// The whole state. The same state is always the same bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let hashed = self.hashed;
        let state = internal::ShardState {
            time_ns: self.time_ns,
            replay_frontier: self.replay_frontier().0,
            manifest_version: self.manifest.version(),
            topics: self.topics.iter().map(|(id, topic)| self.encode_topic(*id, topic)).collect(),
            producers: self.producers.to_proto(),
            producers_swept_at: self.producers.swept_at().0,
            replay: self.manifest.replay_to_proto(),
            hashed_at: hashed.map_or(0, |hashed| hashed.index.0),
            hash: hashed.map(|hashed| Bytes::copy_from_slice(&hashed.hash)).unwrap_or_default(),
            erasures: self.erasures.to_proto(),
            hash_digest: hashed.map_or(0, |hashed| hashed.digest),
            groups: self.groups.to_proto(),
        };
        state.encode_to_vec()
    }

    fn encode_topic(&self, id: TopicId, topic: &TopicState) -> internal::TopicState {
        let live = self.manifest.topic(id);
        internal::TopicState {
            topic: id.to_bytes(),
            config: Some(topic.config.to_internal()),
            row_frontier: live.map_or(0, |live| live.row_frontier.0),
            partitions: topic.partitions.iter().map(|(id, partition)| encode_partition(*id, partition)).collect(),
            segments: live.map(|live| live.segments_to_proto()).unwrap_or_default(),
            counts: live.map(|live| live.counts.into()),
        }
    }

    /// Reads a state back.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for bytes that are no state, or a state that contradicts itself; [`Code::NewerVersion`] for
    /// one with something in it that this node does not know.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, Error> {
        let state =
            internal::ShardState::decode(bytes).map_err(|error| corrupt(format!("it does not decode: {error}")))?;
        let manifest = Manifest::from_proto(&state)?;
        let producers = Producers::from_proto(&state.producers, RaftIndex(state.producers_swept_at), MAX_PRODUCERS)
            .map_err(corrupt)?;
        let erasures = Erasures::from_proto(&state.erasures).map_err(corrupt)?;
        let groups = GroupTable::from_proto(&state.groups).map_err(|error| match error.code {
            Code::NewerVersion => error,
            _ => corrupt(error.message),
        })?;
        let hashed = decode_hash(&state)?;
        let mut decoded = Self { time_ns: state.time_ns, producers, manifest, erasures, groups, hashed, ..Self::new() };
        for raw in &state.topics {
            let (id, topic) = decode_topic(raw, decoded.replay_frontier())?;
            if decoded.topics.last_key_value().is_some_and(|(last, _)| *last >= id) {
                return Err(corrupt(format!("topic {id} is not in its place")));
            }
            decoded.topics.insert(id, topic);
            decoded.recount(id);
        }
        Ok(decoded)
    }
}

fn decode_hash(state: &internal::ShardState) -> Result<Option<StateHash>, Error> {
    if state.hashed_at == 0 {
        return Ok(None);
    }
    let hash = state.hash[..].try_into().map_err(|_| corrupt("its hash does not have 32 bytes".to_owned()))?;
    Ok(Some(StateHash { index: RaftIndex(state.hashed_at), hash, digest: state.hash_digest }))
}

fn encode_partition(id: PartitionId, partition: &PartitionState) -> internal::PartitionState {
    let epoch = |(term, first): (Term, Offset)| internal::LeaderEpoch { term: term.0, first: first.0 };
    let slot = |slot: &BatchSlot| internal::BatchSlot {
        index: slot.index.0,
        at: slot.at,
        len: slot.len,
        base_offset: slot.base_offset.0,
        records: slot.records,
        max_timestamp_ms: slot.max_timestamp_ms,
    };
    internal::PartitionState {
        partition: id.0,
        log_start: partition.log_start().0,
        high_watermark: partition.high_watermark().0,
        sealed: partition.sealed().0,
        epochs: partition.epochs().map(epoch).collect(),
        batches: partition.batches().map(slot).collect(),
    }
}

fn decode_topic(raw: &internal::TopicState, frontier: RaftIndex) -> Result<(TopicId, TopicState), Error> {
    let id = TopicId::from_slice(&raw.topic).ok_or_else(|| corrupt("a topic id does not have 16 bytes".to_owned()))?;
    let config = raw.config.as_ref().ok_or_else(|| corrupt(format!("topic {id} has no settings")))?;
    let mut topic = TopicState { config: TopicConfig::from_internal(config)?, partitions: Default::default() };
    for raw in &raw.partitions {
        let partition = PartitionId(raw.partition);
        if topic.partitions.last_key_value().is_some_and(|(last, _)| *last >= partition) {
            return Err(corrupt(format!("partition {partition} of topic {id} is not in its place")));
        }
        let wrong = |what| corrupt(format!("partition {partition} of topic {id}: {what}"));
        topic.partitions.insert(partition, decode_partition(raw, frontier).map_err(wrong)?);
    }
    Ok((id, topic))
}

fn decode_partition(raw: &internal::PartitionState, frontier: RaftIndex) -> Result<PartitionState, &'static str> {
    let epochs = raw.epochs.iter().map(|epoch| (Term(epoch.term), Offset(epoch.first))).collect();
    let slots = raw.batches.iter().map(|slot| BatchSlot {
        base_offset: Offset(slot.base_offset),
        records: slot.records,
        index: RaftIndex(slot.index),
        at: slot.at,
        len: slot.len,
        max_timestamp_ms: slot.max_timestamp_ms,
    });
    let kept = Kept {
        log_start: Offset(raw.log_start),
        high_watermark: Offset(raw.high_watermark),
        sealed: Offset(raw.sealed),
        epochs: Epochs::restore(epochs).ok_or("its epochs do not ascend")?,
        slots: slots.collect(),
    };
    PartitionState::restore(kept, frontier)
}

fn corrupt(what: impl std::fmt::Display) -> Error {
    Error::new(Code::CorruptData, format!("the state of a shard cannot be read back: {what}"))
}
