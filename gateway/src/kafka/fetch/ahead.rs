//! What is said of partitions before anything is read: that the client knows another leader than there is, has records that the
//! log has not, or should rather read a replica that is nearer to it.

use std::collections::BTreeMap;

use futures::future::join_all;
use stratalog_proto::{Offset, PartitionId, Term};
use stratalog_query::TopicInfo;

use super::gather::{Outcome, Read};
use super::{Node, Partition};
use crate::kafka::places::broker_id;
use crate::kafka::{epochs, errors};

/// The partitions of a topic that are not to be read. `rack`: the zone of the client, or empty.
pub(super) async fn look(
    node: &Node,
    rack: &str,
    topic: &TopicInfo,
    wanted: &[Partition],
) -> BTreeMap<PartitionId, Read> {
    let claims = wanted.iter().map(|partition| (partition.index, partition.epoch));
    let refused = epochs::refused(node, topic, claims).await;
    let exists = |asked: &&Partition| u32::try_from(asked.index).is_ok_and(|index| index < topic.partitions);
    let (mut known, mut says_more) = (BTreeMap::new(), Vec::new());
    for asked in wanted.iter().filter(exists) {
        let partition = PartitionId(asked.index as u32);
        let read = match refused.get(&asked.index) {
            Some(error) => Some(Read::without_records(partition, Outcome::Refused(error.code()))),
            None if asked.last_epoch < 0 => nearer(node, rack, topic, partition, asked.offset),
            None => {
                says_more.push((partition, asked));
                None
            }
        };
        known.extend(read.map(|read| (partition, read)));
    }
    let looks = says_more.into_iter().map(|(partition, asked)| async move {
        let diverges = divergence(node, topic, partition, asked).await;
        diverges.or_else(|| nearer(node, rack, topic, partition, asked.offset))
    });
    known.extend(join_all(looks).await.into_iter().flatten().map(|read| (read.partition, read)));
    known
}

/// Where the client should rather read.
fn nearer(node: &Node, rack: &str, topic: &TopicInfo, partition: PartitionId, offset: i64) -> Option<Read> {
    let offset = u64::try_from(offset).ok().filter(|_| !rack.is_empty()).map(Offset)?;
    let nearer = node.shared.broker.nearer_replica(topic, partition, offset, rack)?;
    Some(Read {
        partition,
        log_start: nearer.log_start.0 as i64,
        high_watermark: nearer.high_watermark.0 as i64,
        outcome: Outcome::Nearer(broker_id(nearer.node)),
    })
}

/// Whether a client that says of which epoch its last record is has lost its way; or why that is not known.
async fn divergence(node: &Node, topic: &TopicInfo, partition: PartitionId, asked: &Partition) -> Option<Read> {
    let (last_epoch, offset) = (u64::try_from(asked.last_epoch).ok()?, u64::try_from(asked.offset).ok()?);
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
