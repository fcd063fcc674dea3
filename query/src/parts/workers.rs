//! The other nodes of a cluster, as queries see them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::{Code, Error, NodeId, ShardId, internal};

/// Where rows are that are not here, and how to ask for them. The broker implements it over its connections; on the other
/// side it calls [`Engine::open_part`](crate::Engine::open_part) and its siblings.
///
/// [`Code::Unavailable`], [`Code::NotLeader`] and [`Code::Timeout`] mean that the part of the query is lost and may be
/// found again, perhaps elsewhere; every other error is the query's.
#[async_trait]
pub trait Workers: Send + Sync + 'static {
    /// Which of the shards other nodes lead; those that are led here are left out.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when nobody is known to lead one of them at `deadline`.
    async fn elsewhere(&self, shards: &[ShardId], deadline: Instant) -> Result<BTreeMap<ShardId, NodeId>, Error>;

    /// Every other node of the cluster, ascending.
    fn others(&self) -> Vec<NodeId>;

    /// This node; 0 while it is in no cluster.
    fn me(&self) -> NodeId;

    /// Opens a part on a node.
    ///
    /// # Errors
    /// What the node refuses with; [`Code::Unavailable`] if it is not reached.
    async fn open(&self, node: NodeId, request: internal::OpenPart) -> Result<internal::PartOpened, Error>;

    /// Runs a plan there, within `timeout`. Dropping the frames ends it.
    fn run(
        &self,
        node: NodeId,
        request: internal::RunPart,
        timeout: Duration,
    ) -> BoxStream<'static, Result<PartBytes, Error>>;

    /// Closes a part, at some time, if the node is reached: it goes by itself at the end of its time.
    fn close(&self, node: NodeId, part: u64);
}

/// A frame of the answer to [`Workers::run`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartBytes {
    /// What it is.
    pub frame: internal::PartFrame,
    /// The next bytes of an Arrow IPC stream; with an end its last ones.
    pub body: Bytes,
}

/// A node without others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

#[async_trait]
impl Workers for Alone {
    async fn elsewhere(&self, _: &[ShardId], _: Instant) -> Result<BTreeMap<ShardId, NodeId>, Error> {
        Ok(BTreeMap::new())
    }

    fn others(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn me(&self) -> NodeId {
        NodeId(0)
    }

    async fn open(&self, node: NodeId, _: internal::OpenPart) -> Result<internal::PartOpened, Error> {
        Err(nobody(node))
    }

    fn run(&self, node: NodeId, _: internal::RunPart, _: Duration) -> BoxStream<'static, Result<PartBytes, Error>> {
        stream::iter([Err(nobody(node))]).boxed()
    }

    fn close(&self, _: NodeId, _: u64) {}
}

fn nobody(node: NodeId) -> Error {
    Error::new(Code::UnknownNode, format!("this node knows no others, and so no node {node}"))
}
