//! Whether a node serves as one of its cluster: it has caught up since it started, and what it is to have is there.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use stratalog_proto::internal::{ReadIndexAnswer, ReadIndexRequest, ReplicaState};
use stratalog_proto::{Code, Error, RaftIndex, ReplicaId, SegmentId, ShardId};
use stratalog_transport::{Frame, Method};

use crate::broker::{Broker, META};
use crate::meta::{ClusterView, Role, named};
use crate::raft::Group;
use crate::shard::Shard;

/// Between two looks while it catches up, and afterwards.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to say how far it is.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// A leader of the metadata that was not heard of for so long may be gone.
const SILENCE: Duration = Duration::from_secs(10);

/// What is known of it.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// It has caught up since it started.
    is_caught_up: bool,
    /// What was missing when it was looked last.
    missing: Option<Error>,
    /// What other nodes said that refused this one when it asked them who they are.
    refusal: Option<String>,
}

impl Readiness {
    /// The node has caught up.
    pub(crate) fn set_caught_up(&self) {
        let mut known = self.0.lock();
        (known.is_caught_up, known.missing) = (true, None);
    }

    /// Whether it has, and nothing is missing now.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let known = self.0.lock();
        match &known.missing {
            Some(missing) => Err(missing.clone()),
            None if known.is_caught_up => Ok(()),
            None => Err(Error::new(Code::Unavailable, "the node has just been started")),
        }
    }

    fn is_caught_up(&self) -> bool {
        self.0.lock().is_caught_up
    }

    /// Other nodes refuse this one, or do so no longer; whether that is news.
    pub(super) fn set_refusal(&self, refusal: Option<String>) -> bool {
        let before = &mut self.0.lock().refusal;
        let is_news = *before != refusal;
        *before = refusal;
        is_news
    }

    /// What a look found. One that was to see the node catch up says nothing if somebody else has seen it meanwhile.
    fn note(&self, looked: Result<(), Error>, catches_up: bool) {
        let mut known = self.0.lock();
        if catches_up != known.is_caught_up {
            (known.is_caught_up, known.missing) = (!catches_up || looked.is_ok(), looked.err());
        }
    }
}

/// What a node that was started has to come to. It is fixed when it is seen first: what is written meanwhile keeps nobody
/// waiting.
#[derive(Default)]
struct Targets {
    /// What was committed of each group.
    applied: BTreeMap<ShardId, RaftIndex>,
    /// The files that were missing of each shard.
    segments: BTreeMap<ShardId, HashSet<SegmentId>>,
}

impl Targets {
    /// How many files that were missing when it was asked first are missing still.
    fn still_missing(&mut self, shard: ShardId, missing: impl Iterator<Item = SegmentId>) -> usize {
        let missing: HashSet<SegmentId> = missing.collect();
        let first = self.segments.entry(shard).or_insert_with(|| missing.clone());
        first.intersection(&missing).count()
    }
}

/// Looks for as long as the node runs. At first until it has caught up: each of its voting replicas has applied what was
/// committed when its leader was heard first, and has the files that it missed then, and the rows of the shards that it
/// leads are there. Later whether it still runs what it is to run, and has what it is to keep.
pub(crate) async fn watch_readiness(broker: Weak<Broker>) {
    let mut targets = Targets::default();
    loop {
        let Some(node) = broker.upgrade() else { return };
        let catches_up = !node.readiness().is_caught_up();
        let looked = if catches_up { look(&node, &mut targets).await } else { look_again(&node).await };
        node.readiness().note(looked, catches_up);
        drop(node);
        tokio::time::sleep(if catches_up { LOOK_EVERY } else { LOOK_AGAIN_EVERY }).await;
    }
}

