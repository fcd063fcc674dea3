//! The manifest as a part of a shard's state image.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::{Code, Error, RaftIndex, TopicId, internal};

use super::replay::Replay;
use super::{Manifest, RowCounts, TopicManifest};
use crate::segment::SegmentMeta;

impl Manifest {
    /// The replay segments for [`internal::ShardState::replay`].
    pub fn replay_to_proto(&self) -> Vec<internal::RecMeta> {
        self.recs().iter().map(|meta| (&**meta).into()).collect()
    }

    /// The manifest within the image of a shard's state: its topics with their row frontiers and segments, the replay
    /// frontier, the replay segments and the version.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for an image that contradicts itself, [`Code::NewerVersion`] for one with segments that
    /// this node does not know.
    pub fn from_proto(state: &internal::ShardState) -> Result<Self, Error> {
        let mut topics = BTreeMap::new();
        for raw in &state.topics {
            let topic =
                TopicId::from_slice(&raw.topic).ok_or_else(|| corrupt("a topic does not have 16 bytes".to_owned()))?;
            let manifest = TopicManifest::from_proto(topic, raw)?;
            if topics.insert(topic, Arc::new(manifest)).is_some() {
                return Err(corrupt(format!("topic {topic} is in it twice")));
            }
        }
        let replay = Arc::new(Replay::restore(RaftIndex(state.replay_frontier), &state.replay)?);
        Ok(Self { topics, replay, version: state.manifest_version })
    }
}

impl TopicManifest {
    /// The live segments for [`internal::TopicState::segments`], ascending by id.
    pub fn segments_to_proto(&self) -> Vec<internal::SegmentMeta> {
        self.segments.values().map(|meta| (&**meta).into()).collect()
    }

    fn from_proto(topic: TopicId, raw: &internal::TopicState) -> Result<Self, Error> {
        let mut segments = BTreeMap::new();
        for raw in &raw.segments {
            let meta = SegmentMeta::try_from(raw)?;
            let id = meta.id;
            if meta.topic != topic || segments.insert(id, Arc::new(meta)).is_some() {
                return Err(corrupt(format!("segment {id} is not of topic {topic}, or there twice")));
            }
        }
        let mut restored = Self { row_frontier: RaftIndex(raw.row_frontier), segments, counts: RowCounts::default() };
        restored.counts = match raw.counts {
            Some(counts) => counts.into(),
            // A state of before they were counted: what has no row any more was dropped, or never had one.
            None => {
                let sealed = raw.partitions.iter().map(|partition| partition.sealed).fold(0, u64::saturating_add);
                RowCounts { dropped: sealed.saturating_sub(restored.live_rows()), ..RowCounts::default() }
            }
        };
        Ok(restored)
    }
}

fn corrupt(what: String) -> Error {
    Error::new(Code::CorruptData, format!("the segments of a snapshot contradict themselves: {what}"))
}
