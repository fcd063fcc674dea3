//! The live segments of a shard and its frontiers: a pure value that only Raft commands change.
//!
//! - S1: rows of live segments and [`RowCounts`] together are the offsets up to where partitions are sealed: nothing
//!   here takes a row away without counting it.
//! - S2: [`Manifest::seal`] and [`Manifest::roll`] apply only on the frontier that they were built on,
//!   [`Manifest::merge`] and [`Manifest::repack`] only while what they replace is live. A retry, a second leader or a
//!   replayed command changes nothing; the files of one that did not apply are garbage.

mod counts;
mod merge;
mod replay;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, SegmentId, TopicId, internal};

use crate::rec::RecMeta;
use crate::sabotage::{Bug, planted};
use crate::segment::SegmentMeta;
use replay::Replay;

pub use counts::RowCounts;
pub use merge::MergeRejected;
pub use replay::RollRejected;

/// What a shard has in segments. A clone costs one reference a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    topics: BTreeMap<TopicId, Arc<TopicManifest>>,
    replay: Arc<Replay>,
    version: u64,
}

/// One topic of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicManifest {
    /// Every row at or below this index is in `segments`, or was, or expired.
    pub row_frontier: RaftIndex,
    /// The live segments.
    pub segments: BTreeMap<SegmentId, Arc<SegmentMeta>>,
    /// Offsets without a row in them.
    pub counts: RowCounts,
}

/// Why a [`Manifest::seal`] changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealRejected {
    /// The topic was removed, or never was here.
    #[error("cannot seal rows of topic {0}: this shard does not host it")]
    UnknownTopic(TopicId),
    /// S2: another seal came first.
    #[error("cannot seal rows of topic {topic} built on row frontier {expect}: it is at {frontier}")]
    Stale {
        /// The topic.
        topic: TopicId,
        /// What the seal was built on.
        expect: RaftIndex,
        /// Where the frontier is.
        frontier: RaftIndex,
    },
    /// A frontier that would not move forward.
    #[error("cannot seal rows of topic {topic} from {expect} to {next}: the row frontier only moves forward")]
    Backwards {
        /// The topic.
        topic: TopicId,
        /// What the seal was built on.
        expect: RaftIndex,
        /// Where it would move the frontier.
        next: RaftIndex,
    },
    /// A segment id that is live already, or twice in the command.
    #[error("cannot seal rows of topic {topic}: segment {segment} is in the manifest already")]
    Duplicate {
        /// The topic.
        topic: TopicId,
        /// The segment.
        segment: SegmentId,
    },
    /// A command whose bytes are not of this version, or contradict themselves.
    #[error("cannot seal rows: {0}")]
    Malformed(Error),
}

impl Manifest {
    /// Starts hosting a topic, with no segments and everything up to `frontier` known to hold no row of it. Does nothing
    /// if the topic is here already.
    pub fn put_topic(&mut self, topic: TopicId, frontier: RaftIndex) {
        if self.topics.contains_key(&topic) {
            return;
        }
        let fresh = TopicManifest { row_frontier: frontier, ..TopicManifest::default() };
        self.topics.insert(topic, Arc::new(fresh));
        self.version += 1;
    }

    /// Moves a topic's row frontier from exactly `expect` to `next` and adds the segments, or changes nothing (S2). That
    /// its rows are those of the offsets between is for the caller to check.
    ///
    /// # Errors
    /// [`SealRejected`] says which condition does not hold.
    pub fn seal(&mut self, seal: &internal::Seal) -> Result<(), SealRejected> {
        let topic = topic_of(seal)?;
        let (expect, next) = (RaftIndex(seal.expect), RaftIndex(seal.next));
        let entry = self.topics.get_mut(&topic).ok_or(SealRejected::UnknownTopic(topic))?;
        if entry.row_frontier != expect && !planted(Bug::SealWithoutCompare) {
            return Err(SealRejected::Stale { topic, expect, frontier: entry.row_frontier });
        }
        if next <= expect {
            return Err(SealRejected::Backwards { topic, expect, next });
        }
        let added = added_segments(topic, &seal.segments, entry).map_err(|clash| match clash {
            Clash::Duplicate(segment) => SealRejected::Duplicate { topic, segment },
            Clash::Malformed(error) => SealRejected::Malformed(error),
        })?;
        let entry = Arc::make_mut(entry);
        entry.segments.extend(added);
        entry.row_frontier = next;
        let rowless = seal.rowless.iter().map(|count| count.value).fold(0, u64::saturating_add);
        entry.counts.rowless = entry.counts.rowless.saturating_add(rowless);
        self.version += 1;
        Ok(())
    }

