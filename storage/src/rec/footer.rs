//! The footer: everything of a file but its batches and their order, and the checksums of its blocks. It is read whole
//! when a file is opened.

use std::ops::Range;

use stratalog_proto::batch::HEADER_BYTES as BATCH_HEADER_BYTES;
use stratalog_proto::{PartitionId, RaftIndex, SegmentId, ShardId, TopicId};

use super::format::MAX_PARTITIONS;
use super::meta::RecTopicMeta;
use super::partition::PartitionEntry;
use super::writer::RecSpec;
use crate::container::{Cursor, HEADER_BYTES, Malformed, Sections};

const SECTION_BATCHES: u32 = 1;
const SECTION_ORDER: u32 = 2;

/// What a footer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) spec: RecSpec,
    /// How many batches there are.
    pub(super) batches: u32,
    /// Ascending by topic, then partition.
    pub(super) partitions: Vec<PartitionEntry>,
    /// Where the order of the batches is.
    pub(super) order_section: Range<u64>,
}

impl Footer {
    /// Where an entry of a partition is in `partitions`.
    pub(super) fn find(&self, topic: TopicId, partition: PartitionId) -> Option<usize> {
        self.partitions.binary_search_by_key(&(topic, partition), PartitionEntry::key).ok()
    }

    /// What a manifest says of the topics.
    pub(super) fn topics(&self) -> Vec<RecTopicMeta> {
        let topics = self.partitions.chunk_by(|a, b| a.topic == b.topic);
        let meta = |of_topic: &[PartitionEntry]| RecTopicMeta {
            topic: of_topic[0].topic,
            ranges: of_topic.iter().map(PartitionEntry::range).collect(),
        };
        topics.map(meta).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(self.spec.id.as_bytes());
        put_u32(&mut out, self.spec.shard.0);
        out.extend_from_slice(&self.spec.after.0.to_le_bytes());
        out.extend_from_slice(&self.spec.through.0.to_le_bytes());
        put_u32(&mut out, self.batches);
        let batches = (SECTION_BATCHES, HEADER_BYTES as u64..self.order_section.start);
        Sections::new([batches, (SECTION_ORDER, self.order_section.clone())]).encode(&mut out);
        let topics = || self.partitions.chunk_by(|a, b| a.topic == b.topic);
        put_u32(&mut out, topics().count() as u32);
        for of_topic in topics() {
            out.extend_from_slice(of_topic[0].topic.as_bytes());
            put_u32(&mut out, of_topic.len() as u32);
            of_topic.iter().for_each(|entry| entry.encode(&mut out));
        }
        out
    }

    /// Reads the footer of a file whose blocks end at `blocks_end`, and checks that it does not contradict itself.
    pub(super) fn decode(bytes: &[u8], blocks_end: u64) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let id = SegmentId::from_slice(cursor.take(16)?).expect("16 bytes");
        let shard = ShardId(cursor.u32()?);
        let (after, through) = (RaftIndex(cursor.u64()?), RaftIndex(cursor.u64()?));
        if after >= through {
            return Err(Malformed("the segment has no entries"));
        }
        let batches = cursor.u32()?;
        let sections = Sections::decode(&mut cursor, blocks_end)?;
        let batches_section = sections.get(SECTION_BATCHES).ok_or(Malformed("there is no section of batches"))?;
        let order_section = sections.get(SECTION_ORDER).ok_or(Malformed("there is no section of their order"))?;
        let partitions = decode_partitions(&mut cursor, batches_section)?;
        cursor.finish()?;
        Ok(Self { spec: RecSpec { id, shard, after, through }, batches, partitions, order_section })
    }
}

/// Reads the entries of all partitions, which fill `section` one after the other.
fn decode_partitions(cursor: &mut Cursor<'_>, section: Range<u64>) -> Result<Vec<PartitionEntry>, Malformed> {
    /// Of a topic with one partition with one epoch and one span.
    const LEAST_TOPIC_BYTES: usize = 76;
    let mut partitions: Vec<PartitionEntry> = Vec::new();
    for _ in 0..cursor.count(MAX_PARTITIONS.min(cursor.remaining() / LEAST_TOPIC_BYTES))? {
        let topic = TopicId::from_slice(cursor.take(16)?).expect("16 bytes");
        let count = cursor.count(MAX_PARTITIONS - partitions.len())?;
        if count == 0 {
            return Err(Malformed("a topic has no partitions"));
        }
        for _ in 0..count {
            partitions.push(PartitionEntry::decode(cursor, topic)?);
        }
    }
    set_ends(&mut partitions, section)?;
    if !partitions.is_sorted_by(|a, b| a.key() < b.key()) {
        return Err(Malformed("topics or partitions do not ascend"));
    }
    Ok(partitions)
}

/// Each partition ends where the next one starts. Every span has room for a batch at least.
fn set_ends(partitions: &mut [PartitionEntry], section: Range<u64>) -> Result<(), Malformed> {
    let starts = partitions.iter().skip(1).map(PartitionEntry::start);
    let ends: Vec<u64> = starts.chain([section.end]).collect();
    if partitions.first().map(PartitionEntry::start) != Some(section.start) {
        return Err(Malformed("the first partition is not where the batches begin"));
    }
    for (entry, end) in partitions.iter_mut().zip(ends) {
        entry.end = end;
        let last = entry.spans[entry.spans.len() - 1].start;
        if end.checked_sub(last).is_none_or(|bytes| bytes < BATCH_HEADER_BYTES as u64) {
            return Err(Malformed("a partition does not end behind its last batch"));
        }
    }
    Ok(())
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}