/// Whether the node is in a cluster, and hears who leads its metadata.
///
/// # Errors
/// [`Code::NotFormed`], [`Code::NotLeader`].
pub(crate) fn check_heard(broker: &Broker) -> Result<(), Error> {
    let (view, group) = (broker.nodes().view(), broker.meta().group());
    if view.cluster.is_none() {
        return Err(Error::new(Code::NotFormed, "the node has not heard of its cluster yet"));
    }
    let role = *group.watch_role().borrow();
    let is_heard = role.leads || role.leader.is_some() && group.last_heard().is_some_and(|ago| ago < SILENCE);
    if !is_heard {
        let nobody = "this node hears nobody who leads the metadata of the cluster";
        let message = match &broker.readiness().0.lock().refusal {
            Some(refusal) => format!("{nobody}: {refusal}"),
            None => nobody.to_owned(),
        };
        return Err(Error::new(Code::NotLeader, message));
    }
    Ok(())
}

async fn look(broker: &Broker, targets: &mut Targets) -> Result<(), Error> {
    check_heard(broker)?;
    reached(broker, META, broker.meta().group(), broker.meta().applied(), targets).await?;
    let view = broker.nodes().view();
    for (id, replica) in voting_here(broker, &view) {
        let shard = running(broker, id, replica)?;
        reached(broker, id, shard.group(), shard.applied(), targets).await?;
        let columns = broker.rows().missing(id);
        let missing = lacking(&shard).into_iter().chain(columns.iter().map(|meta| meta.id));
        let missing = targets.still_missing(id, missing);
        check_whole(broker, &view, &shard, missing).await?;
    }
    broker.rows().check_rebuilt()
}

/// Column segments do not count any more: they come and go all the time, and are fetched in the background.
async fn look_again(broker: &Broker) -> Result<(), Error> {
    let view = broker.nodes().view();
    for (id, replica) in voting_here(broker, &view) {
        let shard = running(broker, id, replica)?;
        check_whole(broker, &view, &shard, lacking(&shard).len()).await?;
    }
    Ok(())
}

/// The replicas that the metadata gives to this node, and that are to vote. One that is joining serves nobody, and may have
/// days of data to get.
fn voting_here(broker: &Broker, view: &ClusterView) -> Vec<(ShardId, ReplicaId)> {
    let here = view.replicas_on(broker.nodes().me());
    let here = here.filter(|(shard, _, role)| *shard != META && *role == Role::Voter);
    here.map(|(shard, replica, _)| (shard, replica)).collect()
}

fn running(broker: &Broker, shard: ShardId, replica: ReplicaId) -> Result<Arc<Shard>, Error> {
    let running = broker.shards().get(shard).filter(|running| running.group().log().replica() == replica);
    running.ok_or_else(|| {
        let message = format!("replica {replica} of shard {shard} does not run on this node; its log says why");
        Error::new(Code::Unavailable, message)
    })
}

/// The replay segments that a replica would need another one for.
fn lacking(shard: &Shard) -> Vec<SegmentId> {
    let manifest = shard.read(|state| state.manifest().clone());
    shard.recs().lacking(manifest.recs()).iter().map(|meta| meta.id).collect()
}

/// Whether a replica that lacks so many files has all that another one could give it. What every replica has lost is a
/// trouble of the shard, and none of this node.
async fn check_whole(broker: &Broker, view: &ClusterView, shard: &Shard, lacking: usize) -> Result<(), Error> {
    let me = broker.nodes().me();
    let Some(placement) = view.shards.get(&shard.id()).filter(|_| lacking > 0) else { return Ok(()) };
    let others = placement.voter_nodes().filter(|node| *node != me).map(|node| (node, vec![shard.id().0]));
    let states = broker.ask_states(others.collect(), ASK_WAIT).await;
    let frontier = shard.read(|state| state.replay_frontier());
    let others = states.of_shard(shard.id()).map(|(_, state)| state);
    let Some(fewest) = fewest_lacking(others, frontier).filter(|fewest| (*fewest as usize) < lacking) else {
        return Ok(());
    };
    let more = lacking - fewest as usize;
    let message =
        format!("shard {} lacks {more} segments here that are still to be copied from other nodes", shard.id());
    Err(Error::new(Code::Unavailable, message))
}

/// The fewest files that a replica lacks which is as far as `frontier`; `None` if there is no such replica.
fn fewest_lacking<'a>(others: impl Iterator<Item = &'a ReplicaState>, frontier: RaftIndex) -> Option<u64> {
    others.filter(|state| state.applied >= frontier.0.max(1)).map(|state| state.missing_segments).min()
}