    /// Removes segments of a topic and gives back those that were live. Ids that are not are skipped, so that a
    /// repeated command does nothing.
    pub fn drop_segments(&mut self, topic: TopicId, ids: &[SegmentId]) -> Vec<Arc<SegmentMeta>> {
        let Some(entry) = self.topics.get_mut(&topic) else { return Vec::new() };
        if !ids.iter().any(|id| entry.segments.contains_key(id)) {
            return Vec::new();
        }
        let entry = Arc::make_mut(entry);
        let removed: Vec<_> = ids.iter().filter_map(|id| entry.segments.remove(id)).collect();
        entry.counts.dropped = entry.counts.dropped.saturating_add(rows_of(&removed));
        self.version += 1;
        removed
    }

    /// Puts column segments in the place of others of the same rows, but for those that the merge counts as left out, or
    /// changes nothing (S2); gives what was replaced. That nobody can miss what was left out is for the caller to check.
    ///
    /// # Errors
    /// [`MergeRejected`] says which condition does not hold.
    pub fn merge(&mut self, merge: &internal::Merge) -> Result<Vec<Arc<SegmentMeta>>, MergeRejected> {
        let topic = merge::topic_of(merge)?;
        let entry = self.topics.get_mut(&topic).ok_or(MergeRejected::UnknownTopic(topic))?;
        let merge::Checked { remove, add } = merge::check(topic, merge, entry)?;
        let entry = Arc::make_mut(entry);
        remove.iter().for_each(|meta| _ = entry.segments.remove(&meta.id));
        entry.segments.extend(add);
        entry.counts.trimmed = entry.counts.trimmed.saturating_add(merge.trimmed);
        entry.counts.erased = entry.counts.erased.saturating_add(merge.erased);
        self.version += 1;
        Ok(remove)
    }

    /// Removes the column segments of a topic whose offsets all lie below `log_start` of their partition; gives them,
    /// ascending by id.
    pub fn drop_passed(&mut self, topic: TopicId, log_start: impl Fn(PartitionId) -> Offset) -> Vec<Arc<SegmentMeta>> {
        let Some(entry) = self.topics.get(&topic) else { return Vec::new() };
        let is_passed =
            |meta: &&Arc<SegmentMeta>| meta.ranges.iter().all(|range| range.next <= log_start(range.partition));
        let passed: Vec<SegmentId> = entry.segments.values().filter(is_passed).map(|meta| meta.id).collect();
        self.drop_segments(topic, &passed)
    }

    /// Moves the replay frontier from exactly `expect` to `next` and adds the segments, or changes nothing (S2).
    ///
    /// # Errors
    /// [`RollRejected`] says which condition does not hold.
    pub fn roll(&mut self, roll: &internal::Roll) -> Result<(), RollRejected> {
        let added = self.replay.check_roll(roll)?;
        Arc::make_mut(&mut self.replay).roll(RaftIndex(roll.next), added);
        self.version += 1;
        Ok(())
    }

    /// Replaces a replay segment by one that has a part of its partitions, with or without records erased, or by nothing;
    /// gives what was replaced. That
    /// the partitions left out are below their log starts is for the caller to check.
    ///
    /// # Errors
    /// [`RollRejected`] says which condition does not hold; then nothing has changed.
    pub fn repack(&mut self, repack: &internal::Repack) -> Result<Arc<RecMeta>, RollRejected> {
        let (live, add) = self.replay.check_repack(repack)?;
        let removed = Arc::make_mut(&mut self.replay).repack(live, add);
        self.version += 1;
        Ok(removed)
    }

    /// Removes the replay segments whose batches all lie below `log_start` of their partition, which is 2^64 - 1 for
    /// one that is gone; gives them, ascending by their last entry.
    pub fn remove_recs(&mut self, log_start: impl Fn(TopicId, PartitionId) -> Offset) -> Vec<Arc<RecMeta>> {
        if !self.replay.recs().iter().any(|meta| Replay::is_below(meta, &log_start)) {
            return Vec::new();
        }
        self.version += 1;
        Arc::make_mut(&mut self.replay).remove_below(&log_start)
    }

