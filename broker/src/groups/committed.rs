//! How far a group has read, looked at without a copy of it.

use std::borrow::Cow;
use std::sync::Arc;

use stratalog_proto::{Offset, PartitionId, TopicId};

use crate::shard::{CommittedOffset, Group};

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<'a> {
    /// The topic. It may be gone by now.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// The next offset to read.
    pub offset: Offset,
    /// Of the last record that was read, if that was known.
    pub leader_epoch: Option<u32>,
    /// What the consumer wanted to remember beside it.
    pub metadata: Cow<'a, str>,
}

impl Committed<'_> {
    /// One that outlives what it was looked up in.
    pub fn into_owned(self) -> Committed<'static> {
        let Self { topic, partition, offset, leader_epoch, metadata } = self;
        Committed { topic, partition, offset, leader_epoch, metadata: Cow::Owned(metadata.into_owned()) }
    }
}

/// What a group had committed at one moment. It is shared with the group: whoever copies of it can see before how much that is.
#[derive(Clone, Debug, Default)]
pub struct CommittedOffsets(Option<Arc<Group>>);

impl CommittedOffsets {
    /// Those of a group; `None`: there is no such group.
    pub(super) fn of(group: Option<Arc<Group>>) -> Self {
        Self(group)
    }

    /// All of them, ascending by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = Committed<'_>> {
        let offsets = self.0.iter().flat_map(|group| group.offsets());
        offsets.map(|(place, committed)| at(*place, committed))
    }

    /// That of a partition.
    pub fn get(&self, topic: TopicId, partition: PartitionId) -> Option<Committed<'_>> {
        let place = (topic, partition);
        self.0.as_ref()?.offsets().get(&place).map(|committed| at(place, committed))
    }
}

fn at((topic, partition): (TopicId, PartitionId), committed: &CommittedOffset) -> Committed<'_> {
    let CommittedOffset { offset, leader_epoch, ref metadata, .. } = *committed;
    Committed { topic, partition, offset, leader_epoch, metadata: Cow::Borrowed(metadata.as_str()) }
}
