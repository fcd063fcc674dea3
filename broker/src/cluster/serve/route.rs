//! Requests that another node could not answer, since this one leads the shard. None of them is passed on: one that came to
//! the wrong node is refused, with whoever leads as far as this node knows.

mod batches;

use std::sync::Arc;

use stratalog_proto::{Error, NodeId, ShardId};
use stratalog_transport::Frame;

use crate::broker::Broker;
use crate::cluster::route::{
    Found, Leader, fetch_answer, groups_answer, proposal_answer, read_fetch, read_groups_of, read_maintain,
    read_proposal, read_question, refusal,
};
use crate::fetch::{FetchRequest, ReadFrom};

pub(crate) use batches::Intake;
pub(super) use batches::produce;

/// Proposes a command.
pub(super) async fn propose(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let (shard, command) = read_proposal(frame)?;
    let answer = broker.propose_here(shard, command).await;
    Ok(answer.map_or_else(|error| refused(broker, shard, error), |(index, result)| proposal_answer(index, result)))
}

/// Reads record batches.
pub(super) async fn fetch(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let asked = read_fetch(frame)?;
    let topic = match broker.current_topic_by_id(asked.topic).await {
        Ok(topic) => topic,
        Err(error) => return Ok(refusal(error, None)),
    };
    let request = FetchRequest {
        topic: topic.name.clone(),
        partitions: asked.partitions,
        max_bytes: asked.max_bytes,
        max_wait: asked.max_wait,
        from: if asked.by_replicas { ReadFrom::Zone } else { ReadFrom::Leader },
    };
    Ok(broker.fetch_here(&topic, &request).await.map_or_else(|error| refusal(error, None), fetch_answer))
}

/// Reads offsets and figures.
pub(super) async fn read(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let (shard, topic, question) = read_question(frame)?;
    let answer = async {
        let topic = broker.current_topic_by_id(topic).await?;
        broker.answer_here(&topic, shard, &question).await
    };
    Ok(answer.await.map_or_else(|error| refused(broker, shard, error), |found: Found| found.frame()))
}

/// Works on a topic in a shard that is led here.
pub(super) async fn maintain(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let (shard, topic, task) = read_maintain(frame)?;
    let done = async {
        let topic = broker.current_topic_by_id(topic).await?;
        broker.do_here(&topic, shard, task).await
    };
    Ok(done.await.map_or_else(|error| refused(broker, shard, error), |done| done.frame()))
}

/// Shows the consumer groups of a shard.
pub(super) async fn groups(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let (shard, group) = read_groups_of(frame)?;
    let found = broker.groups_here(shard, group.as_deref()).await;
    Ok(found.map_or_else(|error| refused(broker, shard, error), |found| groups_answer(&found)))
}

fn refused(broker: &Broker, shard: ShardId, error: Error) -> Frame {
    refusal(error, leader_elsewhere(broker, shard))
}

/// Who leads a shard, if it is another node and this one knows.
fn leader_elsewhere(broker: &Broker, shard: ShardId) -> Option<NodeId> {
    match broker.router().known_leader(shard)? {
        Leader::At(node) => Some(node),
        Leader::Here => None,
    }
}
