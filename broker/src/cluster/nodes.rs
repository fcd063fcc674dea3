//! The nodes of the cluster, from this one's point of view.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use stratalog_proto::{Error, NodeId, ShardId, Term};
use stratalog_transport::{CallError, Frame, Frames, Method, Transport};
use tokio::sync::watch;

use super::Book;
use super::heard::Heard;
use crate::meta::ClusterView;

/// How long what was heard of a shard's leader is good enough to tell clients.
const HEARD_FOR: Duration = Duration::from_secs(1);

/// Who is in the cluster, who leads what as far as is known, and how they are reached.
pub(crate) struct Nodes {
    me: NodeId,
    book: Arc<Book>,
    /// `None`: this node has no listener for others, and is alone.
    transport: Option<Arc<Transport>>,
    /// What was heard last of who leads a shard. A hint: it may be out of date.
    leaders: Mutex<BTreeMap<ShardId, NodeId>>,
    /// The newest leader epochs that were heard of.
    epochs: Mutex<BTreeMap<ShardId, Term>>,
    /// When it was last asked who leads a shard, for clients that want to know.
    asked: Mutex<BTreeMap<ShardId, Instant>>,
    /// Since when other nodes answer, and since when they do not.
    heard: Mutex<Heard>,
}

impl Nodes {
    /// The nodes that the book knows, reached over the transport.
    pub(crate) fn new(me: NodeId, book: Arc<Book>, transport: Option<Arc<Transport>>) -> Arc<Self> {
        let (leaders, epochs, asked, heard) = Default::default();
        Arc::new(Self { me, book, transport, leaders, epochs, asked, heard })
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

    /// Since when other nodes answer, and since when they do not.
    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock()
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

    /// The newest leader epoch of a shard that was heard of.
    pub(crate) fn epoch_of(&self, shard: ShardId) -> Option<Term> {
        self.epochs.lock().get(&shard).copied()
    }

    /// Remembers a leader epoch of a shard, if it is the newest.
    pub(crate) fn note_epoch(&self, shard: ShardId, epoch: Term) {
        let mut epochs = self.epochs.lock();
        let known = epochs.entry(shard).or_insert(epoch);
        *known = epoch.max(*known);
    }

    /// Those of some shards of which it was not asked a moment ago who leads them. From now on it was.
    pub(crate) fn due(&self, shards: impl Iterator<Item = ShardId>) -> Vec<ShardId> {
        let (mut asked, now) = (self.asked.lock(), Instant::now());
        let is_due = |shard: &ShardId| {
            let due = asked.get(shard).is_none_or(|at| now.duration_since(*at) >= HEARD_FOR);
            if due {
                asked.insert(*shard, now);
            }
            due
        };
        shards.filter(is_due).collect()
    }

    fn alone(&self, to: NodeId) -> CallError {
        let message = format!("node {} has no listener for other nodes, and cannot reach node {to}", self.me);
        CallError::NotSent(message)
    }
}
