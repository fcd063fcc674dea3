//! Offsets whose records are to be left out of a segment.

use std::collections::BTreeMap;

use bytes::Bytes;
use roaring::RoaringTreemap;
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId, internal};

use super::meta::RecMeta;

/// The most bytes that the offsets of one command may take: unpacked they are at most a thousand times as many.
const MAX_ENCODED_BYTES: usize = 16 << 20;

/// Offsets by topic and partition; none of the sets is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErasedOffsets {
    sets: BTreeMap<(TopicId, PartitionId), RoaringTreemap>,
}

impl ErasedOffsets {
    /// Adds an offset; whether it is new.
    pub fn insert(&mut self, topic: TopicId, partition: PartitionId, offset: Offset) -> bool {
        self.sets.entry((topic, partition)).or_default().insert(offset.0)
    }

    /// Whether it has an offset.
    pub fn contains(&self, topic: TopicId, partition: PartitionId, offset: Offset) -> bool {
        self.of(topic, partition).is_some_and(|set| set.contains(offset.0))
    }

    /// The offsets of one partition.
    pub fn of(&self, topic: TopicId, partition: PartitionId) -> Option<&RoaringTreemap> {
        self.sets.get(&(topic, partition))
    }

    /// All partitions that it has offsets of, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ((TopicId, PartitionId), &RoaringTreemap)> {
        self.sets.iter().map(|(key, set)| (*key, set))
    }

    /// How many offsets there are.
    pub fn len(&self) -> u64 {
        self.sets.values().map(RoaringTreemap::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Whether all of them lie in the ranges of a segment.
    pub fn lie_in(&self, meta: &RecMeta) -> bool {
        self.sets.iter().all(|((topic, partition), set)| {
            meta.range(*topic, *partition).is_some_and(|range| {
                let within = |offset: Option<u64>| offset.is_some_and(|at| (range.first.0..range.next.0).contains(&at));
                within(set.min()) && within(set.max())
            })
        })
    }

    /// As a command carries them.
    pub fn to_proto(&self) -> Vec<internal::ErasedOffsets> {
        let one = |((topic, partition), set): (&(TopicId, PartitionId), &RoaringTreemap)| {
            let mut offsets = Vec::with_capacity(set.serialized_size());
            set.serialize_into(&mut offsets).expect("writing to memory does not fail");
            internal::ErasedOffsets { topic: topic.to_bytes(), partition: partition.0, offsets: offsets.into() }
        };
        self.sets.iter().map(one).collect()
    }

    /// Reads what a command carries.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for offsets that do not decode, that do not ascend by partition, or that are too many.
    pub fn from_proto(raw: &[internal::ErasedOffsets]) -> Result<Self, Error> {
        if raw.iter().map(|one| one.offsets.len()).sum::<usize>() > MAX_ENCODED_BYTES {
            return Err(corrupt("they take more than 16 MiB"));
        }
        let mut sets = BTreeMap::new();
        for one in raw {
            let topic = TopicId::from_slice(&one.topic).ok_or_else(|| corrupt("a topic does not have 16 bytes"))?;
            let key = (topic, PartitionId(one.partition));
            if sets.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(corrupt("their partitions do not ascend"));
            }
            sets.insert(key, decode(&one.offsets).ok_or_else(|| corrupt("they are no bitmap, or an empty one"))?);
        }
        Ok(Self { sets })
    }
}

impl FromIterator<(TopicId, PartitionId, Offset)> for ErasedOffsets {
    fn from_iter<I: IntoIterator<Item = (TopicId, PartitionId, Offset)>>(offsets: I) -> Self {
        let mut erased = Self::default();
        for (topic, partition, offset) in offsets {
            erased.insert(topic, partition, offset);
        }
        erased
    }
}

/// A bitmap that takes all of the bytes and is not empty.
fn decode(bytes: &Bytes) -> Option<RoaringTreemap> {
    let mut rest = &bytes[..];
    let set = RoaringTreemap::deserialize_from(&mut rest).ok()?;
    (rest.is_empty() && !set.is_empty()).then_some(set)
}

fn corrupt(what: &str) -> Error {
    Error::new(Code::CorruptData, format!("erased offsets of a command are malformed: {what}"))
}
