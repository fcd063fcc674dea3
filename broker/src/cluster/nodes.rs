//! The nodes of the cluster, from this one's point of view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use stratalog_proto::{Error, NodeId, ShardId};
use stratalog_transport::{CallError, Frame, Frames, Method, Transport};
use tokio::sync::watch;

use super::Book;
use crate::meta::ClusterView;

/// Who is in the cluster, who leads what as far as is known, and how they are reached.
pub(crate) struct Nodes {
    me: NodeId,
    book: Arc<Book>,
    /// `None`: this node has no listener for others, and is alone.
    transport: Option<Arc<Transport>>,
    /// What was heard last of who leads a shard. A hint: it may be out of date.
    leaders: Mutex<BTreeMap<ShardId, NodeId>>,
}

impl Nodes {
    /// The nodes that the book knows, reached over the transport.
    pub(crate) fn new(me: NodeId, book: Arc<Book>, transport: Option<Arc<Transport>>) -> Arc<Self> {
        Arc::new(Self { me, book, transport, leaders: Mutex::default() })
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// The cluster as the metadata said last.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.book.view()
    }

    /// Changes whenever the metadata says something else.
    pub(crate) fn watch_view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.book.watch()
    }

    /// The address book.
    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// Asks a node, and waits for its answer at most `timeout`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) fn call(
        &self,
        to: NodeId,
        method: Method,
        frame: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Frame, CallError>> {
        match &self.transport {
            Some(transport) => transport.call(to, method, frame, timeout),
            None => futures::future::ready(Err(self.alone(to))).boxed(),
        }
    }

    /// Sends messages to a node; its answers end with the first error.
    pub(crate) fn stream(
        &self,
        to: NodeId,
        method: Method,
        frames: BoxStream<'static, Result<Frame, Error>>,
    ) -> Frames {
        match &self.transport {
            Some(transport) => transport.stream(to, method, frames),
            None => stream::iter([Err(self.alone(to))]).boxed(),
        }
    }

    /// Why a node was not reached last; `None` if it was, or nobody tried.
    pub(crate) fn problem(&self, node: NodeId) -> Option<String> {
        self.transport.as_ref()?.problem(node)
    }

    /// Connections to the other nodes, if this one has a listener for them.
    pub(crate) fn transport(&self) -> Option<&Arc<Transport>> {
        self.transport.as_ref()
    }

    /// Who leads a shard, as far as was heard. May be this node, and may be wrong.
    pub(crate) fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        self.leaders.lock().get(&shard).copied()
    }

    /// Remembers who leads a shard; `None` forgets it.
    pub(crate) fn note_leader(&self, shard: ShardId, leader: Option<NodeId>) {
        match leader {
            Some(node) => self.leaders.lock().insert(shard, node),
            None => self.leaders.lock().remove(&shard),
        };
    }

    fn alone(&self, to: NodeId) -> CallError {
        let message = format!("node {} has no listener for other nodes, and cannot reach node {to}", self.me);
        CallError::NotSent(message)
    }
}
