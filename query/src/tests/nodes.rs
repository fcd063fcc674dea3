//! Several engines in one process as the nodes of a cluster, each with the rows of the shards that it leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use stratalog_proto::{Code, Error, NodeId, ShardId, internal};

use super::fixture::{FakeCatalog, FakeChanges};
use crate::{Engine, EngineOptions, PartBytes, Workers};

/// Who leads the shards of segments and of tails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    /// Node 1 both, and there is no other.
    Alone,
    /// Node 2 and node 1.
    Two,
    /// Node 2 and node 3.
    Three,
}

impl Spread {
    pub(super) const ALL: [Self; 3] = [Self::Alone, Self::Two, Self::Three];

    fn leaders(self) -> BTreeMap<ShardId, NodeId> {
        let (segments, tail) = match self {
            Self::Alone => (1, 1),
            Self::Two => (2, 1),
            Self::Three => (2, 3),
        };
        [(ShardId(0), NodeId(segments)), (ShardId(1), NodeId(tail))].into()
    }
}

/// What happens to calls of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not reached.
    Down,
    /// Answers break off after so many frames.
    BreaksOffAfter(usize),
    /// It opens parts, and has forgotten them when they are to run.
    Forgets,
    /// It opens a part over less than it was asked for, and says so.
    IsBehind,
}

/// The other nodes.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) leaders: Mutex<BTreeMap<ShardId, NodeId>>,
    engines: Mutex<BTreeMap<NodeId, Arc<Engine>>>,
    /// Faults that are still to happen, by node.
    faults: Mutex<BTreeMap<NodeId, Vec<Fault>>>,
    /// Bytes of rows that came from other nodes.
    pub(super) bytes: Mutex<usize>,
    /// Plans that were run.
    pub(super) runs: Mutex<usize>,
    /// The last of them.
    pub(super) last_plan: Mutex<Bytes>,
}

/// The nodes as one of them sees them.
struct From {
    me: NodeId,
    nodes: Weak<Nodes>,
}

impl Nodes {
    /// The nodes of a cluster, and the first of them.
    pub(super) fn start(
        over: Spread,
        catalog: &Arc<FakeCatalog>,
        changes: &Arc<FakeChanges>,
        options: &EngineOptions,
    ) -> (Arc<Self>, Arc<Engine>) {
        let nodes = Arc::new(Self { leaders: Mutex::new(over.leaders()), ..Self::default() });
        let ids: BTreeSet<NodeId> = over.leaders().into_values().chain([NodeId(1)]).collect();
        for me in ids {
            let workers = Arc::new(From { me, nodes: Arc::downgrade(&nodes) });
            let engine = Engine::with_workers(catalog.clone(), changes.clone(), workers, options.clone());
            nodes.engines.lock().insert(me, Arc::new(engine));
        }
        let first = nodes.engine(1);
        (nodes, first)
    }

    pub(super) fn engine(&self, node: u64) -> Arc<Engine> {
        self.engines.lock()[&NodeId(node)].clone()
    }

    /// The next calls of a node go wrong like this, one each.
    pub(super) fn fail(&self, node: u64, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().entry(NodeId(node)).or_default().extend(faults);
    }

    /// Parts that are open at all nodes.
    pub(super) fn open_parts(&self) -> usize {
        self.engines.lock().values().map(|engine| engine.open_parts()).sum()
    }

    /// Waits until no part is open at any node. Not a measurement: it fails only if one never closes.
    pub(super) async fn closed(&self) {
        for _ in 0..3_000 {
            if self.open_parts() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("a part is still open");
    }

    fn fault(&self, node: NodeId, at: impl Fn(Fault) -> bool) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let faults = faults.get_mut(&node)?;
        let next = faults.first().copied().filter(|fault| at(*fault))?;
        faults.remove(0);
        Some(next)
    }
}

fn down(node: NodeId) -> Error {
    Error::new(Code::Unavailable, format!("node {node} is not reached"))
}

#[async_trait]
impl Workers for From {
    async fn elsewhere(&self, shards: &[ShardId], _: Instant) -> Result<BTreeMap<ShardId, NodeId>, Error> {
        let nodes = self.nodes.upgrade().ok_or_else(|| down(self.me))?;
        let leaders = nodes.leaders.lock();
        let found = shards.iter().filter_map(|shard| Some((*shard, *leaders.get(shard)?)));
        Ok(found.filter(|(_, node)| *node != self.me).collect())
    }

    fn others(&self) -> Vec<NodeId> {
        let Some(nodes) = self.nodes.upgrade() else { return Vec::new() };
        nodes.engines.lock().keys().filter(|node| **node != self.me).copied().collect()
    }

    fn me(&self) -> NodeId {
        self.me
    }

    async fn open(&self, node: NodeId, request: internal::OpenPart) -> Result<internal::PartOpened, Error> {
        let nodes = self.nodes.upgrade().ok_or_else(|| down(node))?;
        if nodes.fault(node, |fault| fault == Fault::Down).is_some() {
            return Err(down(node));
        }
        let mut opened = nodes.engine(node.0).open_part(request).await?;
        if nodes.fault(node, |fault| fault == Fault::IsBehind).is_some() {
            opened.fences.iter_mut().for_each(|fence| fence.index = 7);
        }
        if nodes.fault(node, |fault| fault == Fault::Forgets).is_some() {
            nodes.engine(node.0).close_part(opened.part);
        }
        Ok(opened)
    }

    fn run(
        &self,
        node: NodeId,
        request: internal::RunPart,
        _: Duration,
    ) -> BoxStream<'static, Result<PartBytes, Error>> {
        let Some(nodes) = self.nodes.upgrade() else { return stream::iter([Err(down(node))]).boxed() };
        *nodes.runs.lock() += 1;
        if let Some(internal::run_part::What::Plan(plan)) = &request.what {
            *nodes.last_plan.lock() = plan.plan.clone();
        }
        let frames = nodes.engine(node.0).run_part(request);
        let counted = nodes.clone();
        let frames = frames.inspect(move |frame| {
            *counted.bytes.lock() += frame.as_ref().map_or(0, |frame| frame.body.len());
        });
        match nodes.fault(node, |fault| matches!(fault, Fault::BreaksOffAfter(_))) {
            Some(Fault::BreaksOffAfter(most)) => frames.take(most).boxed(),
            _ => frames.boxed(),
        }
    }

    fn close(&self, node: NodeId, part: u64) {
        if let Some(nodes) = self.nodes.upgrade() {
            nodes.engine(node.0).close_part(part);
        }
    }
}