/// Whether a replica has applied what its leader had committed when it was asked first.
async fn reached(
    broker: &Broker,
    shard: ShardId,
    group: &Group,
    applied: RaftIndex,
    targets: &mut Targets,
) -> Result<(), Error> {
    if group.watch_role().borrow().leads {
        return Ok(());
    }
    let target = match targets.applied.get(&shard) {
        Some(target) => *target,
        None => *targets.applied.entry(shard).or_insert(committed(broker, shard, group).await?),
    };
    if applied < target {
        let message = format!("of {}, entry {applied} of {target} is applied here", named(&[shard]));
        return Err(Error::new(Code::Unavailable, message));
    }
    Ok(())
}

async fn committed(broker: &Broker, shard: ShardId, group: &Group) -> Result<RaftIndex, Error> {
    let name = named(&[shard]);
    let nobody = || Error::new(Code::NotLeader, format!("nobody is known that leads {name}"));
    let leader = group.watch_role().borrow().leader.ok_or_else(nobody)?;
    let node = broker.nodes().view().node_of(shard, leader).ok_or_else(nobody)?;
    if node == broker.nodes().me() {
        let message = format!("this node is about to lead {name}, once what was acknowledged before is applied");
        return Err(Error::new(Code::Unavailable, message));
    }
    let question = Frame::head(ReadIndexRequest { shard: shard.0 }.encode_to_vec());
    let answer = broker.nodes().call(node, Method::ReadIndex, question, ASK_WAIT).await;
    let unknown = |why: String| {
        let message = format!("the leader of {name} does not say how far it is: {why}");
        Error::new(Code::Unavailable, message)
    };
    let answer = answer.map_err(|error| unknown(error.to_string()))?;
    let answer = ReadIndexAnswer::decode(answer.head).map_err(|error| unknown(error.to_string()))?;
    Ok(RaftIndex(answer.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind() -> Result<(), Error> {
        Err(Error::new(Code::Unavailable, "behind"))
    }

    #[test]
    fn a_node_is_ready_once_it_has_caught_up_and_while_nothing_is_missing() {
        let readiness = Readiness::default();
        assert!(readiness.check().unwrap_err().message.contains("just been started"));
        readiness.note(behind(), true);
        assert_eq!(readiness.check().unwrap_err().message, "behind");
        readiness.note(Ok(()), true);
        assert!(readiness.check().is_ok() && readiness.is_caught_up());
        readiness.note(behind(), false);
        assert!(readiness.check().is_err() && readiness.is_caught_up(), "something was taken from it");
        readiness.note(Ok(()), false);
        assert!(readiness.check().is_ok());
    }

    #[test]
    fn a_look_that_began_before_the_node_had_caught_up_takes_nothing_back() {
        let readiness = Readiness::default();
        readiness.set_caught_up();
        readiness.note(behind(), true);
        assert!(readiness.check().is_ok());
    }

    #[test]
    fn a_node_waits_for_the_files_that_it_missed_first_and_for_no_later_ones() {
        let (mut targets, shard) = (Targets::default(), ShardId(1));
        let [first, second, later] = [(); 3].map(|()| SegmentId::new());
        assert_eq!(targets.still_missing(shard, [first, second].into_iter()), 2);
        assert_eq!(targets.still_missing(shard, [second, later].into_iter()), 1);
        assert_eq!(targets.still_missing(shard, [later].into_iter()), 0);
    }

    #[test]
    fn what_every_replica_lacks_is_not_waited_for() {
        let state = |applied, missing_segments| ReplicaState { applied, missing_segments, ..ReplicaState::default() };
        let fewest = |states: &[ReplicaState]| fewest_lacking(states.iter(), RaftIndex(10));
        assert_eq!(fewest(&[state(20, 2), state(10, 1)]), Some(1));
        assert_eq!(fewest(&[state(9, 0), state(20, 2)]), Some(2), "one that is behind knows of no segments");
        assert_eq!(fewest(&[]), None);
    }
}
