//! Where a consumer stands.

use std::collections::BTreeMap;

use stratalog_proto::v1::list_offsets_request::At;
use stratalog_proto::{Code, Offset, PartitionId, v1};

use super::{ConsumerOptions, Start, Stop};
use crate::retry::ask;
use crate::{Client, ClientError};

/// Where one partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The next offset to read.
    pub(super) next: Offset,
    /// The first offset that is not read; `None` reads on for ever.
    pub(super) end: Option<Offset>,
}

impl Position {
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// Where each partition stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    by_partition: BTreeMap<PartitionId, Position>,
    /// Where the next fetch begins.
    first: PartitionId,
}

impl Positions {
    /// Finds where to start and where to stop.
    pub(super) async fn resolve(client: &Client, topic: &str, options: &ConsumerOptions) -> Result<Self, ClientError> {
        let described = client.describe_topic(topic).await?;
        let count = described.topic.map_or(0, |topic| topic.partitions);
        let partitions = select_partitions(topic, count, options.partitions.as_deref())?;
        let starts = match options.start {
            Start::Offset(offset) => partitions.iter().map(|partition| (*partition, offset)).collect(),
            Start::Earliest => list_offsets(client, topic, At::Earliest(true)).await?,
            Start::Latest => list_offsets(client, topic, At::Latest(true)).await?,
            Start::Time(ns) => list_offsets(client, topic, At::TimeNs(ns)).await?,
        };
        let ends = match options.stop {
            Stop::Never => None,
            Stop::AtEnd => Some(list_offsets(client, topic, At::Latest(true)).await?),
        };
        let position = |partition: PartitionId| -> Result<_, ClientError> {
            let end = ends.as_ref().map(|ends| offset_of(ends, topic, partition)).transpose()?;
            Ok((partition, Position { next: offset_of(&starts, topic, partition)?, end }))
        };
        let by_partition: BTreeMap<_, _> = partitions.into_iter().map(position).collect::<Result<_, _>>()?;
        Ok(Self { by_partition, first: PartitionId(0) })
    }

    /// Partitions that still have something to read, with their next offsets. Each time the next one is in front: the
    /// first may fill an answer alone, and the others would never be read.
    pub(super) fn wanted(&mut self) -> Vec<v1::FetchPartition> {
        let turned = self.by_partition.range(self.first..).chain(self.by_partition.range(..self.first));
        let open = turned.filter(|(_, position)| !position.is_done());
        let wanted: Vec<_> = open
            .map(|(partition, position)| v1::FetchPartition { partition: partition.0, offset: position.next.0 })
            .collect();
        self.first = wanted.first().map_or(self.first, |first| PartitionId(first.partition + 1));
        wanted
    }

    /// The partition's position, to read and to move.
    pub(super) fn get_mut(&mut self, partition: PartitionId) -> Option<&mut Position> {
        self.by_partition.get_mut(&partition)
    }
}

/// The partitions of a topic, or those asked for.
fn select_partitions(topic: &str, count: u32, asked: Option<&[PartitionId]>) -> Result<Vec<PartitionId>, ClientError> {
    let Some(asked) = asked else { return Ok((0..count).map(PartitionId).collect()) };
    if let Some(missing) = asked.iter().find(|partition| partition.0 >= count) {
        let message = format!("topic {topic} has no partition {missing}; it has {count}, numbered from 0");
        return Err(ClientError::new(Code::UnknownPartition, message));
    }
    Ok(asked.to_vec())
}

fn offset_of(
    offsets: &BTreeMap<PartitionId, Offset>,
    topic: &str,
    partition: PartitionId,
) -> Result<Offset, ClientError> {
    let message = || format!("the node knows no offset of partition {partition} of topic {topic}; try again");
    offsets.get(&partition).copied().ok_or_else(|| ClientError::new(Code::Unavailable, message()))
}

async fn list_offsets(client: &Client, topic: &str, at: At) -> Result<BTreeMap<PartitionId, Offset>, ClientError> {
    let request = v1::ListOffsetsRequest { topic: topic.to_owned(), at: Some(at) };
    let offsets = ask!(reading, client, log.list_offsets(request))?.offsets;
    Ok(offsets.into_iter().map(|found| (PartitionId(found.partition), Offset(found.offset))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fetch_begins_with_the_partition_after_the_one_before() {
        let position = |next| Position { next: Offset(next), end: Some(Offset(5)) };
        let by_partition =
            [(1, 0), (4, 0), (6, 5), (9, 0)].map(|(partition, next)| (PartitionId(partition), position(next)));
        let mut positions = Positions { by_partition: by_partition.into(), first: PartitionId(0) };
        let mut wanted = || positions.wanted().iter().map(|asked| asked.partition).collect::<Vec<_>>();
        assert_eq!([wanted(), wanted(), wanted(), wanted()], [[1, 4, 9], [4, 9, 1], [9, 1, 4], [1, 4, 9]]);
    }
}
