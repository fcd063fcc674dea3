//! Histories of a log: what entries gave offsets to.

use proptest::collection::vec;
use proptest::prelude::*;
use stratalog_proto::ProducerId;
use stratalog_proto::batch::{BatchBuilder, Compression};
use uuid::Uuid;

use super::*;

/// One batch that a producer sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) topic: u8,
    pub(super) partition: u32,
    /// Of each record, in milliseconds.
    pub(super) timestamps: Vec<i64>,
    pub(super) value_bytes: usize,
}

/// Batches in the order of the log, with their offsets.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) log: Vec<RecBatch>,
}

pub(super) fn topic(number: u8) -> TopicId {
    TopicId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0100 + u128::from(number)))
}

pub(super) fn id(number: u8) -> SegmentId {
    SegmentId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001 + u128::from(number)))
}

/// A segment of entries 101 to 1,000.
pub(super) fn spec() -> RecSpec {
    RecSpec { id: id(0), shard: ShardId(7), after: RaftIndex(100), through: RaftIndex(1_000) }
}

/// The first offset that a partition has in a history: not 0, since a segment seldom is the first.
pub(super) fn first_offset(topic: u8, partition: u32) -> u64 {
    u64::from(topic) * 1_000_000 + u64::from(partition) * 1_000
}

fn batch_of(sent: &Sent, seed: u64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None).producer(ProducerId(seed as i64), 1, 0);
    for (number, timestamp_ms) in sent.timestamps.iter().enumerate() {
        // Bytes that differ from place to place, so that nothing can stand in for something else.
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + number as u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let value: Vec<u8> = (0..sent.value_bytes).map(|_| byte()).collect();
        builder.push(*timestamp_ms, None, Some(&value), &[]);
    }
    builder.finish()
}

impl History {
    /// The history of these entries. Some indexes between them hold other commands; the term grows now and then.
    pub(super) fn of(entries: &[Vec<Sent>]) -> Self {
        let mut next: BTreeMap<(u8, u32), u64> = BTreeMap::new();
        let mut log = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            let mut at = 16;
            for sent in entry {
                let batch = batch_of(sent, log.len() as u64 + 1);
                let first = || first_offset(sent.topic, sent.partition);
                let offset = next.entry((sent.topic, sent.partition)).or_insert_with(first);
                at += 28;
                log.push(RecBatch {
                    topic: topic(sent.topic),
                    partition: PartitionId(sent.partition),
                    base_offset: Offset(*offset),
                    index: RaftIndex(103 + number as u64 * 3),
                    at,
                    leader_epoch: 4 + number as i32 / 7,
                    entry_time_ns: 1_700_000_000_000_000_000 + number as i64 * 1_000_000,
                    batch: batch.clone(),
                });
                *offset += sent.timestamps.len() as u64;
                at += batch.len() as u32;
            }
        }
        Self { log }
    }

    /// As [`write_rec`] wants them.
    pub(super) fn sorted(&self) -> Vec<RecBatch> {
        let mut batches = self.log.clone();
        batches.sort_by_key(|batch| (batch.topic, batch.partition, batch.base_offset));
        batches
    }

    pub(super) fn partitions(&self) -> Vec<(TopicId, PartitionId)> {
        let keys: BTreeSet<_> = self.log.iter().map(|batch| (batch.topic, batch.partition)).collect();
        keys.into_iter().collect()
    }

    /// The batches of a partition, ascending.
    pub(super) fn of_partition(&self, (topic, partition): (TopicId, PartitionId)) -> Vec<&RecBatch> {
        self.log.iter().filter(|batch| (batch.topic, batch.partition) == (topic, partition)).collect()
    }
}

/// A batch as a consumer gets it.
pub(super) fn patched(batch: &RecBatch) -> Bytes {
    let parsed = Batch::parse(batch.batch.clone()).unwrap();
    let (head, body) = parsed.patched(batch.base_offset, batch.leader_epoch);
    [head, body].concat().into()
}

/// One past the last offset of a batch.
pub(super) fn next_of(batch: &RecBatch) -> Offset {
    let header = BatchHeader::read(&batch.batch).unwrap();
    Offset(batch.base_offset.0 + header.record_count as u64)
}

pub(super) fn max_timestamp(batch: &RecBatch) -> i64 {
    BatchHeader::read(&batch.batch).unwrap().max_timestamp_ms
}

/// A small history of three topics, always the same.
pub(super) fn sample() -> History {
    let sent = |topic, partition, records: i64, value_bytes| Sent {
        topic,
        partition,
        timestamps: (0..records).map(|n| 1_700_000_000_000 + n).collect(),
        value_bytes,
    };
    let entry = |n: u32| vec![sent(0, n % 3, 3, 10), sent(1, 5, 1, 5), sent(0, n % 2, 2, 7), sent(2, n % 2, 1, 0)];
    History::of(&(0..10).map(entry).collect::<Vec<_>>())
}

/// A history of many spans and blocks in two partitions, always the same.
pub(super) fn large_sample() -> History {
    let sent = |partition, value_bytes| Sent { topic: 0, partition, timestamps: vec![5, 3], value_bytes };
    let entry = |n: u32| vec![sent(n % 2, 1_000 + n as usize * 37), sent(1, if n % 16 == 9 { 90_000 } else { 300 })];
    History::of(&(0..60).map(entry).collect::<Vec<_>>())
}

fn sent() -> impl Strategy<Value = Sent> {
    let value_bytes = prop_oneof![12 => 0..300_usize, 4 => 300..9_000_usize, 1 => 60_000..140_000_usize];
    let timestamps = vec(prop_oneof![8 => 0..50_i64, 1 => any::<i32>().prop_map(i64::from)], 1..5);
    (0..3_u8, 0..3_u32, timestamps, value_bytes).prop_map(|(topic, partition, timestamps, value_bytes)| Sent {
        topic,
        partition,
        timestamps,
        value_bytes,
    })
}

pub(super) fn histories() -> impl Strategy<Value = History> {
    vec(vec(sent(), 1..6), 1..25).prop_map(|entries| History::of(&entries))
}
