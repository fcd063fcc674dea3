//! The real state of a shard as a replica's machine, with replay segments in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use stratalog_proto::entry::Entry;
use stratalog_proto::{Error, Offset, PartitionId, RaftIndex, SegmentId, Term, TopicId, internal};
use stratalog_storage::RecMeta;
use uuid::Uuid;

use crate::outcome::Results;
use crate::raft::log::GroupLog;
use crate::raft::{Captured, Machine};
use crate::shard::{BatchSlot, PendingRec, ShardState};

pub(super) const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
pub(super) const PARTITION: PartitionId = PartitionId(0);

/// The replay segments that a replica holds: as durable as its disk, whatever happens to the rest of it.
pub(super) type Segments = Arc<Mutex<BTreeMap<SegmentId, Vec<(Offset, Bytes)>>>>;

/// A shard's state, and its segments, built from this replica's own log as soon as a Roll is applied.
pub(super) struct ShadowShard {
    state: RwLock<ShardState>,
    applied: Mutex<RaftIndex>,
    log: GroupLog,
    segments: Segments,
}

impl ShadowShard {
    pub(super) fn new(log: GroupLog, segments: Segments) -> Self {
        Self { state: RwLock::new(ShardState::new()), applied: Mutex::default(), log, segments }
    }

    pub(super) fn applied(&self) -> RaftIndex {
        *self.applied.lock()
    }

    pub(super) fn read<R>(&self, f: impl FnOnce(&ShardState) -> R) -> R {
        f(&self.state.read())
    }

    /// The segments that the manifest names and this replica does not hold.
    pub(super) fn missing(&self) -> Vec<Arc<RecMeta>> {
        let held = self.segments.lock();
        self.state.read().manifest().recs().iter().filter(|rec| !held.contains_key(&rec.id)).cloned().collect()
    }

    /// Everything that a consumer would get from this replica: batches by their offset. What is in segments that are not
    /// here is left out.
    pub(super) fn batches(&self) -> BTreeMap<u64, Bytes> {
        let state = self.state.read();
        let held = self.segments.lock();
        let live = state.manifest().recs().iter().filter_map(|rec| held.get(&rec.id)).flatten();
        let mut batches: BTreeMap<u64, Bytes> = live.map(|(offset, batch)| (offset.0, batch.clone())).collect();
        for slot in state.partition(TOPIC, PARTITION).into_iter().flat_map(|partition| partition.batches()) {
            batches.insert(slot.base_offset.0, self.load(slot));
        }
        batches
    }

    /// A Roll of everything that is applied, if there is something; `salt` makes its segment's id.
    pub(super) fn plan_roll(&self, salt: u64) -> Option<internal::Roll> {
        let state = self.state.read();
        let (after, through) = (state.replay_frontier(), self.applied());
        if through <= after {
            return None;
        }
        let slots: Vec<BatchSlot> =
            state.batches_between(after, through).into_iter().map(|(_, _, slot)| slot).collect();
        let segments = segment(&slots, after, through, salt).into_iter().collect();
        Some(internal::Roll { expect: after.0, next: through.0, segments })
    }

    fn load(&self, slot: &BatchSlot) -> Bytes {
        let entry = self.log.payload(slot.index).unwrap().expect("an entry with commands");
        entry.slice(slot.at as usize..(slot.at + slot.len) as usize)
    }

    fn build(&self, rolled: Vec<PendingRec>) {
        for rec in rolled {
            let batches = rec.batches.iter().map(|(_, _, slot)| (slot.base_offset, self.load(slot))).collect();
            self.segments.lock().insert(rec.meta.id, batches);
        }
    }
}

impl Machine for ShadowShard {
    fn apply(&self, index: RaftIndex, term: Term, entry: &Entry) -> Result<Results, Error> {
        let effects = self.state.write().apply(index, term, entry)?;
        self.build(effects.rolled);
        Ok(effects.results)
    }

    fn advance(&self, index: RaftIndex) {
        let mut applied = self.applied.lock();
        assert!(*applied < index || index.0 == 0, "A1: {index} was applied after {applied}");
        *applied = index;
    }

    fn capture(&self) -> Result<Captured, Error> {
        let state = self.state.read().clone();
        Ok(Captured { frontier: state.replay_frontier(), encode: Box::new(move || state.encode()) })
    }

    fn restore(&self, _at: RaftIndex, state: Bytes) -> Result<(), Error> {
        *self.state.write() = ShardState::decode(state)?;
        Ok(())
    }
}

/// The segment that holds these batches of the one partition.
fn segment(slots: &[BatchSlot], after: RaftIndex, through: RaftIndex, salt: u64) -> Option<internal::RecMeta> {
    let (first, last) = (slots.first()?, slots.last()?);
    let range = internal::RecRange {
        partition: PARTITION.0,
        first: first.base_offset.0,
        next: last.next_offset().0,
        bytes: slots.iter().map(|slot| u64::from(slot.len)).sum(),
        max_timestamp_ms: slots.iter().map(|slot| slot.max_timestamp_ms).max()?,
    };
    let id = SegmentId(Uuid::from_u64_pair(through.0, salt));
    Some(internal::RecMeta {
        id: id.to_bytes(),
        after: after.0,
        through: through.0,
        bytes: range.bytes + 4_096,
        blake3: Bytes::from_static(&[7; 32]),
        topics: vec![internal::RecTopic { topic: TOPIC.to_bytes(), ranges: vec![range] }],
        location: 0,
        key_id: 0,
        max_entry_time_ns: 0,
    })
}
