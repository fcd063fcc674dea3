//! What has to be true, kept without any code that makes rows.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::{SegmentId, TopicId};

/// A partition of a topic, and an offset in it.
pub(super) type Place = (TopicId, u32, u64);

/// What is known of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Produced {
    /// The number in its value; `None` if the value is not JSON.
    pub(super) number: Option<i64>,
    /// `_time`.
    pub(super) time_ns: i64,
}

/// Every record there ever was, and what became of it.
#[derive(Default)]
pub(super) struct Model {
    records: BTreeMap<Place, Produced>,
    ends: BTreeMap<(TopicId, u32), u64>,
    log_starts: BTreeMap<(TopicId, u32), u64>,
    gone: BTreeSet<Place>,
    /// Rows of an erasure of which nobody knows what became.
    perhaps: BTreeSet<Place>,
    /// The rows of each segment that was live once.
    segments: BTreeMap<SegmentId, Vec<Place>>,
}

impl Model {
    /// A record at the next offset of a partition.
    pub(super) fn produced(&mut self, topic: TopicId, partition: u32, record: Produced) {
        let end = self.ends.entry((topic, partition)).or_default();
        self.records.insert((topic, partition, *end), record);
        *end += 1;
    }

    /// Offsets that a partition has.
    pub(super) fn end(&self, topic: TopicId, partition: u32) -> u64 {
        self.ends.get(&(topic, partition)).copied().unwrap_or_default()
    }

    pub(super) fn log_start(&self, topic: TopicId, partition: u32) -> u64 {
        self.log_starts.get(&(topic, partition)).copied().unwrap_or_default()
    }

    /// Everything below the offset is deleted, of what there is.
    pub(super) fn deleted_below(&mut self, topic: TopicId, partition: u32, offset: u64) {
        let offset = offset.min(self.end(topic, partition));
        let start = self.log_starts.entry((topic, partition)).or_default();
        *start = offset.max(*start);
    }

    /// The rows that a segment was found to have.
    pub(super) fn found(&mut self, segment: SegmentId, rows: Vec<Place>) {
        self.segments.insert(segment, rows);
    }

    pub(super) fn knows(&self, segment: SegmentId) -> bool {
        self.segments.contains_key(&segment)
    }

    /// The rows of a segment.
    pub(super) fn rows_of(&self, segment: SegmentId) -> &[Place] {
        self.segments.get(&segment).map(Vec::as_slice).unwrap_or_default()
    }

    /// The rows of a segment go.
    pub(super) fn dropped(&mut self, segment: SegmentId) {
        let rows = self.segments.get(&segment).expect("only segments that were looked at are dropped");
        self.gone.extend(rows.iter().copied());
    }

    /// Rows were erased, or perhaps were.
    pub(super) fn erased(&mut self, rows: Vec<Place>, surely: bool) {
        if surely { self.gone.extend(rows) } else { self.perhaps.extend(rows) }
    }

    /// Of rows that are missing: those that nothing has taken away. The others are gone from now on.
    pub(super) fn unexplained(&mut self, missing: &[Place]) -> Option<Place> {
        self.gone.extend(missing.iter().filter(|place| self.perhaps.contains(place)));
        missing.iter().find(|place| !self.perhaps.contains(place)).copied()
    }

    pub(super) fn record(&self, place: &Place) -> Option<&Produced> {
        self.records.get(place)
    }

    /// The rows that a topic has to have.
    pub(super) fn live(&self, topic: TopicId) -> BTreeSet<Place> {
        let of_topic = self.records.keys().filter(|place| place.0 == topic);
        let live = of_topic.filter(|place| !self.gone.contains(place) && place.2 >= self.log_start(place.0, place.1));
        live.copied().collect()
    }
}
