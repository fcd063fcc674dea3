//! Links to nodes that only exist in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use prost::Message;
use stratalog_proto::internal::{ReplicaState, ReplicaStateRequest, ReplicaStates};
use stratalog_proto::{Error, NodeId, ReplicaId, ShardId, Term};
use stratalog_transport::{CallError, Frame, Frames, Method};
use tokio::sync::watch;

use super::Links;
use crate::meta::{ClusterView, Placement, ReplicaView, Role};
use crate::raft::RoleNow;

/// The shard of the tests. Node n has its replica n.
pub(super) const SHARD: ShardId = ShardId(1);
/// The node that routes.
pub(super) const ME: NodeId = NodeId(1);

type Streamed = Arc<dyn Fn(Frames) -> Frames + Send + Sync>;
type Called = Arc<dyn Fn(Frame) -> Result<Frame, CallError> + Send + Sync>;

/// A cluster of three nodes, of which node 1 is the one that routes; it has a replica of the shard if `replica_here`.
pub(super) struct FakeLinks {
    view: Arc<ClusterView>,
    role: Option<watch::Sender<RoleNow>>,
    heard: Mutex<BTreeMap<ShardId, NodeId>>,
    epochs: Mutex<BTreeMap<ShardId, Term>>,
    /// Who leads, as the other nodes say when they are asked.
    led_by: Mutex<Option<NodeId>>,
    streams: Mutex<BTreeMap<NodeId, Streamed>>,
    calls: Mutex<BTreeMap<NodeId, Called>>,
    /// Nodes that take calls and do not answer.
    hanging: Mutex<BTreeSet<NodeId>>,
}

impl FakeLinks {
    pub(super) fn new(replica_here: bool, led_by: Option<NodeId>) -> Arc<Self> {
        let nodes = if replica_here { 1..=3 } else { 2..=3 };
        let replica = |node| (ReplicaId(node), ReplicaView { node: NodeId(node), role: Role::Voter });
        let placement = Placement { replication: 3, replicas: nodes.map(replica).collect() };
        let view = ClusterView { shards: BTreeMap::from([(SHARD, placement)]), ..ClusterView::default() };
        Arc::new(Self {
            view: Arc::new(view),
            role: replica_here.then(|| watch::Sender::new(RoleNow::default())),
            heard: Mutex::default(),
            epochs: Mutex::default(),
            led_by: Mutex::new(led_by),
            streams: Mutex::default(),
            calls: Mutex::default(),
            hanging: Mutex::default(),
        })
    }

    /// What the other nodes say from now on.
    pub(super) fn lead(&self, node: Option<NodeId>) {
        *self.led_by.lock() = node;
    }

    /// What the replica here knows from now on.
    pub(super) fn set_role(&self, term: u64, leader: Option<NodeId>) {
        let sender = self.role.as_ref().expect("the node has a replica");
        let epoch = if leader.is_some() { Term(term) } else { sender.borrow().epoch };
        let leader = leader.map(|node| ReplicaId(node.0));
        let (leads, before) = (leader == Some(ReplicaId(ME.0)), *sender.borrow());
        let reigns = before.reigns + u64::from(leads && !before.leads);
        sender.send_replace(RoleNow { term: Term(term), epoch, leader, leads, reigns });
    }

    /// How a node answers streams.
    pub(super) fn stream_with(&self, node: u64, serve: impl Fn(Frames) -> Frames + Send + Sync + 'static) {
        self.streams.lock().insert(NodeId(node), Arc::new(serve));
    }

    /// How a node answers calls.
    pub(super) fn call_with(
        &self,
        node: u64,
        answer: impl Fn(Frame) -> Result<Frame, CallError> + Send + Sync + 'static,
    ) {
        self.calls.lock().insert(NodeId(node), Arc::new(answer));
    }

    /// From now on a node answers no calls.
    pub(super) fn hang(&self, node: u64) {
        self.hanging.lock().insert(NodeId(node));
    }

    fn replica_state(&self, to: NodeId, frame: Frame) -> Frame {
        let asked = ReplicaStateRequest::decode(frame.head).unwrap();
        let leader = *self.led_by.lock();
        let state = |shard: &u32| ReplicaState {
            shard: *shard,
            term: 5,
            leader: leader.map_or(0, |node| node.0),
            leads: leader == Some(to),
            ..ReplicaState::default()
        };
        Frame::head(ReplicaStates { replicas: asked.shards.iter().map(state).collect(), clock_ns: 0 }.encode_to_vec())
    }
}

impl Links for FakeLinks {
    fn me(&self) -> NodeId {
        ME
    }

    fn view(&self) -> Arc<ClusterView> {
        Arc::clone(&self.view)
    }

    fn watch_role(&self, _shard: ShardId) -> Option<watch::Receiver<RoleNow>> {
        self.role.as_ref().map(watch::Sender::subscribe)
    }

    fn heard_leader(&self, shard: ShardId) -> Option<NodeId> {
        self.heard.lock().get(&shard).copied()
    }

    fn note_leader(&self, shard: ShardId, leader: Option<NodeId>) {
        match leader {
            Some(node) => self.heard.lock().insert(shard, node),
            None => self.heard.lock().remove(&shard),
        };
    }

    fn heard_epoch(&self, shard: ShardId) -> Option<Term> {
        self.epochs.lock().get(&shard).copied()
    }

    fn note_epoch(&self, shard: ShardId, epoch: Term) {
        let mut epochs = self.epochs.lock();
        let known = epochs.entry(shard).or_insert(epoch);
        *known = epoch.max(*known);
    }

    fn call(
        &self,
        to: NodeId,
        method: Method,
        frame: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Frame, CallError>> {
        if self.hanging.lock().contains(&to) {
            let late = CallError::Unknown(format!("node {to} had no answer"));
            return tokio::time::sleep(timeout).map(|()| Err(late)).boxed();
        }
        let answer = match method {
            Method::ReplicaState => Ok(self.replica_state(to, frame)),
            _ => match self.calls.lock().get(&to).cloned() {
                Some(answer) => answer(frame),
                None => Err(CallError::NotSent(format!("node {to} is down"))),
            },
        };
        async move { answer }.boxed()
    }

    fn stream(&self, to: NodeId, _method: Method, frames: BoxStream<'static, Result<Frame, Error>>) -> Frames {
        match self.streams.lock().get(&to).cloned() {
            Some(serve) => serve(frames.map(|frame| frame.map_err(CallError::Refused)).boxed()),
            None => stream::iter([Err(CallError::NotSent(format!("node {to} is down")))]).boxed(),
        }
    }
}
