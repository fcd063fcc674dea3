//! Runs the replicas that the metadata gives to this node, and no others.
//!
//! What is on disk says which replica each directory is; what the metadata says is compared with that, so a crash at any
//! point is made good by the next look. A replica id means one replica for ever and ids only grow: that is how a view that
//! is older than what is here is told from one in which a replica was taken away.
//!
//! A new shard has replicas before it has a group. One of them begins it: the one to which the metadata group says, once and
//! for ever, that it may (L1: two that began would acknowledge records apart). The first asks at once, the others if it has
//! not done so in a while: its node may be down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::{Duration, Instant};

use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, META};
use crate::identity::Mark;
use crate::meta::{ClusterView, Placement, Role};
use crate::shard::Shard;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);
/// How long the first replica of a new shard may take to ask, before the others do.
const FIRST_TURN: Duration = Duration::from_secs(3);

/// One step towards what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A replica that is new here. One that `forms` is the first of its group.
    Start { shard: ShardId, replica: ReplicaId, forms: bool },
    /// A replica of a new shard asks whether it may begin the group.
    Found { shard: ShardId, replica: ReplicaId },
    /// The first replica of its group begins it.
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
    let mut turns = Turns::default();
    loop {
        let Some(node) = broker.upgrade() else { return };
        let view = views.borrow_and_update().clone();
        let overdue = turns.overdue(&view, Instant::now());
        let (mut failed, mut started) = (false, false);
        for step in steps(&view, node.nodes().me(), &node.marks(), &running(&node), &overdue) {
            let Some(taken) = stop.run_until_cancelled(take(&node, step)).await else { return };
            match taken {
                Ok(()) => started |= matches!(step, Step::Start { .. }),
                // Another replica was the first to ask: the view will say so.
                Err(error) if error.code == Code::Conflict => {
                    tracing::debug!(%error, ?step, "it is not wanted any more")
                }
                Err(error) => {
                    tracing::warn!(%error, ?step, "a replica could not be started or stopped; it is tried again");
                    failed = true;
                }
            }
        }
        drop(node);
        if started && !stop.is_cancelled() {
            continue;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if failed || turns.are_awaited() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Since when the groups of new shards are to begin.
#[derive(Default)]
struct Turns(BTreeMap<ShardId, Instant>);

impl Turns {
    /// The new shards whose first replica has had its time.
    fn overdue(&mut self, view: &ClusterView, now: Instant) -> BTreeSet<ShardId> {
        let is_new = |shard: &ShardId| view.shards.get(shard).is_some_and(Placement::is_new);
        self.0.retain(|shard, _| is_new(shard));
        view.shards.keys().filter(|shard| is_new(shard)).for_each(|shard| {
            self.0.entry(*shard).or_insert(now);
        });
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= FIRST_TURN;
        self.0.iter().filter(|(_, since)| is_over(since)).map(|(shard, _)| *shard).collect()
    }

    fn are_awaited(&self) -> bool {
        !self.0.is_empty()
    }
}

async fn take(broker: &Broker, step: Step) -> Result<(), Error> {
    match step {
        Step::Start { shard, replica, forms } => broker.start_replica(shard, replica, forms).await,
        Step::Found { shard, replica } => {
            let role = Role::Founding.number();
            let asked = internal::ReplicaChanged { shard: shard.0, replica: replica.0, role };
            broker.propose(META, Command::ReplicaChanged(asked)).await.map(|_| ())
        }
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

/// What is to be done now. A replica whose place is still taken by one that goes comes with the next look. `overdue`: new
/// shards that any replica may begin.
fn steps(
    view: &ClusterView,
    me: NodeId,
    here: &BTreeMap<ShardId, Mark>,
    running: &BTreeMap<ShardId, Running>,
    overdue: &BTreeSet<ShardId>,
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
            Some(here) if here == replica && running.get(shard) == Some(&Running::Blank) => {
                let asks = role == Role::Founding && (is_first(placement, replica) || overdue.contains(shard));
                let form = forms.then_some(Step::Form { shard: *shard });
                form.or(asks.then_some(Step::Found { shard: *shard, replica }))
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

fn is_first(placement: &Placement, replica: ReplicaId) -> bool {
    placement.replicas.first_key_value().is_some_and(|(first, _)| *first == replica)
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

    /// What is done at the first look at a view.
    fn look(
        view: &ClusterView,
        me: NodeId,
        here: &BTreeMap<ShardId, Mark>,
        running: &BTreeMap<ShardId, Running>,
    ) -> Vec<Step> {
        steps(view, me, here, running, &BTreeSet::new())
    }

    fn stop(replica: u64) -> Step {
        Step::Stop { shard: SHARD, replica: ReplicaId(replica) }
    }

    #[test]
    fn a_replica_that_is_given_is_started_and_one_that_is_taken_away_is_stopped() {
        let given = view(6, &[(1, 2, Role::Voter), (5, 1, Role::Joining)]);
        assert_eq!(look(&given, ME, &BTreeMap::new(), &runs()), [start(5, false)]);
        assert_eq!(look(&given, ME, &here(Some(5), None), &runs()), []);
        let taken = view(6, &[(1, 2, Role::Voter)]);
        assert_eq!(look(&taken, ME, &here(Some(5), None), &runs()), [stop(5)]);
        assert_eq!(look(&taken, ME, &here(None, Some(5)), &runs()), []);
    }

    #[test]
    fn only_the_replica_that_may_begin_its_group_does() {
        let begins = view(9, &[(6, 1, Role::Voter), (7, 2, Role::Joining), (8, 3, Role::Joining)]);
        assert_eq!(look(&begins, ME, &BTreeMap::new(), &runs()), [start(6, true)]);
        assert_eq!(look(&begins, NodeId(2), &BTreeMap::new(), &runs()), [start(7, false)]);
        let old = view(9, &[(6, 1, Role::Voter), (7, 2, Role::Voter)]);
        assert_eq!(
            look(&old, ME, &BTreeMap::new(), &runs()),
            [start(6, false)],
            "its log was lost, and the other has it"
        );
    }

    #[test]
    fn l1_a_replica_of_a_new_shard_asks_before_it_begins_the_group_and_the_first_one_goes_first() {
        let new = view(9, &[(6, 1, Role::Founding), (7, 2, Role::Founding), (8, 3, Role::Founding)]);
        let blank = BTreeMap::from([(SHARD, Running::Blank)]);
        let asks = |replica| Step::Found { shard: SHARD, replica: ReplicaId(replica) };
        assert_eq!(look(&new, ME, &BTreeMap::new(), &BTreeMap::new()), [start(6, false)]);
        assert_eq!(look(&new, ME, &here(Some(6), None), &blank), [asks(6)]);
        let second = |overdue: &[ShardId]| {
            let overdue = overdue.iter().copied().collect();
            steps(&new, NodeId(2), &here(Some(7), None), &blank, &overdue)
        };
        assert_eq!((second(&[]), second(&[SHARD])), (vec![], vec![asks(7)]));

        let replaced = view(10, &[(7, 2, Role::Founding), (8, 3, Role::Founding), (9, 4, Role::Founding)]);
        assert_eq!(look(&replaced, ME, &here(Some(6), None), &blank), [stop(6)], "it comes back too late");
        let begun = view(10, &[(7, 2, Role::Joining), (8, 3, Role::Voter), (9, 4, Role::Joining)]);
        assert_eq!(look(&begun, NodeId(2), &here(Some(7), None), &blank), [], "another one was faster");
    }

    #[test]
    fn the_turn_of_the_others_comes_after_a_while_and_ends_with_the_beginning() {
        let (mut turns, start) = (Turns::default(), Instant::now());
        let new = view(9, &[(6, 1, Role::Founding), (7, 2, Role::Founding)]);
        assert!(turns.overdue(&new, start).is_empty() && turns.are_awaited());
        assert!(turns.overdue(&new, start + FIRST_TURN / 2).is_empty());
        assert_eq!(turns.overdue(&new, start + FIRST_TURN), BTreeSet::from([SHARD]));
        let begun = view(9, &[(6, 1, Role::Joining), (7, 2, Role::Voter)]);
        assert!(turns.overdue(&begun, start + FIRST_TURN).is_empty() && !turns.are_awaited());
    }

    #[test]
    fn what_a_crash_cut_short_is_done_again() {
        let new = view(9, &[(6, 1, Role::Voter), (7, 2, Role::Joining)]);
        assert_eq!(look(&new, ME, &here(Some(6), None), &BTreeMap::new()), [start(6, true)]);
        let blank = BTreeMap::from([(SHARD, Running::Blank)]);
        assert_eq!(look(&new, ME, &here(Some(6), None), &blank), [Step::Form { shard: SHARD }]);
        assert_eq!(look(&new, NodeId(2), &here(Some(7), None), &blank), [], "its leader adds it");
    }

    #[test]
    fn a_view_that_is_older_than_what_is_here_changes_nothing() {
        let old = view(5, &[(1, 2, Role::Voter)]);
        assert_eq!(look(&old, ME, &here(Some(5), None), &runs()), [], "it does not know of replica 5 yet");
        let older = view(5, &[(1, 2, Role::Voter), (4, 1, Role::Voter)]);
        assert_eq!(look(&older, ME, &here(None, Some(4)), &runs()), [], "it does not know that replica 4 has left");
        assert_eq!(look(&older, ME, &here(Some(7), Some(4)), &runs()), []);
    }

    #[test]
    fn a_replica_that_came_back_under_a_new_id_is_started_after_the_old_one_was_stopped() {
        let back = view(9, &[(1, 2, Role::Voter), (8, 1, Role::Joining)]);
        assert_eq!(look(&back, ME, &here(Some(5), None), &runs()), [stop(5), start(8, false)]);
    }
}