    /// Every batch of an entry at or below this index is in a replay segment, or was, or expired.
    pub fn replay_frontier(&self) -> RaftIndex {
        self.replay.frontier()
    }

    /// The replay segments, ascending by their last entry and id.
    pub fn recs(&self) -> &[Arc<RecMeta>] {
        self.replay.recs()
    }

    /// Those that have entries above `index`.
    pub fn recs_after(&self, index: RaftIndex) -> &[Arc<RecMeta>] {
        let recs = self.recs();
        &recs[recs.partition_point(|meta| meta.through <= index)..]
    }

    /// Those that have batches of a topic, ascending by their last entry, and so by offset.
    pub fn recs_of(&self, topic: TopicId) -> &[Arc<RecMeta>] {
        self.replay.recs_of(topic)
    }

    /// The replay segment that holds an offset of a partition.
    pub fn rec_with(&self, topic: TopicId, partition: PartitionId, offset: Offset) -> Option<&Arc<RecMeta>> {
        self.replay.rec_with(topic, partition, offset)
    }

    /// A live replay segment.
    pub fn rec(&self, id: SegmentId) -> Option<&Arc<RecMeta>> {
        self.recs().iter().find(|meta| meta.id == id)
    }

    /// Forgets a topic; gives back what it held, if it was here. Its batches stay in replay segments until
    /// [`Manifest::remove_recs`].
    pub fn remove_topic(&mut self, topic: TopicId) -> Option<Arc<TopicManifest>> {
        let removed = self.topics.remove(&topic)?;
        self.version += 1;
        Some(removed)
    }

    /// One topic.
    pub fn topic(&self, topic: TopicId) -> Option<&TopicManifest> {
        self.topics.get(&topic).map(|entry| &**entry)
    }

    /// All topics, ascending by id.
    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &TopicManifest)> {
        self.topics.iter().map(|(topic, entry)| (*topic, &**entry))
    }

    /// The ids of all live column segments: such a file with another name is garbage.
    pub fn segment_ids(&self) -> impl Iterator<Item = SegmentId> + '_ {
        self.topics.values().flat_map(|entry| entry.segments.keys().copied())
    }

    /// Grows with every change; the same on every replica.
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl TopicManifest {
    /// Rows of the live segments.
    pub fn live_rows(&self) -> u64 {
        rows_of(self.segments.values())
    }

    /// The offsets of which is known what became of them: a row in a live segment, or one of the [`RowCounts`]. As many
    /// as lie below where the partitions are sealed (S1).
    pub fn accounted(&self) -> u64 {
        self.live_rows().saturating_add(self.counts.total())
    }

    /// The lowest offset of `partition` that a live segment holds.
    pub fn lowest_offset(&self, partition: PartitionId) -> Option<Offset> {
        self.segments.values().filter_map(|meta| meta.range(partition)).map(|range| range.first).min()
    }
}

fn topic_of(seal: &internal::Seal) -> Result<TopicId, SealRejected> {
    let malformed = || Error::new(Code::CorruptData, "the topic of a seal does not have 16 bytes");
    TopicId::from_slice(&seal.topic).ok_or_else(|| SealRejected::Malformed(malformed()))
}

type Added = BTreeMap<SegmentId, Arc<SegmentMeta>>;

/// Why a segment cannot be added.
enum Clash {
    Duplicate(SegmentId),
    Malformed(Error),
}

fn added_segments(topic: TopicId, raw: &[internal::SegmentMeta], live: &TopicManifest) -> Result<Added, Clash> {
    let mut added = BTreeMap::new();
    for raw in raw {
        let meta = SegmentMeta::try_from(raw).map_err(Clash::Malformed)?;
        let segment = meta.id;
        if meta.topic != topic {
            let what = format!("segment {segment} belongs to topic {}, not to {topic}", meta.topic);
            return Err(Clash::Malformed(Error::new(Code::CorruptData, what)));
        }
        if live.segments.contains_key(&segment) || added.insert(segment, Arc::new(meta)).is_some() {
            return Err(Clash::Duplicate(segment));
        }
    }
    Ok(added)
}

fn rows_of<'a>(metas: impl IntoIterator<Item = &'a Arc<SegmentMeta>>) -> u64 {
    metas.into_iter().map(|meta| meta.rows).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests;
