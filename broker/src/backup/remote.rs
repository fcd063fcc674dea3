//! A shard that is copied from another node: the same questions and answers, in frames.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use prost::Message;
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyAsk};
use stratalog_proto::{Code, Error, NodeId, ShardId, bounded};
use stratalog_transport::{CallError, Frame, Frames, Method};
use tokio::sync::mpsc;

use super::held::HeldShard;
use super::{Opened, answers, first};
use crate::broker::Broker;
use crate::cluster::Nodes;
use crate::cluster::route::Missed;

/// How long the node may take to open the shard: it may have to roll the log first.
const OPENED_WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A shard that is open on another node.
pub(super) struct RemoteShard {
    node: NodeId,
    asks: mpsc::Sender<Frame>,
    answers: Frames,
}

impl RemoteShard {
    /// Opens a shard that another node leads.
    ///
    /// # Errors
    /// Why it is not open.
    pub(super) async fn open(nodes: &Arc<Nodes>, node: NodeId, shard: ShardId) -> Result<(Self, CopyAnswer), Missed> {
        let (asks, asked) = mpsc::channel(1);
        let asked = stream::unfold(asked, |mut asked| async move { Some((Ok(asked.recv().await?), asked)) });
        let opens = stream::iter([Ok(frame_of(Ask::Open(shard.0)))]);
        let answers = nodes.stream(node, Method::CopyShard, opens.chain(asked).boxed());
        let mut remote = Self { node, asks, answers };
        let head = remote.next(OPENED_WITHIN).await.map_err(Missed::of_call)?;
        Ok((remote, head))
    }

    /// # Errors
    /// As [`HeldShard::answer`]; [`Code::Unavailable`] if the node is gone.
    pub(super) async fn answer(&mut self, ask: Ask) -> Result<CopyAnswer, Error> {
        // Whether it was sent shows in the answer.
        let _ = self.asks.send(frame_of(ask)).await;
        let node = self.node;
        self.next(ANSWER_WITHIN).await.map_err(|error| match error {
            CallError::Refused(error) => error,
            CallError::NotSent(why) | CallError::Unknown(why) => {
                Error::new(Code::Unavailable, format!("node {node}, which a shard is copied from, is gone: {why}"))
            }
        })
    }

    async fn next(&mut self, within: Duration) -> Result<CopyAnswer, CallError> {
        let late = |_| CallError::Unknown(format!("node {} has not answered for {within:?}", self.node));
        let ended = || CallError::Unknown(format!("node {} ended a copy", self.node));
        let frame = tokio::time::timeout(within, self.answers.next()).await.map_err(late)?.ok_or_else(ended)??;
        answer_of(frame).map_err(CallError::Refused)
    }
}

/// Answers another node's questions about a shard that is led here. Nothing is passed on.
///
/// # Errors
/// As [`HeldShard::open`].
pub(crate) async fn serve(broker: &Arc<Broker>, frames: Frames) -> Result<Frames, Error> {
    let asks = frames.map(|frame| {
        let frame = frame.map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        let malformed = |error| Error::new(Code::InvalidRequest, format!("a question of another node: {error}"));
        bounded::decode(frame.head, bounded::MAX_OF_REQUEST).map_err(malformed)
    });
    let (shard, asks) = first(asks.boxed()).await?;
    let (held, head) = HeldShard::open(broker, shard).await?;
    let all = stream::iter([Ok(head)]).chain(answers(Opened::Here(Box::new(held)), asks));
    Ok(all.map(|answer| answer.map(frame_of_answer).map_err(CallError::Refused)).boxed())
}

fn frame_of(ask: Ask) -> Frame {
    Frame::head(CopyAsk { ask: Some(ask) }.encode_to_vec())
}

/// The bytes of an answer go beside its head, so that they are not copied.
fn frame_of_answer(mut answer: CopyAnswer) -> Frame {
    let bytes = std::mem::take(&mut answer.bytes);
    let parts = if bytes.is_empty() { Vec::new() } else { vec![bytes] };
    Frame { head: answer.encode_to_vec().into(), parts }
}

fn answer_of(frame: Frame) -> Result<CopyAnswer, Error> {
    let malformed = |error| Error::new(Code::Internal, format!("an answer of another node cannot be read: {error}"));
    let answer: CopyAnswer = bounded::decode(frame.head, bounded::MAX_OF_LIST).map_err(malformed)?;
    let bytes = match <[Bytes; 1]>::try_from(frame.parts) {
        Ok([bytes]) => bytes,
        Err(parts) => Bytes::from(parts.concat()),
    };
    Ok(CopyAnswer { bytes, ..answer })
}
