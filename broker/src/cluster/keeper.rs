//! Runs the replicas that the metadata gives to this node, and no others.
//!
//! What is on disk says which replica each directory is; what the metadata says is compared with that, so a crash at any
//! point is made good by the next look. A replica id means one replica for ever and ids only grow: that is how a view that
//! is older than what is here is told from one in which a replica was taken away.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use stratalog_proto::{Error, NodeId, ReplicaId, ShardId};
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, META};
use crate::identity::Mark;
use crate::meta::{ClusterView, Placement, Role};
use crate::shard::Shard;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// One step towards what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A replica that is new here. One that `forms` is the first of its group.
    Start { shard: ShardId, replica: ReplicaId, forms: bool },
    /// The first replica of its group, which was made and did not come to begin it.
    Form { shard: ShardId },
    /// A replica that the metadata took away.
    Stop { shard: ShardId, replica: ReplicaId },
}

/// A replica that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    /// It belongs to no group yet.
    Blank,
    /// It has heard of its group.
    Member,
}

/// Follows the metadata until the node stops.
pub(crate) async fn keep(broker: Weak<Broker>, stop: CancellationToken) {
    let Some(mut views) = broker.upgrade().map(|broker| broker.nodes().watch_view()) else { return };
    loop {
        let Some(node) = broker.upgrade() else { return };
        let view = views.borrow_and_update().clone();
        let mut failed = false;
        for step in steps(&view, node.nodes().me(), &node.marks(), &running(&node)) {
            if let Err(error) = take(&node, step).await {
                tracing::warn!(%error, ?step, "a replica could not be started or stopped; it is tried again");
                failed = true;
            }
        }
        drop(node);
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if failed => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn take(broker: &Broker, step: Step) -> Result<(), Error> {
    match step {
        Step::Start { shard, replica, forms } => broker.start_replica(shard, replica, forms).await,
        Step::Form { shard } => broker.group(shard)?.form().await,
        Step::Stop { shard, replica } => broker.stop_replica(shard, replica).await,
    }
}

fn running(broker: &Broker) -> BTreeMap<ShardId, Running> {
    let state = |shard: &Shard| match shard.group().members().voters.is_empty() {
        true => Running::Blank,
        false => Running::Member,
    };
    broker.shards().all().iter().map(|shard| (shard.id(), state(shard))).collect()
}

/// What is to be done now. A replica whose place is still taken by one that goes comes with the next look.
fn steps(
    view: &ClusterView,
    me: NodeId,
    here: &BTreeMap<ShardId, Mark>,
    running: &BTreeMap<ShardId, Running>,
) -> Vec<Step> {
    let stops = here.iter().filter_map(|(shard, mark)| {
        let replica = mark.replica.filter(|_| *shard != META)?;
        let is_gone = replica.0 < view.next_replica && view.node_of(*shard, replica) != Some(me);
        is_gone.then_some(Step::Stop { shard: *shard, replica })
    });
    let starts = view.shards.iter().filter(|(shard, _)| **shard != META).filter_map(|(shard, placement)| {
        let (replica, role) = newest_on(placement, me)?;
        let mark = here.get(shard).copied().unwrap_or_default();
        let is_new = mark.removed.is_none_or(|removed| removed < replica) && role != Role::Leaving;
        let forms = role == Role::Voter && is_only_voter(placement, replica);
        let start = Step::Start { shard: *shard, replica, forms };
        match mark.replica {
            None if is_new => Some(start),
            // The one before it is stopped first, by this very view.
            Some(before) if before < replica && is_new => Some(start),
            // It was made, and then something failed.
            Some(here) if here == replica && !running.contains_key(shard) => Some(start),
            Some(here) if here == replica && forms && running.get(shard) == Some(&Running::Blank) => {
                Some(Step::Form { shard: *shard })
            }
            _ => None,
        }
    });
    stops.chain(starts).collect()
}

fn newest_on(placement: &Placement, node: NodeId) -> Option<(ReplicaId, Role)> {
    let here = placement.replicas.iter().filter(|(_, view)| view.node == node);
    here.map(|(replica, view)| (*replica, view.role)).next_back()
}

/// Whether nobody else can have begun the group.
fn is_only_voter(placement: &Placement, replica: ReplicaId) -> bool {
    placement.replicas.iter().all(|(other, view)| *other == replica || view.role == Role::Joining)
}

#[cfg(test)]
mod tests {
    use crate::meta::ReplicaView;

    use super::*;

    const ME: NodeId = NodeId(1);
    const SHARD: ShardId = ShardId(3);

    fn view(next_replica: u64, replicas: &[(u64, u64, Role)]) -> ClusterView {
        let view = |(replica, node, role): &(u64, u64, Role)| {
            (ReplicaId(*replica), ReplicaView { node: NodeId(*node), role: *role })
        };
        let placement = Placement { replication: 3, replicas: replicas.iter().map(view).collect() };
        ClusterView { next_replica, shards: BTreeMap::from([(SHARD, placement)]), ..ClusterView::default() }
    }

    fn here(replica: Option<u64>, removed: Option<u64>) -> BTreeMap<ShardId, Mark> {
        let mark = Mark { replica: replica.map(ReplicaId), removed: removed.map(ReplicaId) };
        BTreeMap::from([(SHARD, mark)])
    }

    fn runs() -> BTreeMap<ShardId, Running> {
        BTreeMap::from([(SHARD, Running::Member)])
    }

    fn start(replica: u64, forms: bool) -> Step {
        Step::Start { shard: SHARD, replica: ReplicaId(replica), forms }
    }

    fn stop(replica: u64) -> Step {
        Step::Stop { shard: SHARD, replica: ReplicaId(replica) }
    }

    #[test]
    fn a_replica_that_is_given_is_started_and_one_that_is_taken_away_is_stopped() {
        let given = view(6, &[(1, 2, Role::Voter), (5, 1, Role::Joining)]);
        assert_eq!(steps(&given, ME, &BTreeMap::new(), &runs()), [start(5, false)]);
        assert_eq!(steps(&given, ME, &here(Some(5), None), &runs()), []);
        let taken = view(6, &[(1, 2, Role::Voter)]);
        assert_eq!(steps(&taken, ME, &here(Some(5), None), &runs()), [stop(5)]);
        assert_eq!(steps(&taken, ME, &here(None, Some(5)), &runs()), []);
    }

    #[test]
    fn only_the_first_replica_of_a_new_shard_forms_its_group() {
        let new = view(9, &[(6, 1, Role::Voter), (7, 2, Role::Joining), (8, 3, Role::Joining)]);
        assert_eq!(steps(&new, ME, &BTreeMap::new(), &runs()), [start(6, true)]);
        assert_eq!(steps(&new, NodeId(2), &BTreeMap::new(), &runs()), [start(7, false)]);
        let old = view(9, &[(6, 1, Role::Voter), (7, 2, Role::Voter)]);
        assert_eq!(
            steps(&old, ME, &BTreeMap::new(), &runs()),
            [start(6, false)],
            "its log was lost, and the other has it"
        );
    }

    #[test]
    fn what_a_crash_cut_short_is_done_again() {
        let new = view(9, &[(6, 1, Role::Voter), (7, 2, Role::Joining)]);
        assert_eq!(steps(&new, ME, &here(Some(6), None), &BTreeMap::new()), [start(6, true)]);
        let blank = BTreeMap::from([(SHARD, Running::Blank)]);
        assert_eq!(steps(&new, ME, &here(Some(6), None), &blank), [Step::Form { shard: SHARD }]);
        assert_eq!(steps(&new, NodeId(2), &here(Some(7), None), &blank), [], "its leader adds it");
    }

    #[test]
    fn a_view_that_is_older_than_what_is_here_changes_nothing() {
        let old = view(5, &[(1, 2, Role::Voter)]);
        assert_eq!(steps(&old, ME, &here(Some(5), None), &runs()), [], "it does not know of replica 5 yet");
        let older = view(5, &[(1, 2, Role::Voter), (4, 1, Role::Voter)]);
        assert_eq!(steps(&older, ME, &here(None, Some(4)), &runs()), [], "it does not know that replica 4 has left");
        assert_eq!(steps(&older, ME, &here(Some(7), Some(4)), &runs()), []);
    }

    #[test]
    fn a_replica_that_came_back_under_a_new_id_is_started_after_the_old_one_was_stopped() {
        let back = view(9, &[(1, 2, Role::Voter), (8, 1, Role::Joining)]);
        assert_eq!(steps(&back, ME, &here(Some(5), None), &runs()), [stop(5), start(8, false)]);
    }
}
