//! How far a group has read, looked at without a copy of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
    fn lent(&self) -> Committed<'_> {
        Committed { metadata: Cow::Borrowed(&self.metadata), ..*self }
    }

    /// One that outlives what it was looked up in.
    pub fn into_owned(self) -> Committed<'static> {
        let Self { topic, partition, offset, leader_epoch, metadata } = self;
        Committed { topic, partition, offset, leader_epoch, metadata: Cow::Owned(metadata.into_owned()) }
    }
}

/// What a group had committed at one moment. Where it is coordinated it is shared with the group: whoever copies of it can see
/// before how much that is.
#[derive(Clone, Debug)]
pub struct CommittedOffsets(Source);

#[derive(Clone, Debug)]
enum Source {
    Group(Option<Arc<Group>>),
    Told(BTreeMap<(TopicId, PartitionId), Committed<'static>>),
}

impl CommittedOffsets {
    /// Those of a group; `None`: there is no such group.
    pub(super) fn of(group: Option<Arc<Group>>) -> Self {
        Self(Source::Group(group))
    }

    /// What another node told.
    pub(super) fn told(offsets: impl Iterator<Item = Committed<'static>>) -> Self {
        Self(Source::Told(offsets.map(|of| ((of.topic, of.partition), of)).collect()))
    }

    /// All of them, ascending by topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = Committed<'_>> {
        let (group, told) = match &self.0 {
            Source::Group(group) => (group.as_ref(), None),
            Source::Told(told) => (None, Some(told)),
        };
        let of_group = group.into_iter().flat_map(|group| group.offsets());
        let of_group = of_group.map(|(place, committed)| at(*place, committed));
        of_group.chain(told.into_iter().flat_map(BTreeMap::values).map(Committed::lent))
    }

    /// That of a partition.
    pub fn get(&self, topic: TopicId, partition: PartitionId) -> Option<Committed<'_>> {
        let place = (topic, partition);
        match &self.0 {
            Source::Group(group) => group.as_ref()?.offsets().get(&place).map(|committed| at(place, committed)),
            Source::Told(told) => told.get(&place).map(Committed::lent),
        }
    }
}

fn at((topic, partition): (TopicId, PartitionId), committed: &CommittedOffset) -> Committed<'_> {
    let CommittedOffset { offset, leader_epoch, ref metadata, .. } = *committed;
    Committed { topic, partition, offset, leader_epoch, metadata: Cow::Borrowed(metadata.as_str()) }
}
