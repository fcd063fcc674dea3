//! Whom a leader sends a reader to that says where it is (KIP-392): a replica in the reader's zone.

use std::time::Duration;

use stratalog_proto::{NodeId, Offset, PartitionId, RaftIndex, ReplicaId};
use stratalog_query::TopicInfo;

use super::super::Broker;
use super::super::read::shard_of;
use super::places::FRESH;
use crate::meta::ClusterView;
use crate::shard::ShardState;

/// A replica that lacks more of the log than this catches up, and has its records read elsewhere.
const MAX_LAG_BYTES: u64 = 16 << 20;

/// A replica that a reader should rather read, and where its partition begins and ends as the leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearer {
    /// Where it is.
    pub node: NodeId,
    /// The lowest offset that can be read.
    pub log_start: Offset,
    /// One past the highest.
    pub high_watermark: Offset,
}

/// What a leader knows of another replica.
#[derive(Clone, Copy, Debug)]
struct Follower {
    node: NodeId,
    /// Up to where it has the log.
    has: RaftIndex,
    /// Bytes of log that it lacks.
    lacks: u64,
    /// How long ago it answered.
    silent: Duration,
}

impl Follower {
    /// Whether it answers, is not far behind, and has the entry.
    fn may_serve(&self, entry: RaftIndex) -> bool {
        self.silent < FRESH && self.lacks <= MAX_LAG_BYTES && self.has >= entry
    }
}

/// The best of some followers for a reader that goes on behind an entry.
fn best(followers: impl Iterator<Item = Follower>, entry: RaftIndex) -> Option<NodeId> {
    let fit = followers.filter(|follower| follower.may_serve(entry));
    fit.max_by_key(|follower| (follower.has, std::cmp::Reverse(follower.node))).map(|follower| follower.node)
}

impl Broker {
    /// The replica in a zone that a reader there should rather read than this node, which leads the partition. `None` if this node
    /// does not lead it, or is in that zone itself, or no replica there has all that lies below the offset and is up to date;
    /// and for an offset that cannot be read.
    pub fn nearer_replica(
        &self,
        topic: &TopicInfo,
        partition: PartitionId,
        offset: Offset,
        zone: &str,
    ) -> Option<Nearer> {
        let (id, view) = (shard_of(topic, partition).ok()?, self.nodes.view());
        let in_zone = |node: &NodeId| view.nodes.get(node).is_some_and(|known| known.zone == zone);
        if zone.is_empty() || in_zone(&self.nodes.me()) || !self.router.leads(id) {
            return None;
        }
        let shard = self.shards.get(id)?;
        let (log_start, high_watermark, entry) = shard.read(|state| bounds(state, topic, partition, offset))?;
        let away = self.absent_nodes();
        let near = reachable_by_kafka(&view).filter(in_zone).filter(|node| !away.contains(node));
        let (near, group): (Vec<_>, _) = (near.collect(), shard.group());
        let replicas = view.shards.get(&id)?.voters().filter(|(_, node)| near.contains(node));
        let follower = |(replica, node): (ReplicaId, NodeId)| {
            let (has, lacks, silent) = group.follower(replica)?;
            Some(Follower { node, has, lacks, silent })
        };
        let node = best(replicas.filter_map(follower), entry)?;
        Some(Nearer { node, log_start, high_watermark })
    }
}

/// The nodes that clients are told of.
fn reachable_by_kafka(view: &ClusterView) -> impl Iterator<Item = NodeId> {
    view.nodes.iter().filter(|(_, known)| !known.kafka_address.is_empty()).map(|(node, _)| *node)
}

/// Where a partition begins and ends, and the entry of the record before an offset that can be read.
fn bounds(
    state: &ShardState,
    topic: &TopicInfo,
    partition: PartitionId,
    offset: Offset,
) -> Option<(Offset, Offset, RaftIndex)> {
    let found = state.partition(topic.id, partition)?;
    let (log_start, high_watermark) = (found.log_start(), found.high_watermark());
    if !(log_start..=high_watermark).contains(&offset) {
        return None;
    }
    let rolled = state.manifest().replay_frontier();
    let before = offset.0.checked_sub(1).map(Offset);
    let slot = before.and_then(|before| found.batches_from(before).next().filter(|slot| slot.base_offset <= before));
    Some((log_start, high_watermark, slot.map_or(rolled, |slot| slot.index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_sent_to_whoever_answers_and_has_what_they_read_last() {
        let follower = |node, has, lacks, silent_ms| Follower {
            node: NodeId(node),
            has: RaftIndex(has),
            lacks,
            silent: Duration::from_millis(silent_ms),
        };
        let of = |followers: &[Follower]| best(followers.iter().copied(), RaftIndex(10)).map(|node| node.0);
        assert_eq!(of(&[follower(2, 9, 0, 0), follower(3, 10, 0, 0)]), Some(3));
        assert_eq!(of(&[follower(2, 10, 0, 0), follower(3, 12, 0, 0), follower(4, 12, 0, 0)]), Some(3));
        assert_eq!(of(&[follower(2, 11, 0, 5_000), follower(3, 11, MAX_LAG_BYTES + 1, 0), follower(4, 9, 0, 0)]), None);
        assert_eq!(of(&[]), None);
    }
}
