//! The hash of a shard's state, by which replicas find out that one of them is not what the others are (A1).

use stratalog_proto::{Code, Error, RaftIndex, TopicId, internal};
use stratalog_storage::RowCounts;

use super::{ShardState, TopicState};
use crate::outcome::CommandResult;
use crate::shard::partition::PartitionState;

/// A hash is taken once in this many indexes.
pub(crate) const HASH_EVERY: u64 = 4_096;
/// What is hashed is gathered in pieces of about this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Which fields are hashed, and how. An entry of another release may have the hash of another formula, which says nothing
/// about this one: a change of what is hashed takes the next number.
pub(crate) const DIGEST: u32 = 1;
/// What the hashed bytes begin with.
const MAGIC: &[u8; 8] = b"SLG-HASH";

/// What the state hashed to once an entry was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateHash {
    /// Of the entry.
    pub(crate) index: RaftIndex,
    /// BLAKE3, see [`ShardState::digest`].
    pub(crate) hash: [u8; 32],
    /// By which formula: [`DIGEST`], or that of the release that wrote the state.
    pub(crate) digest: u32,
}

impl ShardState {
    /// BLAKE3 of the state, `hashed` apart: its fields one after the other, as `docs/FORMATS.md` says under "State
    /// hash". Segments stand in it by their ids and hashes. Nothing is gathered: it takes no memory to speak of.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut sink = Sink::new();
        sink.i64(self.time_ns);
        sink.u64(self.manifest.version());
        sink.u64(self.replay_frontier().0);
        sink.count(self.manifest.recs().len());
        for meta in self.manifest.recs() {
            sink.bytes(meta.id.as_bytes());
            sink.bytes(&meta.blake3);
        }
        sink.count(self.topics.len());
        for (id, topic) in &self.topics {
            sink.bytes(id.as_bytes());
            self.hash_segments(*id, &mut sink);
            hash_topic(topic, &mut sink);
        }
        self.producers.hash(&mut sink);
        self.erasures.hash(&mut sink);
        self.groups.hash(&mut sink);
        sink.finish()
    }

    fn hash_segments(&self, topic: TopicId, sink: &mut Sink) {
        let live = self.manifest.topic(topic);
        sink.u64(live.map_or(0, |live| live.row_frontier.0));
        sink.count(live.map_or(0, |live| live.segments.len()));
        for meta in live.into_iter().flat_map(|live| live.segments.values()) {
            sink.bytes(meta.id.as_bytes());
            sink.bytes(&meta.blake3);
        }
        let counts = live.map_or_else(RowCounts::default, |live| live.counts);
        // A state of before they were counted takes all that has no row for dropped, so that replicas which began with such
        // states of different indexes differ in what was rowless: never in the sum.
        let absent = counts.rowless.saturating_add(counts.dropped);
        [absent, counts.trimmed, counts.erased].into_iter().for_each(|count| sink.u64(count));
    }

    /// Takes the hash of what is applied up to `index`, in the first entry with commands at or after each multiple of
    /// [`HASH_EVERY`]: when, is a function of the state and the index (A1).
    pub(super) fn take_hash(&mut self, index: RaftIndex) -> Option<StateHash> {
        let last = self.hashed.map_or(0, |hashed| hashed.index.0);
        if index.0 / HASH_EVERY <= last / HASH_EVERY {
            return None;
        }
        self.hashed = Some(StateHash { index, hash: self.digest(), digest: DIGEST });
        self.hashed
    }

    /// Compares a hash of the leader with the one that was taken here. One of another index is not compared: a newer
    /// one was taken since, here as everywhere. Nor is one by another formula, which a log of another release may have.
    ///
    /// # Errors
    /// [`Code::Internal`]: they differ.
    pub(super) fn check(&self, check: &internal::CheckState) -> Result<CommandResult, Error> {
        match self.hashed.filter(|hashed| (hashed.index.0, hashed.digest) == (check.index, check.digest)) {
            Some(hashed) if hashed.hash[..] != check.hash[..] => {
                let message = format!(
                    "A1: the state of this replica differs from the leader's at index {}: one of them is wrong. Stop \
                     this node, keep its data for a report, and let it copy the shard from another replica",
                    check.index
                );
                Err(Error::new(Code::Internal, message))
            }
            _ => Ok(CommandResult::Done),
        }
    }
}

fn hash_topic(topic: &TopicState, sink: &mut Sink) {
    sink.message(&topic.config.to_internal());
    sink.count(topic.partitions.len());
    for (id, partition) in &topic.partitions {
        sink.u32(id.0);
        hash_partition(partition, sink);
    }
}

fn hash_partition(partition: &PartitionState, sink: &mut Sink) {
    sink.u64(partition.log_start().0);
    sink.u64(partition.high_watermark().0);
    sink.u64(partition.sealed().0);
    sink.count(partition.epochs().len());
    for (term, first) in partition.epochs() {
        sink.u64(term.0);
        sink.u64(first.0);
    }
    sink.count(partition.batches().len());
    for slot in partition.batches() {
        sink.u64(slot.index.0);
        sink.u32(slot.at);
        sink.u32(slot.len);
        sink.u64(slot.base_offset.0);
        sink.u32(slot.records);
        sink.i64(slot.max_timestamp_ms);
    }
}

/// What is hashed, all numbers little-endian and of fixed width.
pub(in crate::shard) struct Sink {
    hasher: blake3::Hasher,
    piece: Vec<u8>,
}

impl Sink {
    fn new() -> Self {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        piece.extend_from_slice(MAGIC);
        Self { hasher: blake3::Hasher::new(), piece }
    }

    /// Bytes of a known length.
    pub(in crate::shard) fn bytes(&mut self, bytes: &[u8]) {
        if self.piece.len() + bytes.len() > PIECE_BYTES {
            self.hasher.update(&self.piece);
            self.piece.clear();
        }
        self.piece.extend_from_slice(bytes);
    }

    pub(in crate::shard) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(in crate::shard) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(in crate::shard) fn i64(&mut self, value: i64) {
        self.bytes(&value.to_le_bytes());
    }

    /// How many of something follow.
    pub(in crate::shard) fn count(&mut self, count: usize) {
        self.u64(count as u64);
    }

    /// A message, after its length.
    pub(super) fn message(&mut self, message: &impl prost::Message) {
        let encoded = message.encode_to_vec();
        self.count(encoded.len());
        self.bytes(&encoded);
    }

    fn finish(mut self) -> [u8; 32] {
        self.hasher.update(&self.piece);
        self.hasher.finalize().into()
    }
}
