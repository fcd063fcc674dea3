//! What is done to groups by those who operate them, who ask any node.

use stratalog_proto::{Code, Error, Offset, PartitionId};

use super::{Committed, Described, Listed, Refusal};

/// A group with how far it has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Its id.
    pub group: String,
    /// What it is at the moment.
    pub described: Described,
    /// By topic and partition.
    pub offsets: Vec<Committed<'static>>,
}

impl From<Listed> for GroupStatus {
    /// In short: without members and offsets.
    fn from(listed: Listed) -> Self {
        let Listed { group, protocol_type, state } = listed;
        let described = Described { state, protocol_type, protocol: String::new(), generation: 0, members: Vec::new() };
        Self { group, described, offsets: Vec::new() }
    }
}

/// Where a group is to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// Where partitions begin.
    Earliest,
    /// Where partitions end.
    Latest,
    /// An offset.
    Offset(Offset),
    /// The first record at or after a time, in nanoseconds since the epoch; the end if there is none.
    Time(i64),
    /// So many on from what was committed, or back.
    Shift(i64),
}

/// How far a group has read of a partition, before and after it was reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// `None`: nothing was committed.
    pub before: Option<Offset>,
    /// What is committed from now on.
    pub after: Offset,
}

impl Reset {
    /// A partition whose records are those from `start` to `end`. `asked`: where the reset leads, if that is not a shift.
    /// `None` for a shift of what was never committed.
    pub(crate) fn new(
        topic: &str,
        partition: PartitionId,
        before: Option<Offset>,
        to: (ResetTo, Option<Offset>),
        [start, end]: [Offset; 2],
    ) -> Option<Self> {
        let after = match to {
            (ResetTo::Shift(by), _) => Offset(before?.0.saturating_add_signed(by)),
            (ResetTo::Offset(offset), _) => offset,
            (_, asked) => asked?,
        };
        let after = after.clamp(start, end.max(start));
        Some(Self { topic: topic.to_owned(), partition, before, after })
    }
}

impl Refusal {
    /// As the error of who does not speak Kafka's protocol.
    pub(crate) fn into_error(self, group: &str) -> Error {
        let code = match self {
            Refusal::Other(error) => return error,
            Refusal::NotCoordinator => Code::NotLeader,
            Refusal::Loading => Code::Unavailable,
            Refusal::UnknownMember => Code::UnknownMember,
            Refusal::IllegalGeneration => Code::IllegalGeneration,
            Refusal::RebalanceInProgress => Code::RebalanceInProgress,
            Refusal::FencedInstance => Code::FencedInstance,
            Refusal::NonEmpty => Code::GroupNotEmpty,
            Refusal::NotFound => Code::UnknownGroup,
            Refusal::UnknownTopicOrPartition => Code::UnknownPartition,
            Refusal::InconsistentProtocol
            | Refusal::InvalidSessionTimeout
            | Refusal::InvalidGroup
            | Refusal::MemberIdRequired(_)
            | Refusal::GroupFull
            | Refusal::MetadataTooLarge
            | Refusal::SubscribedToTopic => Code::InvalidRequest,
        };
        Error::new(code, format!("group `{group}`: {self}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_stays_within_the_partition() {
        let reset = |before: Option<u64>, to, asked: Option<u64>| {
            let bounds = [Offset(10), Offset(20)];
            let reset = Reset::new("t", PartitionId(0), before.map(Offset), (to, asked.map(Offset)), bounds);
            reset.map(|reset| reset.after.0)
        };
        assert_eq!(reset(None, ResetTo::Earliest, Some(10)), Some(10));
        assert_eq!(reset(Some(15), ResetTo::Time(0), Some(12)), Some(12));
        assert_eq!(reset(None, ResetTo::Latest, None), None, "the partition is gone");
        for (to, after) in [(3, 10), (10, 10), (17, 17), (21, 20)] {
            assert_eq!(reset(None, ResetTo::Offset(Offset(to)), None), Some(after));
        }
        for (by, after) in [(2, 17), (-2, 13), (i64::MIN, 10), (i64::MAX, 20)] {
            assert_eq!(reset(Some(15), ResetTo::Shift(by), None), Some(after));
        }
        assert_eq!(reset(None, ResetTo::Shift(1), None), None);
    }
}
