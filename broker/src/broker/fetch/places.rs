//! Where the partitions of a fetch are read.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{FutureExt, join_all};
use stratalog_proto::{Code, Error, NodeId, Offset, PartitionId, ShardId};
use stratalog_query::TopicInfo;
use tokio::time::{Instant, timeout_at};

use super::{Broker, all_without, is_not_led};
use crate::cluster::route::Leader;
use crate::fetch::{FetchRequest, FetchedPartition, ReadFrom};
use crate::shard::Shard;

/// A replica is up to date that has applied everything which was committed so long ago: a few heartbeats.
pub(super) const FRESH: Duration = Duration::from_secs(2);

/// So many replicas in the zone are asked for a shard before its leader is.
const NEIGHBOURS: usize = 2;

/// Where a shard is read, which is `None` if nobody leads it as far as is known, and whether a replica answers there that need
/// not lead it.
type Place = (Option<Leader>, bool);

/// Partitions that are read in one place.
pub(super) struct Group {
    /// `None`: nobody leads their shards, as far as is known.
    pub(super) place: Option<Leader>,
    /// Replicas answer there, whether they lead or not.
    pub(super) by_replicas: bool,
    pub(super) partitions: Vec<(PartitionId, Offset)>,
}

impl Group {
    /// The partitions of a node that did not answer in time. It is not believed to lead them from then on: it may hang, and
    /// would be asked in vain for ever, as long as the other groups have something.
    pub(super) fn silent(&self) -> Vec<FetchedPartition> {
        let why = "the node that leads the shard of the partition, as far as is known, did not answer in time";
        all_without(&self.partitions, &Error::new(Code::NotLeader, why))
    }
}

/// What became of partitions that were not read where they were looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failures {
    None,
    /// Of some shards nobody leads where it was looked.
    OfLeaders,
    /// Some replicas could not answer what the leader may, and are not asked again.
    OfReplicas,
}

/// Replicas that could not answer what the leader may, by shard.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<ShardId, BTreeSet<Leader>>);

impl Refusals {
    /// One of a shard.
    fn note(&mut self, shard: ShardId, place: Leader) {
        self.0.entry(shard).or_default().insert(place);
    }

    /// The first of some replicas of a shard that has not refused, unless enough of them have.
    fn next(&self, shard: ShardId, mut replicas: impl Iterator<Item = Leader>) -> Option<Leader> {
        match self.0.get(&shard) {
            None => replicas.next(),
            Some(refused) if refused.len() < NEIGHBOURS => replicas.find(|replica| !refused.contains(replica)),
            Some(_) => None,
        }
    }
}

impl Broker {
    /// Partitions by who reads them. Leaders that are not known are looked for all at once, until `patience`.
    pub(super) async fn grouped(
        &self,
        topic: &TopicInfo,
        request: &FetchRequest,
        refusals: &Refusals,
        patience: Instant,
    ) -> Vec<Group> {
        let hosted_by = |partition: PartitionId| topic.shards.get(partition.0 as usize).copied();
        let shards: BTreeSet<ShardId> =
            request.partitions.iter().filter_map(|(partition, _)| hosted_by(*partition)).collect();
        let placed = shards.into_iter().map(|shard| async move {
            let place = timeout_at(patience, self.place_of(shard, request.from, refusals)).await;
            (shard, place.unwrap_or((None, false)))
        });
        // Boxed, since the compiler cannot tell otherwise that what it borrows lives long enough.
        let placed: Vec<_> = placed.map(FutureExt::boxed).collect();
        let places: BTreeMap<ShardId, Place> = join_all(placed).await.into_iter().collect();
        let mut groups: BTreeMap<Place, Vec<(PartitionId, Offset)>> = BTreeMap::new();
        for (partition, offset) in &request.partitions {
            // One that does not exist is refused here as well as anywhere.
            let nowhere = (Some(Leader::Here), false);
            let place = hosted_by(*partition).and_then(|shard| places.get(&shard).copied()).unwrap_or(nowhere);
            groups.entry(place).or_default().push((*partition, *offset));
        }
        let group = |((place, by_replicas), partitions)| Group { place, by_replicas, partitions };
        groups.into_iter().map(group).collect()
    }

