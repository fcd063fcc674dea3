//! Whether a node has caught up with its cluster since it started.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use stratalog_proto::internal::{ReadIndexAnswer, ReadIndexRequest};
use stratalog_proto::{Code, Error, RaftIndex, ShardId};
use stratalog_transport::{Frame, Method};

use crate::broker::{Broker, META};
use crate::meta::{Role, named};
use crate::raft::Group;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a leader may take to say what it has committed.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// A leader of the metadata that was not heard of for so long may be gone.
const SILENCE: Duration = Duration::from_secs(10);

/// What is known of it.
#[derive(Default)]
pub(crate) struct Readiness {
    is_caught_up: AtomicBool,
    /// What was missing when it was looked last.
    missing: Mutex<Option<Error>>,
}

impl Readiness {
    /// The node has caught up, for good.
    pub(crate) fn set_caught_up(&self) {
        self.is_caught_up.store(true, Ordering::Release);
    }

    /// Whether it has.
    ///
    /// # Errors
    /// What is missing.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_caught_up.load(Ordering::Acquire) {
            return Ok(());
        }
        let not_looked = || Error::new(Code::Unavailable, "the node has just been started");
        Err(self.missing.lock().clone().unwrap_or_else(not_looked))
    }
}

/// Looks until the node has caught up: each of its voting replicas has applied what was committed when its leader was heard
/// first, and the rows of the shards that it leads are there.
pub(crate) async fn catch_up(broker: Weak<Broker>) {
    let mut targets = BTreeMap::new();
    loop {
        let Some(node) = broker.upgrade() else { return };
        match look(&node, &mut targets).await {
            Ok(()) => return node.readiness().set_caught_up(),
            Err(missing) => *node.readiness().missing.lock() = Some(missing),
        }
        drop(node);
        tokio::time::sleep(LOOK_EVERY).await;
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
        return Err(Error::new(Code::NotLeader, "this node hears nobody who leads the metadata of the cluster"));
    }
    Ok(())
}

async fn look(broker: &Broker, targets: &mut BTreeMap<ShardId, RaftIndex>) -> Result<(), Error> {
    check_heard(broker)?;
    reached(broker, META, broker.meta().group(), broker.meta().applied(), targets).await?;
    let view = broker.nodes().view();
    for shard in broker.shards().all() {
        let replica = shard.group().log().replica();
        let role =
            view.shards.get(&shard.id()).and_then(|placement| placement.replicas.get(&replica)).map(|view| view.role);
        // One that is joining serves nobody, and may have days of data to get.
        if role == Some(Role::Voter) {
            reached(broker, shard.id(), shard.group(), shard.applied(), targets).await?;
        }
    }
    broker.rows().check_rebuilt()
}

/// Whether a replica has applied what its leader had committed when it was asked first.
async fn reached(
    broker: &Broker,
    shard: ShardId,
    group: &Group,
    applied: RaftIndex,
    targets: &mut BTreeMap<ShardId, RaftIndex>,
) -> Result<(), Error> {
    if group.watch_role().borrow().leads {
        return Ok(());
    }
    let target = match targets.get(&shard) {
        Some(target) => *target,
        None => *targets.entry(shard).or_insert(committed(broker, shard, group).await?),
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
