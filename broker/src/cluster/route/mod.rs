//! Any node answers anything: what a shard's leader has to do is done here if this node leads it, else passed on once.
//!
//! A request that was certainly not done, because the asked node does not lead the shard or was not reached, is tried again
//! where the leader is by now ([`Tries`]). One whose outcome is unknown is not, unless repeating it does no harm. Who is
//! asked never passes a request on: it refuses it, and says who leads as far as it knows.

mod leaders;
mod outbox;
#[cfg(test)]
mod testing;
mod tries;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use prost::Message;
use stratalog_proto::{Error, NodeId, ShardId, Term, bounded};
use stratalog_transport::{CallError, Frame, Frames, Method};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Nodes;
use crate::meta::ClusterView;
use crate::raft::{Group, RoleNow};
use crate::shards::Shards;

pub(crate) use outbox::{AppendHere, Flight, OutboxOptions, Outboxes};
pub(crate) use tries::{Leader, Missed, Tries};
pub(crate) use wire::{
    Asked, Batch, Done, Found, Question, Task, batch_answer, fetch_answer, fetch_frame, fetched, groups_answer,
    groups_of, proposal, proposal_answer, proposed, read_batch, read_fetch, read_groups, read_groups_of, read_maintain,
    read_proposal, read_question, refusal,
};

/// The metadata group.
const META: ShardId = ShardId(0);
/// How long a question waits until the shard has a leader that answers.
pub(crate) const READ_WAIT: Duration = Duration::from_secs(10);

/// What routing needs of the rest of the node.
pub(crate) trait Links: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;

    /// The cluster as the metadata said last.
    fn view(&self) -> Arc<ClusterView>;

    /// What this node's replica of a shard knows of its group; `None` if there is no replica here.
    fn watch_role(&self, shard: ShardId) -> Option<watch::Receiver<RoleNow>>;

    /// Who leads a shard, as was heard last.
    fn heard_leader(&self, shard: ShardId) -> Option<NodeId>;

    /// Remembers, or forgets, who leads a shard.
    fn note_leader(&self, shard: ShardId, leader: Option<NodeId>);

    /// The newest leader epoch of a shard that was heard of.
    fn heard_epoch(&self, shard: ShardId) -> Option<Term>;

    /// Remembers a leader epoch of a shard, if it is the newest.
    fn note_epoch(&self, shard: ShardId, epoch: Term);

    /// Asks a node, and waits for its answer at most `timeout`.
    fn call(
        &self,
        to: NodeId,
        method: Method,
        frame: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Frame, CallError>>;

    /// Sends messages to a node; its answers end with the first error.
    fn stream(&self, to: NodeId, method: Method, frames: BoxStream<'static, Result<Frame, Error>>) -> Frames;
}

/// The links of a running node.
pub(crate) struct NodeLinks {
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) meta: Arc<Group>,
}

impl Links for NodeLinks {
    fn me(&self) -> NodeId {
        self.nodes.me()
    }

    fn view(&self) -> Arc<ClusterView> {
        self.nodes.view()
    }

    fn watch_role(&self, shard: ShardId) -> Option<watch::Receiver<RoleNow>> {
        if shard == META {
            return Some(self.meta.watch_role());
        }
        self.shards.get(shard).map(|shard| shard.group().watch_role())
    }

    fn heard_leader(&self, shard: ShardId) -> Option<NodeId> {
        self.nodes.leader_of(shard)
    }

    fn note_leader(&self, shard: ShardId, leader: Option<NodeId>) {
        self.nodes.note_leader(shard, leader);
    }

    fn heard_epoch(&self, shard: ShardId) -> Option<Term> {
        self.nodes.epoch_of(shard)
    }

    fn note_epoch(&self, shard: ShardId, epoch: Term) {
        self.nodes.note_epoch(shard, epoch);
    }