    async fn place_of(&self, shard: ShardId, from: ReadFrom, refusals: &Refusals) -> Place {
        let replica = match from {
            ReadFrom::Leader => None,
            ReadFrom::Replica => refusals.next(shard, self.shards.get(shard).map(|_| Leader::Here).into_iter()),
            ReadFrom::Zone => self.in_zone(shard, refusals),
        };
        match (replica, self.router.known_leader(shard)) {
            (Some(replica), _) => (Some(replica), true),
            (None, Some(leader)) => (Some(leader), false),
            (None, None) => (self.router.ask_replicas(shard).await.map(Leader::At), false),
        }
    }

    /// A replica in the zone of this node: its own if that is up to date, else that of a node which is reached.
    fn in_zone(&self, shard: ShardId, refusals: &Refusals) -> Option<Leader> {
        let (here, nodes) = (self.is_fresh(shard).then_some(Leader::Here), self.nodes());
        let reached = |node: &NodeId| nodes.problem(*node).is_none();
        let view = nodes.view();
        let neighbours = view.neighbours(nodes.me(), shard).filter(reached).map(Leader::At);
        refusals.next(shard, here.into_iter().chain(neighbours))
    }

    /// Whether the replica of a shard here, if there is one, has applied all but the newest of what is committed.
    pub(super) fn is_fresh(&self, shard: ShardId) -> bool {
        let has_applied = |shard: Arc<Shard>| shard.group().age_of(shard.applied()).is_some_and(|age| age < FRESH);
        self.router.leads(shard) || self.shards.get(shard).is_some_and(has_applied)
    }

    /// Remembers where partitions were not read that may be elsewhere.
    pub(super) fn note_failures(
        &self,
        topic: &TopicInfo,
        groups: &[Group],
        found: &[FetchedPartition],
        refusals: &mut Refusals,
    ) -> Failures {
        let shard_of = |partition: PartitionId| topic.shards.get(partition.0 as usize).copied();
        let mut by_replicas: BTreeMap<ShardId, Leader> = BTreeMap::new();
        for group in groups.iter().filter(|group| group.by_replicas) {
            let shards = group.partitions.iter().filter_map(|(partition, _)| shard_of(*partition));
            by_replicas
                .extend(shards.zip(iter::repeat(group.place)).filter_map(|(shard, place)| Some((shard, place?))));
        }
        let mut failures = Failures::None;
        for shard in found.iter().filter(|one| is_not_led(one)).filter_map(|one| shard_of(one.partition)) {
            if let Some(place) = by_replicas.get(&shard) {
                refusals.note(shard, *place);
                failures = Failures::OfReplicas;
            } else {
                self.router.forget_leader(shard);
                failures = failures.max(Failures::OfLeaders);
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_that_refused_is_skipped_and_after_two_the_leader_is_asked() {
        let shard = ShardId(1);
        let [here, near, far] = [Leader::Here, Leader::At(NodeId(2)), Leader::At(NodeId(3))];
        let mut refusals = Refusals::default();
        let next = |refusals: &Refusals, replicas: &[Leader]| refusals.next(shard, replicas.iter().copied());
        assert_eq!(next(&refusals, &[near, far]), Some(near));
        refusals.note(ShardId(2), near);
        assert_eq!(next(&refusals, &[near, far]), Some(near), "it refused for another shard");
        refusals.note(shard, near);
        assert_eq!(next(&refusals, &[near]), None);
        assert_eq!(next(&refusals, &[near, far]), Some(far));
        refusals.note(shard, far);
        assert_eq!(next(&refusals, &[near, far, here]), None);
    }
}
