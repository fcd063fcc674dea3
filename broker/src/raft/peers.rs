//! How a group reaches the replicas of other nodes. What is sent are bytes: a transport knows no Raft.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
#[cfg(test)]
use futures::future::FutureExt;
use futures::stream::BoxStream;
use stratalog_proto::{Error, ReplicaId, ShardId};

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// The group.
    pub(crate) shard: ShardId,
    /// The sender.
    pub(crate) from: ReplicaId,
    /// The receiver.
    pub(crate) to: ReplicaId,
}

/// What is sent: a head, and buffers that it describes. Nothing is copied into one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Bytes,
    pub(crate) parts: Vec<Bytes>,
}

impl Message {
    /// A message without further buffers.
    pub(crate) fn head(head: impl Into<Bytes>) -> Self {
        Self { head: head.into(), parts: Vec::new() }
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> u64 {
        (self.head.len() + self.parts.iter().map(Bytes::len).sum::<usize>()) as u64
    }
}

/// No answer came; whether the peer got the message is not known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no answer: {0}")]
pub(crate) struct NoAnswer(pub(crate) String);

/// Messages as they come from a peer.
pub(crate) type Incoming = BoxStream<'static, Result<Message, NoAnswer>>;

/// A transport between the replicas of groups. The receiving end hands what arrives to
/// [`Group::answer`](super::Group::answer), [`Group::answer_all`](super::Group::answer_all) and
/// [`Group::receive_state`](super::Group::receive_state).
///
/// A message may be lost, late, or arrive twice; a stream keeps its order or breaks.
pub(crate) trait Peers: Send + Sync + 'static {
    /// Sends one message and waits for its answer, at most `timeout`.
    fn ask(&self, route: Route, message: Message, timeout: Duration) -> BoxFuture<'static, Result<Bytes, NoAnswer>>;

    /// Sends messages without waiting for their answers, which come in the same order.
    fn replicate(
        &self,
        route: Route,
        messages: BoxStream<'static, Message>,
    ) -> BoxStream<'static, Result<Bytes, NoAnswer>>;

    /// Sends the messages of a snapshot, each when the one before it was taken, and waits for the one answer. A message
    /// that is an error ends it: the receiver drops what it has.
    fn send_state(
        &self,
        route: Route,
        messages: BoxStream<'static, Result<Message, Error>>,
    ) -> BoxFuture<'static, Result<Bytes, NoAnswer>>;
}

/// The peers of a group with one voter: there is nobody to reach.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoPeers;

#[cfg(test)]
impl NoPeers {
    fn nobody(route: Route) -> NoAnswer {
        NoAnswer(format!("replica {} is not known here: shard {} has one voter", route.to, route.shard))
    }
}

#[cfg(test)]
impl Peers for NoPeers {
    fn ask(&self, route: Route, _message: Message, _timeout: Duration) -> BoxFuture<'static, Result<Bytes, NoAnswer>> {
        async move { Err(Self::nobody(route)) }.boxed()
    }

    fn replicate(
        &self,
        route: Route,
        _messages: BoxStream<'static, Message>,
    ) -> BoxStream<'static, Result<Bytes, NoAnswer>> {
        Box::pin(futures::stream::once(async move { Err(Self::nobody(route)) }))
    }

    fn send_state(
        &self,
        route: Route,
        _messages: BoxStream<'static, Result<Message, Error>>,
    ) -> BoxFuture<'static, Result<Bytes, NoAnswer>> {
        async move { Err(Self::nobody(route)) }.boxed()
    }
}
