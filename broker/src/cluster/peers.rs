//! Raft between nodes: a replica is found where the metadata says that it is.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId};
use stratalog_transport::{CallError, Frame, Method};

use super::Nodes;
use crate::raft::{Message, NoAnswer, Peers, Route};

/// Bytes of a route: shard, sender and receiver, little endian.
const ROUTE_BYTES: usize = 4 + 8 + 8;

/// The replicas of other nodes.
pub(crate) struct NodePeers(Arc<Nodes>);

impl NodePeers {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self(nodes)
    }

    fn node_of(&self, route: Route) -> Result<NodeId, NoAnswer> {
        let node = self.0.book().node_of(route.shard, route.to);
        node.ok_or_else(|| NoAnswer(format!("no node is known that has replica {} of shard {}", route.to, route.shard)))
    }
}

impl Peers for NodePeers {
    fn ask(&self, route: Route, message: Message, timeout: Duration) -> BoxFuture<'static, Result<Bytes, NoAnswer>> {
        let node = match self.node_of(route) {
            Ok(node) => node,
            Err(unknown) => return futures::future::ready(Err(unknown)).boxed(),
        };
        let asked = self.0.call(node, Method::RaftAsk, routed(route, message), timeout);
        async move { asked.await.map(|answer| answer.head).map_err(|error| no_answer(&error)) }.boxed()
    }

    fn replicate(
        &self,
        route: Route,
        messages: BoxStream<'static, Message>,
    ) -> BoxStream<'static, Result<Bytes, NoAnswer>> {
        let node = match self.node_of(route) {
            Ok(node) => node,
            Err(unknown) => return stream::iter([Err(unknown)]).boxed(),
        };
        let frames = begin(route).chain(messages.map(|message| Ok(frame(message))));
        let answers = self.0.stream(node, Method::RaftReplicate, frames.boxed());
        answers.map(|answer| answer.map(|frame| frame.head).map_err(|error| no_answer(&error))).boxed()
    }

    fn send_state(
        &self,
        route: Route,
        messages: BoxStream<'static, Result<Message, Error>>,
    ) -> BoxFuture<'static, Result<Bytes, NoAnswer>> {
        let node = match self.node_of(route) {
            Ok(node) => node,
            Err(unknown) => return futures::future::ready(Err(unknown)).boxed(),
        };
        let frames = begin(route).chain(messages.map(|message| message.map(frame)));
        let mut answers = self.0.stream(node, Method::RaftState, frames.boxed());
        let answer = async move {
            let answer = answers.next().await.ok_or_else(|| NoAnswer("the snapshot was not answered".to_owned()))?;
            answer.map(|frame| frame.head).map_err(|error| no_answer(&error))
        };
        answer.boxed()
    }
}

/// The first frame of a stream: for whom the others are.
fn begin(route: Route) -> BoxStream<'static, Result<Frame, Error>> {
    stream::iter([Ok(Frame::head(encode(route)))]).boxed()
}

fn frame(Message { head, parts }: Message) -> Frame {
    Frame { head, parts }
}

/// A message as it arrived.
pub(super) fn message(Frame { head, parts }: Frame) -> Message {
    Message { head, parts }
}

/// A message with its route before it; nothing of it is copied.
fn routed(route: Route, Message { head, mut parts }: Message) -> Frame {
    parts.insert(0, head);
    Frame { head: encode(route), parts }
}

/// What [`routed`] made.
///
/// # Errors
/// [`Code::InvalidRequest`] for anything else.
pub(super) fn unroute(Frame { head, mut parts }: Frame) -> Result<(Route, Message), Error> {
    let route = decode(head)?;
    if parts.is_empty() {
        return Err(malformed());
    }
    let head = parts.remove(0);
    Ok((route, Message { head, parts }))
}

fn encode(route: Route) -> Bytes {
    let mut bytes = BytesMut::with_capacity(ROUTE_BYTES);
    bytes.put_u32_le(route.shard.0);
    bytes.put_u64_le(route.from.0);
    bytes.put_u64_le(route.to.0);
    bytes.freeze()
}

/// A route as it was sent.
///
/// # Errors
/// [`Code::InvalidRequest`] for anything else.
pub(super) fn decode(mut bytes: Bytes) -> Result<Route, Error> {
    if bytes.len() != ROUTE_BYTES {
        return Err(malformed());
    }
    let shard = ShardId(bytes.get_u32_le());
    Ok(Route { shard, from: ReplicaId(bytes.get_u64_le()), to: ReplicaId(bytes.get_u64_le()) })
}

fn malformed() -> Error {
    Error::new(Code::InvalidRequest, "a message between replicas does not say for which replica it is")
}

fn no_answer(error: &CallError) -> NoAnswer {
    NoAnswer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_route_and_as_it_was() {
        let route = Route { shard: ShardId(3), from: ReplicaId(1), to: ReplicaId(1 << 40) };
        let sent =
            Message { head: Bytes::from_static(b"head"), parts: vec![Bytes::from_static(b"part"), Bytes::new()] };
        assert_eq!(unroute(routed(route, sent.clone())).unwrap(), (route, sent));
    }

    #[test]
    fn x1_a_message_without_a_route_is_refused() {
        for head in [&b""[..], b"short", &[0; ROUTE_BYTES + 1]] {
            let frame = Frame { head: Bytes::copy_from_slice(head), parts: vec![Bytes::new()] };
            assert_eq!(unroute(frame).unwrap_err().code, Code::InvalidRequest);
        }
        assert_eq!(unroute(Frame::head(vec![0; ROUTE_BYTES])).unwrap_err().code, Code::InvalidRequest);
    }
}
