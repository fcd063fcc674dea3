//! How far a topic reaches in a shard: its files, and where its partitions begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::{Offset, PartitionId, RaftIndex, TopicId};
use stratalog_storage::{RecMeta, SegmentMeta};

use crate::shard::ShardState;

/// What of a topic is in files, and where its partitions begin, all at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    /// Everything at or below it is in `segments`, or was.
    pub(crate) row_frontier: RaftIndex,
    /// The live column segments, ascending by id.
    pub(crate) segments: Vec<Arc<SegmentMeta>>,
    /// The replay segments that hold batches of it, ascending by offset.
    pub(crate) recs: Vec<Arc<RecMeta>>,
    /// The partitions that do not begin at 0.
    pub(crate) begins: BTreeMap<PartitionId, Begin>,
}

/// Where a partition begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// The lowest offset that can be read.
    pub(crate) log_start: Offset,
    /// The first offset above the topic's row frontier.
    pub(crate) sealed: Offset,
}

/// Up to where a topic is sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) row_frontier: RaftIndex,
    /// The first offset above it of each partition.
    pub(crate) offsets: BTreeMap<PartitionId, Offset>,
}

impl Sealed {
    /// A topic as a state has it; nothing if it does not host it.
    pub(crate) fn of(state: &ShardState, topic: TopicId) -> Self {
        let (Some(hosted), Some(live)) = (state.topic(topic), state.manifest().topic(topic)) else {
            return Self::default();
        };
        let offsets = hosted.partitions().map(|(id, partition)| (id, partition.sealed())).collect();
        Self { row_frontier: live.row_frontier, offsets }
    }

    /// Whether the row of an offset is in a column segment, or was.
    pub(super) fn has(&self, partition: PartitionId, offset: Offset) -> bool {
        self.offsets.get(&partition).is_some_and(|sealed| offset < *sealed)
    }
}

impl Extent {
    /// A topic as a state has it; nothing if it does not host it.
    pub(crate) fn of(state: &ShardState, topic: TopicId) -> Self {
        let (Some(hosted), Some(live)) = (state.topic(topic), state.manifest().topic(topic)) else {
            return Self::default();
        };
        let moved = hosted.partitions().filter(|(_, partition)| partition.log_start() > Offset(0));
        Self {
            row_frontier: live.row_frontier,
            segments: live.segments.values().cloned().collect(),
            recs: state.manifest().recs_of(topic).to_vec(),
            begins: moved
                .map(|(id, partition)| (id, Begin { log_start: partition.log_start(), sealed: partition.sealed() }))
                .collect(),
        }
    }

    /// Where a partition begins.
    pub(super) fn log_start(&self, partition: PartitionId) -> Offset {
        self.begins.get(&partition).map_or(Offset(0), |begin| begin.log_start)
    }

    /// The log starts below which rows are left: in a segment that lies on both sides, or, not sealed yet, in the tail.
    pub(super) fn hiding(&self) -> BTreeMap<PartitionId, Offset> {
        let in_tail = self.begins.iter().filter(|(_, begin)| begin.log_start > begin.sealed);
        let mut hiding: BTreeMap<_, _> = in_tail.map(|(id, begin)| (*id, begin.log_start)).collect();
        for range in self.segments.iter().flat_map(|meta| &meta.ranges) {
            let log_start = self.log_start(range.partition);
            if range.first < log_start {
                hiding.insert(range.partition, log_start);
            }
        }
        hiding
    }
}
