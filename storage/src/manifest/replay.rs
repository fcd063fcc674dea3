//! The replay segments of a shard and its replay frontier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, PartitionId, RaftIndex, SegmentId, TopicId, internal};

use crate::rec::{ErasedOffsets, RecMeta, RecRange};

/// Why a [`super::Manifest::roll`] or [`super::Manifest::repack`] changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollRejected {
    /// S2: another roll came first.
    #[error("cannot roll the log from {expect}: the replay frontier is at {frontier}")]
    Stale {
        /// What the roll was built on.
        expect: RaftIndex,
        /// Where the frontier is.
        frontier: RaftIndex,
    },
    /// A frontier that would not move forward.
    #[error("cannot roll the log from {expect} to {next}: the replay frontier only moves forward")]
    Backwards {
        /// What the roll was built on.
        expect: RaftIndex,
        /// Where it would move the frontier.
        next: RaftIndex,
    },
    /// A segment with entries that the roll does not move the frontier over.
    #[error("cannot roll the log from {expect} to {next}: replay segment {segment} is of other entries")]
    Outside {
        /// What the roll was built on.
        expect: RaftIndex,
        /// Where it would move the frontier.
        next: RaftIndex,
        /// The segment.
        segment: SegmentId,
    },
    /// A segment id that is live already, or twice in the command.
    #[error("cannot add replay segment {0}: it is in the manifest already")]
    Duplicate(SegmentId),
    /// A topic in two segments of the same roll.
    #[error("cannot roll the log: two replay segments have batches of topic {0}")]
    TopicTwice(TopicId),
    /// A repack of a segment that is not live: it was repacked, or dropped, before.
    #[error("cannot repack replay segment {0}: it is not in the manifest")]
    NotLive(SegmentId),
    /// A repack whose result is not a part of what it replaces, or that erases what is not in it.
    #[error("cannot replace replay segment {remove} by {add}: {add} is not a part of it")]
    NotAPart {
        /// What is replaced.
        remove: SegmentId,
        /// By what.
        add: SegmentId,
    },
    /// A command whose bytes are not of this version, or contradict themselves.
    #[error("cannot change the replay segments: {0}")]
    Malformed(Error),
}

/// Which entries are in replay segments, and in which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replay {
    frontier: RaftIndex,
    /// Ascending by `through`, then id.
    recs: Vec<Arc<RecMeta>>,
    /// The same, by topic. A topic is in at most one segment of a roll, so that each list ascends by offset, too.
    topics: BTreeMap<TopicId, Vec<Arc<RecMeta>>>,
}

impl Replay {
    pub(super) fn frontier(&self) -> RaftIndex {
        self.frontier
    }

    pub(super) fn recs(&self) -> &[Arc<RecMeta>] {
        &self.recs
    }

    pub(super) fn recs_of(&self, topic: TopicId) -> &[Arc<RecMeta>] {
        self.topics.get(&topic).map_or(&[], |recs| recs)
    }

    /// Checks a roll against this state (S2); gives its segments, ascending by id.
    pub(super) fn check_roll(&self, roll: &internal::Roll) -> Result<Vec<Arc<RecMeta>>, RollRejected> {
        let (expect, next) = (RaftIndex(roll.expect), RaftIndex(roll.next));
        if expect != self.frontier {
            return Err(RollRejected::Stale { expect, frontier: self.frontier });
        }
        if next <= expect {
            return Err(RollRejected::Backwards { expect, next });
        }
        let (mut ids, mut topics) = (BTreeSet::new(), BTreeSet::new());
        let mut added = Vec::with_capacity(roll.segments.len());
        for raw in &roll.segments {
            let meta = RecMeta::try_from(raw).map_err(RollRejected::Malformed)?;
            if meta.after < expect || meta.through > next {
                return Err(RollRejected::Outside { expect, next, segment: meta.id });
            }
            if self.is_live(meta.id) || !ids.insert(meta.id) {
                return Err(RollRejected::Duplicate(meta.id));
            }
            if let Some(twice) = meta.topics.iter().find(|of| !topics.insert(of.topic)) {
                return Err(RollRejected::TopicTwice(twice.topic));
            }
            added.push(Arc::new(meta));
        }
        added.sort_unstable_by_key(|meta| (meta.through, meta.id));
        Ok(added)
    }

    /// Moves the frontier and adds what [`Replay::check_roll`] gave.
    pub(super) fn roll(&mut self, next: RaftIndex, added: Vec<Arc<RecMeta>>) {
        self.frontier = next;
        added.iter().for_each(|meta| self.enlist(meta));
        self.recs.extend(added);
    }

    /// Checks a repack against this state (S2); gives where the segment to be replaced is, and what replaces it.
    pub(super) fn check_repack(
        &self,
        repack: &internal::Repack,
    ) -> Result<(usize, Option<Arc<RecMeta>>), RollRejected> {
        let malformed = || Error::new(Code::CorruptData, "the segment of a repack does not have 16 bytes");
        let remove = SegmentId::from_slice(&repack.remove).ok_or_else(|| RollRejected::Malformed(malformed()))?;
        let live = self.recs.iter().position(|meta| meta.id == remove).ok_or(RollRejected::NotLive(remove))?;
        let Some(raw) = repack.add.as_ref().filter(|add| !add.topics.is_empty()) else { return Ok((live, None)) };
        let add = RecMeta::try_from(raw).map_err(RollRejected::Malformed)?;
        if self.is_live(add.id) {
            return Err(RollRejected::Duplicate(add.id));
        }
        let erased = ErasedOffsets::from_proto(&repack.erased).map_err(RollRejected::Malformed)?;
        if !is_part(&add, &self.recs[live], &erased) {
            return Err(RollRejected::NotAPart { remove, add: add.id });
        }
        Ok((live, Some(Arc::new(add))))
    }

