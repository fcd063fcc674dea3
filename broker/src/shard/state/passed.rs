//! Records that were deleted before they were sealed.

use std::collections::BTreeMap;

use stratalog_proto::{Offset, PartitionId, RaftIndex, TopicId};

use super::ShardState;

/// A partition whose log start lies above where it is sealed. Rows of the offsets between may have been made or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The first offset above the topic's row frontier.
    pub(crate) sealed: Offset,
    /// The lowest offset that can be read.
    pub(crate) log_start: Offset,
    /// The first offset above the index that was asked for; `None` if that is not known any more.
    pub(crate) end: Option<Offset>,
}

impl Passed {
    /// The most offsets up to `end` that may have no row, since their records are deleted.
    pub(crate) fn most(&self, end: Offset) -> u64 {
        self.log_start.min(end).0.saturating_sub(self.sealed.0)
    }
}

impl ShardState {
    /// The partitions of a topic whose log start lies above where they are sealed, seen at an index at or above the topic's
    /// row frontier.
    pub(crate) fn passed(&self, topic: TopicId, index: RaftIndex) -> BTreeMap<PartitionId, Passed> {
        let in_log = index >= self.replay_frontier();
        let partitions = self.topic(topic).into_iter().flat_map(|hosted| hosted.partitions());
        let passed = partitions.filter(|(_, state)| state.log_start() > state.sealed()).map(|(id, state)| {
            let end = in_log.then(|| state.first_offset_above(index));
            (id, Passed { sealed: state.sealed(), log_start: state.log_start(), end })
        });
        passed.collect()
    }
}
