//! Raft messages, for the replica that they name.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use stratalog_proto::internal::{ReadIndexAnswer, ReadIndexRequest, TransferLeaderRequest};
use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_transport::{CallError, Frame, Frames, Method, Peer};

use super::{decode, encode};
use crate::broker::Broker;
use crate::cluster::peers::{self, message, unroute};
use crate::raft::{Group, NoAnswer, Route};

/// How long a quorum may take to confirm that this node leads.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);

/// Answers a vote or a heartbeat.
pub(super) async fn ask(broker: &Broker, frame: Frame) -> Result<Frame, Error> {
    let (route, message) = unroute(frame)?;
    replica(broker, route)?.answer(message).await.map(Frame::head)
}

/// Takes entries as they come; those of a replica that nobody counts on yet no faster than segments, so that the log of the
/// others, where they share a device, goes on as before.
pub(super) async fn replicate(broker: &Broker, from: &Peer, mut frames: Frames) -> Result<Frames, Error> {
    let route = first(&mut frames).await?;
    let group = replica(broker, route)?;
    broker.nodes().book().meet(&from.identity, route.shard, route.from);
    // What broke the connection ends the stream: whoever sent finds out, and sends again from where they agree.
    let whole = frames.take_while(|frame| std::future::ready(frame.is_ok()));
    let messages = whole.filter_map(|frame| std::future::ready(frame.ok().map(message)));
    let (way, learner) = (broker.way(), Arc::clone(&group));
    let messages = messages.then(move |message| {
        let rests = (!learner.has_vote()).then(|| Arc::clone(&way));
        async move {
            if let Some(way) = rests {
                way.rest_for(message.bytes()).await;
            }
            message
        }
    });
    let answers = group.answer_all(messages.boxed());
    Ok(answers.map(|answer| answer.map(Frame::head).map_err(CallError::Refused)).boxed())
}

/// Takes a snapshot.
pub(super) async fn take_state(broker: &Broker, mut frames: Frames) -> Result<Frames, Error> {
    let group = replica(broker, first(&mut frames).await?)?;
    let messages = frames.map(|frame| frame.map(message).map_err(|error| NoAnswer(error.to_string())));
    let taken = async move { group.receive_state(messages.boxed()).await.map(Frame::head).map_err(CallError::Refused) };
    Ok(stream::once(taken).boxed())
}

/// Says from which index a linearizable read may be served, if a majority agrees that this node leads.
pub(super) async fn read_index(broker: &Broker, frame: Frame) -> Result<Frame, Error> {
    let asked: ReadIndexRequest = decode(Method::ReadIndex, frame.head)?;
    let index = broker.group(ShardId(asked.shard))?.read_index(CONFIRM_WAIT).await?;
    Ok(encode(&ReadIndexAnswer { index: index.0 }))
}

/// Hands the leadership of a shard over.
pub(super) async fn transfer_leader(broker: &Broker, frame: Frame) -> Result<Frame, Error> {
    let asked: TransferLeaderRequest = decode(Method::TransferLeader, frame.head)?;
    let group = broker.group(ShardId(asked.shard))?;
    match asked.replica {
        0 if !group.is_leader() => Err(group.not_leader()),
        0 => group.hand_over().await,
        replica => group.transfer_leader(ReplicaId(replica)).await,
    }
    .map(|()| Frame::default())
}

async fn first(frames: &mut Frames) -> Result<Route, Error> {
    match frames.next().await {
        Some(Ok(frame)) => peers::decode(frame.head),
        Some(Err(error)) => Err(Error::new(Code::Unavailable, error.to_string())),
        None => Err(Error::new(Code::InvalidRequest, "a stream between replicas does not say for which replica it is")),
    }
}

/// The replica that a message is for. One of another id is another replica, with another log.
fn replica(broker: &Broker, route: Route) -> Result<Arc<Group>, Error> {
    let group = broker.group(route.shard)?;
    if group.log().replica() == route.to {
        return Ok(group);
    }
    let (has, shard) = (group.log().replica(), route.shard);
    let message = format!("this node has replica {has} of shard {shard}, and not replica {}", route.to);
    Err(Error::new(Code::Unavailable, message))
}
