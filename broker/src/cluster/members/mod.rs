//! Makes each group that this node leads have the members that the metadata wants: the way of a replica from joining to
//! voting, and out again.
//!
//! A replica that joins follows the log without a vote, gets the segments that it lacks, and gets its vote only when it
//! lacks nothing (L4). One that leaves goes when all that join have joined, and when most of those that stay have every
//! record: a voter that was away may have votes to give and no copy (L1). What no member has is waited for by nobody. The
//! group itself is the truth about who votes; the metadata is told afterwards, and told again by the next leader if that
//! was lost.

mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use stratalog_proto::entry::Command;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId, internal};
use tokio_util::sync::CancellationToken;

use self::step::{Facts, Step};
use super::lacking::{Holders, holders};
use super::states::States;
use crate::broker::Broker;
use crate::meta::{ClusterView, Placement, ReplicaView, Role, joining_now};
use crate::raft::{Group, Members};

/// How long until the groups are looked at again: while there is something to do, and otherwise.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// Groups that take a step at the same time.
const AT_ONCE: usize = 8;
/// How long a node may take to say what its replicas lack.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// How long a majority may take to confirm that this node leads.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);
/// A voter that answered more recently is well.
const WELL: Duration = Duration::from_secs(3);

/// Looks again and again, until `stop` or the end of the broker.
pub(super) async fn settle_members(broker: Weak<Broker>, stop: CancellationToken) {
    let Some(mut views) = broker.upgrade().map(|broker| broker.meta().watch_view()) else { return };
    loop {
        let Some(here) = broker.upgrade() else { return };
        let busy = tokio::select! {
            busy = round(&here) => busy,
            () = stop.cancelled() => return,
        };
        drop(here);
        let pause = if busy { BUSY_PAUSE } else { IDLE_PAUSE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = views.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// A group that this node leads, and that is not as it is wanted.
struct Unsettled {
    shard: ShardId,
    group: Arc<Group>,
    members: Members,
    placement: Placement,
    /// Of the metadata that the placement is from.
    next_replica: u64,
    /// Replicas that join and whose turn it is not yet.
    waiting: BTreeSet<ReplicaId>,
}

/// One step of each group that is led here; whether there is more to do.
async fn round(broker: &Arc<Broker>) -> bool {
    let view = broker.meta().view();
    let unsettled = unsettled(broker, &view);
    if unsettled.is_empty() {
        return false;
    }
    let states = &broker.ask_states(nodes_of(broker.nodes().me(), &unsettled), ASK_WAIT).await;
    let (broker, steps) = (&**broker, stream::iter(unsettled));
    steps.for_each_concurrent(AT_ONCE, |group| advance(broker, group, states)).await;
    true
}

fn unsettled(broker: &Broker, view: &ClusterView) -> Vec<Unsettled> {
    let now = joining_now(view);
    let led = view.shards.iter().filter_map(|(shard, placement)| {
        let group = broker.group(*shard).ok().filter(|group| group.watch_role().borrow().leads)?;
        let joining = placement.replicas.iter().filter(|(_, replica)| replica.role == Role::Joining);
        let waiting = joining.map(|(replica, _)| *replica).filter(|replica| !now.contains(replica)).collect();
        let (members, placement, next_replica) = (group.members(), placement.clone(), view.next_replica);
        Some(Unsettled { shard: *shard, group, members, placement, next_replica, waiting })
    });
    led.filter(|group| !group.facts(&Holders::default(), &BTreeSet::new()).is_settled()).collect()
}

/// The nodes with members of the groups, each with its shards: who gets a vote, and who may do without another one, is seen
/// by what they lack. The leader is asked for all of them, too: the others have to be as far as it has forgotten the log.
fn nodes_of(leader: NodeId, groups: &[Unsettled]) -> BTreeMap<NodeId, Vec<u32>> {
    let mut asked: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
    for Unsettled { shard, members, placement, .. } in groups {
        let belongs = |replica| members.voters.contains(replica) || members.learners.contains(replica);
        let nodes = placement.replicas.iter().filter(|(replica, _)| belongs(replica)).map(|(_, view)| view.node);
        let nodes: BTreeSet<NodeId> = nodes.chain([leader]).collect();
        nodes.into_iter().for_each(|node| asked.entry(node).or_default().push(shard.0));
    }
    asked
}

impl Unsettled {
    fn facts<'a>(&'a self, holders: &'a Holders, healthy: &'a BTreeSet<ReplicaId>) -> Facts<'a> {
        let (own, members, placement) = (self.group.log().replica(), &self.members, &self.placement);
        let (next_replica, waiting) = (self.next_replica, &self.waiting);
        let Holders { complete, whole } = holders;
        Facts { shard: self.shard, own, placement, next_replica, waiting, members, complete, whole, healthy }
    }

    /// Which replicas have what, of a manifest that is as new as what their leader's log begins with. A voter that the
    /// metadata names no more was given up, and is not waited for.
    fn holders(&self, states: &States, me: NodeId) -> Holders {
        let frontier = states.get(self.shard, me).map_or(0, |own| own.replay_frontier);
        let answer = |(replica, view): (&ReplicaId, &ReplicaView)| {
            (*replica, states.get(self.shard, view.node).filter(|state| state.replica == replica.0))
        };
        let answers: BTreeMap<_, _> = self.placement.replicas.iter().map(answer).collect();
        let voters = self.members.voters.iter().copied().filter(|voter| answers.contains_key(voter)).collect();
        holders(&answers, &voters, frontier)
    }

    /// Voters that answered a short while ago, and whose nodes neither stop nor wait for their disks.
    fn healthy(&self, states: &States) -> BTreeSet<ReplicaId> {
        let unfit = states.unfit(self.shard);
        let is_well = |replica: &ReplicaId| self.group.heard_from(*replica).is_some_and(|ago| ago < WELL);
        self.members.voters.iter().copied().filter(|replica| is_well(replica) && !unfit.contains(replica)).collect()
    }
}

async fn advance(broker: &Broker, group: Unsettled, states: &States) {
    let (holders, healthy) = (group.holders(states, broker.nodes().me()), group.healthy(states));
    let Some(step) = group.facts(&holders, &healthy).next_step() else { return };
    let shard = group.shard;
    match take(broker, &group, step).await {
        Ok(()) => tracing::info!(%shard, ?step, "the members of a shard changed"),
        // It is looked at again in a moment.
        Err(error) if error.code.is_retriable() => tracing::debug!(%shard, ?step, %error, "a step has to wait"),
        Err(error) => tracing::warn!(%shard, ?step, %error, "the members of a shard cannot change as is wanted"),
    }
}

async fn take(broker: &Broker, group: &Unsettled, step: Step) -> Result<(), Error> {
    match step {
        Step::Add(replica) => group.group.add_learner(replica).await,
        Step::Promote(replica) => group.group.promote(replica).await,
        Step::Demote(replica) => {
            check_still_wanted(broker, group).await?;
            group.group.demote(replica).await
        }
        Step::Remove(replica) => {
            check_still_wanted(broker, group).await?;
            group.group.remove(replica).await
        }
        Step::HandOver(replica) => group.group.transfer_leader(replica).await,
        Step::Tell(replica, role) => {
            if role != Some(Role::Voter) {
                check_still_so(group, step).await?;
            }
            let role = role.map_or(0, Role::number);
            let changed = internal::ReplicaChanged { shard: group.shard.0, replica: replica.0, role };
            broker.propose(ShardId(0), Command::ReplicaChanged(changed)).await.map(|_| ())
        }
    }
}

/// What is told to be gone is let go of by its node, for ever. A leader that was replaced does not know it yet: what it sees
/// may be an end that another one has taken back since.
async fn check_still_so(group: &Unsettled, step: Step) -> Result<(), Error> {
    let members = group.group.confirmed_members(CONFIRM_WAIT).await?;
    let (holders, healthy) = (Holders::default(), BTreeSet::new());
    let facts = Facts { members: &members, ..group.facts(&holders, &healthy) };
    if facts.next_step() == Some(step) {
        return Ok(());
    }
    Err(Error::new(Code::Conflict, format!("the members of shard {} have changed; looking again", group.shard)))
}

/// Nothing is taken away by what this node knew a while ago: its metadata may be behind.
async fn check_still_wanted(broker: &Broker, group: &Unsettled) -> Result<(), Error> {
    broker.catch_up_with_meta().await?;
    if broker.meta().view().shards.get(&group.shard) == Some(&group.placement) {
        return Ok(());
    }
    Err(Error::new(Code::Conflict, format!("the placement of shard {} has changed; looking again", group.shard)))
}