    fn call(
        &self,
        to: NodeId,
        method: Method,
        frame: Frame,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Frame, CallError>> {
        self.nodes.call(to, method, frame, timeout)
    }

    fn stream(&self, to: NodeId, method: Method, frames: BoxStream<'static, Result<Frame, Error>>) -> Frames {
        self.nodes.stream(to, method, frames)
    }
}

/// Finds leaders, and asks them.
pub(crate) struct Router {
    links: Arc<dyn Links>,
    stopping: CancellationToken,
}

impl Router {
    /// Until `stopping`.
    pub(crate) fn new(links: Arc<dyn Links>, stopping: CancellationToken) -> Self {
        Self { links, stopping }
    }

    /// The way to whoever leads a shard, for one request. `patience`: how long one waits for a leader. `repeatable`: doing
    /// it twice does no harm.
    pub(crate) fn tries(&self, shard: ShardId, patience: Duration, repeatable: bool) -> Tries<'_> {
        Tries::new(self, shard, patience, repeatable)
    }

    /// What this node's replica of a shard knows of its group; `None` if there is no replica here.
    pub(crate) fn role(&self, shard: ShardId) -> Option<RoleNow> {
        self.links.watch_role(shard).map(|role| *role.borrow())
    }

    /// Whether this node leads a shard, and has applied all that was acknowledged before.
    pub(crate) fn leads(&self, shard: ShardId) -> bool {
        self.role(shard).is_some_and(|role| role.leads)
    }

    /// Forgets what was heard of who leads a shard.
    pub(crate) fn forget_leader(&self, shard: ShardId) {
        self.links.note_leader(shard, None);
    }

    /// Whether there is no other node.
    pub(crate) fn is_alone(&self) -> bool {
        self.links.view().nodes.len() <= 1
    }

    /// Sends one request to a node, and reads the head of its answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask(
        &self,
        to: NodeId,
        method: Method,
        frame: Frame,
        timeout: Duration,
    ) -> Result<Asked, Missed> {
        let answer = self.links.call(to, method, frame, timeout).await.map_err(Missed::of_call)?;
        wire::read_answer(answer)
    }
}

impl Router {
    /// As [`ask`](Self::ask), of whoever leads a shard, for what may be asked twice: ends as soon as this node knows that another
    /// one leads. A leader that hangs is replaced long before its answer is given up.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn ask_leader(
        &self,
        shard: ShardId,
        to: NodeId,
        method: Method,
        frame: Frame,
        timeout: Duration,
    ) -> Result<Asked, Missed> {
        let of = [shard];
        tokio::select! {
            asked = self.ask(to, method, frame, timeout) => asked,
            () = self.superseded(&of, to) => Err(Missed::Unknown(format!("node {to} leads shard {shard} no more"))),
        }
    }

    /// Returns once this node's replica of one of the shards knows a later leader, which is another node than `node`. Without
    /// replicas here it never does.
    pub(crate) async fn superseded(&self, shards: &[ShardId], node: NodeId) {
        let superseded = shards.iter().filter_map(|shard| {
            let mut role = self.links.watch_role(*shard)?;
            let (links, shard, asked_in) = (Arc::clone(&self.links), *shard, role.borrow().term);
            let is_later = move |role: &RoleNow| {
                let leader = role.leader.filter(|_| role.term > asked_in);
                leader.is_some_and(|leader| links.view().node_of(shard, leader) != Some(node))
            };
            Some(Box::pin(async move {
                if role.wait_for(is_later).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }))
        });
        let superseded: Vec<_> = superseded.collect();
        match superseded.is_empty() {
            true => std::future::pending().await,
            false => drop(futures::future::select_all(superseded).await),
        }
    }
}

/// Reads what a peer answered. One that cannot be read may yet have done what it was asked for.
fn decode<M: Message + Default>(body: Bytes) -> Result<M, Missed> {
    let answer = bounded::decode(body, bounded::MAX_OF_LIST);
    answer.map_err(|error| Missed::Unknown(format!("the answer of another node cannot be read: {error}")))
}

#[cfg(test)]
mod tests;