    /// Puts what [`Replay::check_repack`] gave in the place of what it replaces, which it gives.
    pub(super) fn repack(&mut self, live: usize, add: Option<Arc<RecMeta>>) -> Arc<RecMeta> {
        let removed = self.recs.remove(live);
        self.delist(&removed);
        if let Some(add) = add {
            self.enlist(&add);
            let key = (add.through, add.id);
            let at = self.recs.partition_point(|meta| (meta.through, meta.id) < key);
            self.recs.insert(at, add);
        }
        removed
    }

    /// The segment that holds an offset of a partition.
    pub(super) fn rec_with(&self, topic: TopicId, partition: PartitionId, offset: Offset) -> Option<&Arc<RecMeta>> {
        let recs = self.recs_of(topic);
        let (mut low, mut high) = (0, recs.len());
        while low < high {
            let middle = low + (high - low) / 2;
            // Not every segment of the topic has batches of the partition: the next one that has decides.
            let next = (middle..high).find_map(|at| Some((at, recs[at].range(topic, partition)?)));
            match next {
                None => high = middle,
                Some((_, range)) if offset < range.first => high = middle,
                Some((at, range)) if offset >= range.next => low = at + 1,
                Some((at, _)) => return Some(&recs[at]),
            }
        }
        None
    }

    /// Whether all batches of a segment lie below the log starts of their partitions.
    pub(super) fn is_below(meta: &RecMeta, log_start: impl Fn(TopicId, PartitionId) -> Offset) -> bool {
        meta.ranges().all(|(topic, range)| range.next <= log_start(topic, range.partition))
    }

    /// Removes the segments whose batches all lie below the log starts of their partitions.
    pub(super) fn remove_below(&mut self, log_start: impl Fn(TopicId, PartitionId) -> Offset) -> Vec<Arc<RecMeta>> {
        let removed: Vec<_> = self.recs.extract_if(.., |meta| Self::is_below(meta, &log_start)).collect();
        removed.iter().for_each(|meta| self.delist(meta));
        removed
    }

    /// The state that has this frontier and these segments.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if they contradict each other, and those of [`RecMeta`]'s own checks.
    pub(super) fn restore(frontier: RaftIndex, recs: &[internal::RecMeta]) -> Result<Self, Error> {
        let recs: Vec<_> = recs.iter().map(|raw| RecMeta::try_from(raw).map(Arc::new)).collect::<Result<_, _>>()?;
        let corrupt = |what| Err(Error::new(Code::CorruptData, format!("replay segments of a snapshot: {what}")));
        if !recs.is_sorted_by(|a, b| (a.through, a.id) < (b.through, b.id)) {
            return corrupt("they do not ascend by their last entry and id");
        }
        if recs.last().is_some_and(|last| last.through > frontier) {
            return corrupt("one of them is above the replay frontier");
        }
        let mut replay = Self { frontier, recs: Vec::new(), topics: BTreeMap::new() };
        recs.iter().for_each(|meta| replay.enlist(meta));
        replay.recs = recs;
        let ids: BTreeSet<_> = replay.recs.iter().map(|meta| meta.id).collect();
        if ids.len() != replay.recs.len() {
            return corrupt("two of them have the same id");
        }
        if !replay.topics.iter().all(|(topic, recs)| ascends(*topic, recs)) {
            return corrupt("two of them have the same entries or offsets of a topic");
        }
        Ok(replay)
    }

    fn is_live(&self, id: SegmentId) -> bool {
        self.recs.iter().any(|meta| meta.id == id)
    }

    /// Enters a segment in the list of each of its topics.
    fn enlist(&mut self, meta: &Arc<RecMeta>) {
        for of in &meta.topics {
            let recs = self.topics.entry(of.topic).or_default();
            let at = recs.partition_point(|other| other.through < meta.through);
            recs.insert(at, meta.clone());
        }
    }

    fn delist(&mut self, meta: &RecMeta) {
        for of in &meta.topics {
            let Some(recs) = self.topics.get_mut(&of.topic) else { continue };
            recs.retain(|other| other.id != meta.id);
            if recs.is_empty() {
                self.topics.remove(&of.topic);
            }
        }
    }
}

/// Whether a segment has partitions of the same entries as another one, each as it is there, but for what the records at
/// the erased offsets weighed and when they were.
fn is_part(part: &RecMeta, whole: &RecMeta, erased: &ErasedOffsets) -> bool {
    let same = |(topic, range): (TopicId, &RecRange)| {
        whole.range(topic, range.partition).is_some_and(|there| match erased.of(topic, range.partition) {
            Some(_) => (range.first, range.next) == (there.first, there.next),
            None => range == there,
        })
    };
    (part.after, part.through) == (whole.after, whole.through) && part.ranges().all(same) && erased.lie_in(part)
}

/// Whether the segments of a topic are of different entries, and hold ascending offsets.
fn ascends(topic: TopicId, recs: &[Arc<RecMeta>]) -> bool {
    let mut ranges = recs.iter().filter_map(|meta| meta.topic(topic)).flat_map(|of| &of.ranges);
    let mut next: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    let follows = |range: &RecRange| next.insert(range.partition, range.next) <= Some(range.first);
    recs.windows(2).all(|pair| pair[0].through <= pair[1].after) && ranges.all(follows)
}
