//! A node that belongs to no cluster yet.

use std::sync::{Arc, Weak};

use stratalog_broker::Broker;
use stratalog_proto::{Code, Error};

use crate::front::Front;

/// What a node does until it belongs to a cluster. Implemented where nodes are put together.
#[tonic::async_trait]
pub trait Waiting: Send + Sync + 'static {
    /// Begins a cluster with this node as its first; 0 stands for what its settings say. `alone`: also while nodes that it is
    /// to join do not answer.
    ///
    /// # Errors
    /// [`Code::WrongCluster`]: it knows of a cluster, or is about to join one; [`Code::Conflict`]: a node that it is to join
    /// does not answer, or begins one at the same time; [`Code::InvalidConfig`].
    async fn init(&self, shards: u32, replication: u32, alone: bool) -> Result<(), Error>;

    /// What it waits for, in a few words.
    fn waits_for(&self) -> String;
}

/// What the handlers of such a node see.
#[derive(Clone)]
pub(crate) struct WaitingNode {
    waiting: Arc<dyn Waiting>,
    /// The front owns its handlers.
    front: Weak<Front>,
}

impl WaitingNode {
    pub(crate) fn new(waiting: Arc<dyn Waiting>, front: Weak<Front>) -> Self {
        Self { waiting, front }
    }

    /// Begins a cluster, and gives the broker once it is there.
    ///
    /// # Errors
    /// Those of [`Waiting::init`]; [`Code::Unavailable`] if the node stops before.
    pub(crate) async fn init(&self, shards: u32, replication: u32, alone: bool) -> Result<Arc<Broker>, Error> {
        self.waiting.init(shards, replication, alone).await?;
        let stopping = || Error::new(Code::Unavailable, "the cluster has begun, but the node is stopping");
        let front = self.front.upgrade().ok_or_else(stopping)?;
        front.broker().await.ok_or_else(stopping)
    }

    /// Why anything else is refused, and what to do about it.
    pub(crate) fn not_formed(&self) -> Error {
        let message = format!(
            "this node belongs to no cluster yet: {}; `stratalog cluster init` begins a cluster with it",
            self.waiting.waits_for()
        );
        Error::new(Code::NotFormed, message)
    }
}
