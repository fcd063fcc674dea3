//! Whether a node serves as one of its cluster: it has caught up since it started, and what it is to have is there.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prost::Message;
use stratalog_proto::internal::{ReadIndexAnswer, ReadIndexRequest};
use stratalog_proto::{Code, Error, NodeId, RaftIndex, ReplicaId, SegmentId, ShardId, bounded};
use stratalog_transport::{Frame, Method};

use super::lacking::{Whereabouts, whereabouts};
use crate::broker::{Broker, META};
use crate::meta::{ClusterView, Placement, Role, named};
use crate::raft::Group;
use crate::shard::Shard;

/// Between two looks while it catches up, and afterwards.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// How long a node may take to say how far it is.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// A leader of the metadata that was not heard of for so long may be gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a voter that does not say what it has is waited for. It may never come back.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

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

    /// What a look found. One that was to see the node catch up says nothing if somebody else has seen it meanwhile; a doubt
    /// takes nothing back from a node that has caught up.
    fn note(&self, looked: Result<(), Gap>, catches_up: bool) {
        let mut known = self.0.lock();
        if catches_up == known.is_caught_up {
            return;
        }
        match looked {
            Ok(()) => (known.is_caught_up, known.missing) = (true, None),
            Err(Gap::Doubtful(_)) if !catches_up => {}
            Err(Gap::Missing(error) | Gap::Doubtful(error)) => known.missing = Some(error),
        }
    }
}

/// Why a look did not find all.
#[derive(Debug)]
enum Gap {
    /// This is missing.
    Missing(Error),
    /// Nobody has said yet whether it is.
    Doubtful(Error),
}

impl From<Error> for Gap {
    fn from(error: Error) -> Self {
        Gap::Missing(error)
    }
}

/// What a node that was started has to come to. It is fixed when it is seen first: what is written meanwhile keeps nobody
/// waiting. And for how long it is in doubt.
#[derive(Default)]
struct Targets {
    /// What was committed of each group.
    applied: BTreeMap<ShardId, RaftIndex>,
    /// The files that were missing of each shard.
    segments: BTreeMap<ShardId, HashSet<SegmentId>>,
    /// Since when nobody says whether what a shard lacks can be had.
    doubts: BTreeMap<ShardId, Instant>,
}

impl Targets {
    /// Of the files that are missing, replay and column segments, those that were missing when it was asked first.
    fn still_missing(&mut self, shard: ShardId, missing: [Vec<SegmentId>; 2]) -> [Vec<SegmentId>; 2] {
        let first = self.segments.entry(shard).or_insert_with(|| missing.iter().flatten().copied().collect());
        missing.map(|ids| ids.into_iter().filter(|id| first.contains(id)).collect())
    }

