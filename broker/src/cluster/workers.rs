//! The other nodes for this node's queries: where the rows of a shard are, and how parts of queries run there.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream, StreamExt};
use prost::Message;
use stratalog_proto::internal::{ClosePart, OpenPart, PartFrame, PartOpened, RunPart};
use stratalog_proto::{Code, Error, NodeId, ShardId, bounded};
use stratalog_query::{PartBytes, Workers};
use stratalog_transport::{CallError, Frame, Method};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Nodes;
use super::route::{Leader, Router};

/// How long one waits for a shard to have a leader before the query looks again.
const LEADER_WAIT: Duration = Duration::from_secs(2);
/// How long a node may take to take a snapshot, beside what it waits for tokens.
const OPEN_WAIT: Duration = Duration::from_secs(5);
/// How long closing a part is tried.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Frames of one part that are on their way or have arrived, and are not read yet. The node that sends them waits for one to
/// be read before it sends another: all parts share a connection, and one that nobody reads must not hold up the others.
pub(super) const FRAMES_AHEAD: usize = 2;

/// Asks the nodes of the cluster. Queries have threads of their own, where nothing may touch the network: what this does
/// runs on the node's.
pub(crate) struct NodeWorkers {
    nodes: Arc<Nodes>,
    router: Arc<Router>,
    runtime: Handle,
}

impl NodeWorkers {
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn new(nodes: Arc<Nodes>, router: Arc<Router>) -> Self {
        Self { nodes, router, runtime: Handle::current() }
    }

    /// Runs something on the node's threads; ends it when this is dropped.
    async fn on_node<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = AbortOnDropHandle::new(self.runtime.spawn(work));
        task.await.unwrap_or_else(|_| Err(Error::new(Code::Unavailable, "the node is stopping")))
    }
}

#[async_trait]
impl Workers for NodeWorkers {
    async fn elsewhere(&self, shards: &[ShardId], deadline: Instant) -> Result<BTreeMap<ShardId, NodeId>, Error> {
        if shards.iter().all(|shard| self.router.leads(*shard)) {
            return Ok(BTreeMap::new());
        }
        let patience = LEADER_WAIT.min(deadline.saturating_duration_since(Instant::now()));
        let (router, shards) = (Arc::clone(&self.router), shards.to_vec());
        let found = self.on_node(async move {
            let leaders = shards.into_iter().map(|shard| {
                let router = &router;
                async move { Ok::<_, Error>((shard, router.tries(shard, patience, true).leader().await?)) }
            });
            try_join_all(leaders).await
        });
        let elsewhere = |(shard, leader)| match leader {
            Leader::Here => None,
            Leader::At(node) => Some((shard, node)),
        };
        Ok(found.await?.into_iter().filter_map(elsewhere).collect())
    }

    fn others(&self) -> Vec<NodeId> {
        self.nodes.view().nodes.keys().filter(|node| **node != self.nodes.me()).copied().collect()
    }

    fn me(&self) -> NodeId {
        self.nodes.me()
    }

    async fn open(&self, node: NodeId, request: OpenPart) -> Result<PartOpened, Error> {
        // Only a token makes it wait for what is not applied yet, as long as the query may take.
        let time = Duration::from_millis(request.timeout_ms);
        let timeout = if request.tokens.is_empty() { time.min(OPEN_WAIT) } else { time };
        let shards: Vec<ShardId> = request.shards.iter().copied().map(ShardId).collect();
        let frame = Frame::head(request.encode_to_vec());
        let answer = self.nodes.call(node, Method::OpenPart, frame, timeout);
        let (router, of) = (Arc::clone(&self.router), shards.clone());
        let opened = self.on_node(async move {
            let answer = tokio::select! {
                answer = answer => answer.map_err(|error| lost(node, error))?,
                // One that hangs is replaced before it is given up.
                () = router.superseded(&of, node) => {
                    return Err(Error::new(Code::Unavailable, format!("node {node} does not lead its shards any more")));
                }
            };
            let malformed = |error| Error::new(Code::Internal, format!("node {node} opened a part badly: {error}"));
            bounded::decode(answer.head, bounded::MAX_OF_REQUEST).map_err(malformed)
        });
        let opened = opened.await;
        if opened.is_err() {
            // Whoever leads them by now is asked for anew.
            shards.into_iter().for_each(|shard| self.router.forget_leader(shard));
        }
        opened
    }

    fn run(&self, node: NodeId, request: RunPart, timeout: Duration) -> BoxStream<'static, Result<PartBytes, Error>> {
        let request = stream::iter([Ok(Frame::head(request.encode_to_vec()))]);
        let (more, asked) = mpsc::channel(FRAMES_AHEAD);
        let asked = stream::unfold(asked, |mut asked| async move { Some((Ok(asked.recv().await?), asked)) });
        let mut frames = self.nodes.stream(node, Method::RunPart, request.chain(asked).boxed());
        let (sender, arrived) = mpsc::channel(FRAMES_AHEAD);
        let pump = self.runtime.spawn(async move {
            let pumped = async {
                while let Some(frame) = frames.next().await {
                    let frame = frame.map_err(|error| lost(node, error)).and_then(read);
                    if sender.send(frame).await.is_err() {
                        return;
                    }
                }
            };
            // The query knows by itself that its time is over.
            let _ = tokio::time::timeout(timeout, pumped).await;
        });
        let pump = AbortOnDropHandle::new(pump);
        stream::unfold((arrived, more, pump), |(mut arrived, more, pump)| async move {
            let frame = arrived.recv().await?;
            // There is room for as many as can be asked for; a stream that has ended needs none.
            let _ = more.try_send(Frame::default());
            Some((frame, (arrived, more, pump)))
        })
        .boxed()
    }

    fn close(&self, node: NodeId, part: u64) {
        let frame = Frame::head(ClosePart { part }.encode_to_vec());
        let closed = self.nodes.call(node, Method::ClosePart, frame, CLOSE_WAIT);
        self.runtime.spawn(async move {
            if let Err(error) = closed.await {
                tracing::debug!(%node, part, %error, "a part of a query closes itself at the end of its time");
            }
        });
    }
}

/// Reading twice does no harm: whether it was done there does not matter.
fn lost(node: NodeId, error: CallError) -> Error {
    match error {
        CallError::NotSent(why) | CallError::Unknown(why) => {
            Error::new(Code::Unavailable, format!("node {node} does not answer: {why}"))
        }
        CallError::Refused(error) => error,
    }
}

fn read(frame: Frame) -> Result<PartBytes, Error> {
    let malformed = |error| Error::new(Code::Internal, format!("rows of another node cannot be read: {error}"));
    let head: PartFrame = bounded::decode(frame.head, bounded::MAX_OF_REQUEST).map_err(malformed)?;
    let body = match <[Bytes; 1]>::try_from(frame.parts) {
        Ok([body]) => body,
        Err(parts) => Bytes::from(parts.concat()),
    };
    Ok(PartBytes { frame: head, body })
}
