//! Offsets whose records are to be left out of a segment.

use std::collections::BTreeMap;

use bytes::Bytes;
use roaring::RoaringTreemap;
use stratalog_proto::{Code, Error, Offset, PartitionId, TopicId, internal};

use super::meta::RecMeta;

/// The most bytes that the offsets of one command may take: unpacked they are at most a thousand times as many.
const MAX_ENCODED_BYTES: usize = 16 << 20;

/// What a partition takes in a command besides its bitmap, at most: its topic, its number, lengths.
const PARTITION_BYTES: usize = 64;
/// What a bitmap takes for each 2^32 offsets in which it has some, besides its blocks.
const MAP_BYTES: usize = 16;
/// What a block of 2^16 offsets takes besides two bytes for each.
const BLOCK_BYTES: usize = 8;
/// A block takes no more than a bit for each of its offsets.
const FULL_BLOCK_BYTES: usize = 8 << 10;

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

    /// Leaves out the highest offsets, of the last partitions first, until the rest surely takes at most `max_bytes` as a
    /// command carries it; whether nothing had to go. The lowest offset always stays.
    pub fn truncate(&mut self, max_bytes: usize) -> bool {
        let encoded = self.sets.values().map(|set| PARTITION_BYTES + set.serialized_size()).sum::<usize>();
        if encoded <= max_bytes {
            return true;
        }
        let (mut left, mut first_out) = (max_bytes, None);
        for (key, set) in &self.sets {
            left = left.saturating_sub(PARTITION_BYTES);
            if let Some(offset) = first_beyond(set, &mut left) {
                first_out = Some((*key, offset));
                break;
            }
        }
        let Some(((topic, partition), offset)) = first_out else { return true };
        let lowest = self.sets.first_key_value().and_then(|(key, set)| Some((*key, set.min()?)));
        self.sets.retain(|key, set| {
            if *key == (topic, partition) {
                set.remove_range(offset..);
            }
            *key <= (topic, partition) && !set.is_empty()
        });
        if let Some(((topic, partition), offset)) = lowest.filter(|_| self.is_empty()) {
            self.insert(topic, partition, Offset(offset));
        }
        false
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

/// The first offset of a bitmap for which not enough bytes are `left`.
fn first_beyond(set: &RoaringTreemap, left: &mut usize) -> Option<u64> {
    let mut block = None;
    for offset in set {
        let (this, high) = (offset >> 16, offset >> 32);
        let (known, taken) = block.filter(|(known, _)| *known == this).unwrap_or((this, 0));
        let mut more = 0;
        if taken == 0 {
            let is_new_map = block.is_none_or(|(before, _): (u64, usize)| before >> 16 != high);
            more += BLOCK_BYTES + if is_new_map { MAP_BYTES } else { 0 };
        }
        more += if taken < FULL_BLOCK_BYTES { 2 } else { 0 };
        *left = match left.checked_sub(more) {
            Some(left) => left,
            None => return Some(offset),
        };
        block = Some((known, (taken + 2).min(FULL_BLOCK_BYTES)));
    }
    None
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