    /// Whether it is waited for somebody who says where what a shard lacks can be had.
    fn is_in_doubt(&mut self, shard: ShardId, found: Whereabouts, now: Instant) -> bool {
        if found != Whereabouts::Unknown {
            self.doubts.remove(&shard);
            return false;
        }
        let since = *self.doubts.entry(shard).or_insert(now);
        now.saturating_duration_since(since) < ANSWER_WAIT
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
        let looked = if catches_up { look(&node, &mut targets).await } else { look_again(&node, &mut targets).await };
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

async fn look(broker: &Broker, targets: &mut Targets) -> Result<(), Gap> {
    check_heard(broker)?;
    reached(broker, META, broker.meta().group(), broker.meta().applied(), targets).await?;
    let view = broker.nodes().view();
    let mut whole = Ok(());
    for (id, replica) in voting_here(broker, &view) {
        let shard = running(broker, id, replica)?;
        reached(broker, id, shard.group(), shard.applied(), targets).await?;
        let columns = broker.rows().missing(id).iter().map(|meta| meta.id).collect();
        let missing = targets.still_missing(id, [lacking(&shard), columns]);
        whole = gravest(whole, check_whole(broker, &view, &shard, missing, targets).await)?;
    }
    broker.rows().check_rebuilt()?;
    whole
}

/// Column segments do not count any more: they come and go all the time, and are fetched in the background.
async fn look_again(broker: &Broker, targets: &mut Targets) -> Result<(), Gap> {
    let view = broker.nodes().view();
    let mut whole = Ok(());
    for (id, replica) in voting_here(broker, &view) {
        let shard = running(broker, id, replica)?;
        let missing = [lacking(&shard), Vec::new()];
        whole = gravest(whole, check_whole(broker, &view, &shard, missing, targets).await)?;
    }
    whole
}

/// Two looks as one: what is missing ends it, what is in doubt is kept.
fn gravest(before: Result<(), Gap>, looked: Result<(), Gap>) -> Result<Result<(), Gap>, Gap> {
    match looked {
        Err(Gap::Missing(error)) => Err(Gap::Missing(error)),
        doubtful => Ok(before.and(doubtful)),
    }
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

/// Whether a replica that lacks files, replay and column segments, has all that another one could give it. What every replica
/// has lost is a trouble of the shard, and none of this node.
async fn check_whole(
    broker: &Broker,
    view: &ClusterView,
    shard: &Shard,
    missing: [Vec<SegmentId>; 2],
    targets: &mut Targets,
) -> Result<(), Gap> {
    let (id, me, [replays, columns]) = (shard.id(), broker.nodes().me(), missing);
    let lacks = !replays.is_empty() || !columns.is_empty();
    let placement = view.shards.get(&id).filter(|_| lacks);
    let others: Vec<NodeId> =
        placement.into_iter().flat_map(Placement::voter_nodes).filter(|node| *node != me).collect();
    let states = broker.ask_states(others.iter().map(|node| (*node, vec![id.0])).collect(), ASK_WAIT).await;
    let answers: Vec<_> = others.iter().map(|node| states.get(id, *node)).collect();
    let frontier = shard.read(|state| state.replay_frontier());
    let found = whereabouts(&replays, columns.len(), &answers, frontier.0);
    let unsure = targets.is_in_doubt(id, found, Instant::now());
    let gap = |message| Error::new(Code::Unavailable, message);
    match found {
        Whereabouts::Elsewhere(files) => Err(Gap::Missing(gap(format!(
            "shard {id} lacks {files} segments here that are still to be copied from other nodes"
        )))),
        Whereabouts::Unknown if unsure => {
            let files = replays.len() + columns.len();
            Err(Gap::Doubtful(gap(format!(
                "shard {id} lacks {files} segments here, and not every other node has said whether it has them"
            ))))
        }
        Whereabouts::Unknown | Whereabouts::Nowhere => Ok(()),
    }
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
    let answer = bounded::decode::<ReadIndexAnswer>(answer.head, bounded::MAX_OF_REQUEST);
    let answer = answer.map_err(|error| unknown(error.to_string()))?;
    Ok(RaftIndex(answer.index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind() -> Result<(), Gap> {
        Err(Gap::Missing(Error::new(Code::Unavailable, "behind")))
    }

    fn doubtful() -> Result<(), Gap> {
        Err(Gap::Doubtful(Error::new(Code::Unavailable, "nobody says")))
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
    fn a_doubt_keeps_a_node_from_being_ready_and_takes_nothing_back() {
        let readiness = Readiness::default();
        readiness.note(doubtful(), true);
        assert_eq!(readiness.check().unwrap_err().message, "nobody says");
        readiness.set_caught_up();
        readiness.note(doubtful(), false);
        assert!(readiness.check().is_ok());
        readiness.note(behind(), false);
        readiness.note(doubtful(), false);
        assert_eq!(readiness.check().unwrap_err().message, "behind", "that was not taken back either");
    }

    #[test]
    fn what_is_missing_counts_more_than_what_is_in_doubt() {
        assert!(matches!(gravest(doubtful(), behind()), Err(Gap::Missing(_))));
        assert!(matches!(gravest(doubtful(), Ok(())), Ok(Err(Gap::Doubtful(_)))));
        assert!(matches!(gravest(Ok(()), doubtful()), Ok(Err(Gap::Doubtful(_)))));
        assert!(matches!(gravest(Ok(()), Ok(())), Ok(Ok(()))));
    }

    #[test]
    fn a_voter_that_never_answers_keeps_nobody_out_for_ever() {
        let (mut targets, shard, now) = (Targets::default(), ShardId(1), Instant::now());
        assert!(targets.is_in_doubt(shard, Whereabouts::Unknown, now));
        assert!(targets.is_in_doubt(shard, Whereabouts::Unknown, now + ANSWER_WAIT / 2));
        assert!(!targets.is_in_doubt(shard, Whereabouts::Unknown, now + ANSWER_WAIT));
        assert!(!targets.is_in_doubt(shard, Whereabouts::Nowhere, now + ANSWER_WAIT));
        assert!(targets.is_in_doubt(shard, Whereabouts::Unknown, now + ANSWER_WAIT), "a new one begins");
    }

    #[test]
    fn a_node_waits_for_the_files_that_it_missed_first_and_for_no_later_ones() {
        let (mut targets, shard) = (Targets::default(), ShardId(1));
        let [first, second, later] = [(); 3].map(|()| SegmentId::new());
        let mut still = |replays: &[SegmentId], columns: &[SegmentId]| {
            targets.still_missing(shard, [replays.to_vec(), columns.to_vec()])
        };
        assert_eq!(still(&[first], &[second]), [vec![first], vec![second]]);
        assert_eq!(still(&[later], &[second]), [vec![], vec![second]]);
        assert_eq!(still(&[later], &[]), [vec![], vec![]]);
    }
}
