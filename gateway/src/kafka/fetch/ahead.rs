//! What is said of partitions before anything is read: that the client knows another leader than there is, or has records that
//! the log has not.

use std::collections::BTreeMap;

use futures::future::join_all;
use kafka_protocol::ResponseError;
use stratalog_proto::{Offset, PartitionId, Term};
use stratalog_query::TopicInfo;

use super::gather::{Outcome, Read};
use super::{Node, Partition};
use crate::kafka::{epochs, errors};

/// The partitions of a topic that are not to be read.
pub(super) async fn look(node: &Node, topic: &TopicInfo, wanted: &[Partition]) -> BTreeMap<PartitionId, Read> {
    let claims = wanted.iter().map(|partition| (partition.index, partition.epoch));
    let refused = epochs::refused(node, topic, claims).await;
    let looks = wanted.iter().map(|partition| of_partition(node, topic, partition, &refused));
    join_all(looks).await.into_iter().flatten().map(|read| (read.partition, read)).collect()
}

async fn of_partition(
    node: &Node,
    topic: &TopicInfo,
    wanted: &Partition,
    refused: &BTreeMap<i32, ResponseError>,
) -> Option<Read> {
    let partition = PartitionId(u32::try_from(wanted.index).ok().filter(|index| *index < topic.partitions)?);
    if let Some(error) = refused.get(&wanted.index) {
        return Some(Read::without_records(partition, Outcome::Refused(error.code())));
    }
    let (last_epoch, offset) = (u64::try_from(wanted.last_epoch).ok()?, u64::try_from(wanted.offset).ok()?);
    match node.shared.broker.end_offset_of_epoch(&topic.name, partition, Term(last_epoch)).await {
        Ok((epoch, end)) if diverges(end, offset) => {
            let (epoch, end) = (epochs::number(epoch), end.0 as i64);
            Some(Read::without_records(partition, Outcome::Diverges { epoch, end }))
        }
        Ok(_) => None,
        Err(error) => Some(Read::without_records(partition, Outcome::Refused(errors::of_fetch(error.code)))),
    }
}

/// Whether a client that fetches from an offset on has records that are not in the log, if the epoch of its last one ends here.
fn diverges(end: Offset, offset: u64) -> bool {
    end.0 < offset
}
