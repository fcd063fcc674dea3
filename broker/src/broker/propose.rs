//! Commands for any group, wherever it is led, and reads of the metadata that see every one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use stratalog_proto::entry::Command;
use stratalog_proto::internal::{Proposed, ReadIndexAnswer, ReadIndexRequest};
use stratalog_proto::{Code, Error, NodeId, RaftIndex, ShardId, bounded};
use stratalog_transport::{Frame, Method};
use tokio::sync::watch;

use super::{Broker, META};
use crate::cluster::Nodes;
use crate::cluster::route::{Leader, Missed, Router, proposal, proposed};
use crate::meta::check_level;
use crate::outcome::CommandResult;
use crate::raft::Group;

/// How long a leader may take to confirm that it leads.
const CONFIRM_WAIT: Duration = Duration::from_secs(2);
/// How long one looks for how far the metadata is: a client waits a little longer.
const LOOK_WAIT: Duration = Duration::from_secs(4);

impl Broker {
    /// Proposes a command to a shard or to the metadata group, here or at the node that leads it, and waits until it is
    /// applied there; one of the metadata group is applied here, too, when this returns. Gives the index of its entry.
    ///
    /// # Errors
    /// The refusal of the command itself; [`Code::Timeout`] if its outcome is unknown; [`Code::NotLeader`],
    /// [`Code::Unavailable`]: nobody led the group for the whole time, or a node does not know the command yet, and it did
    /// not happen.
    pub(crate) async fn propose(&self, shard: ShardId, command: Command) -> Result<(RaftIndex, CommandResult), Error> {
        check_level(&self.meta.view(), &command)?;
        let deadline = Instant::now() + self.options.produce_timeout;
        let mut tries = self.router.tries(shard, self.options.produce_timeout, false);
        let (index, result) = loop {
            let leader = tries.leader().await?;
            let answer = match leader {
                Leader::Here => self.propose_here(shard, command.clone()).await.map_err(Missed::from),
                Leader::At(node) => self.propose_at(node, shard, &command, tries.left()).await,
            };
            if let Some(answer) = tries.settle(leader, answer).await {
                break answer?;
            }
        };
        if shard == META {
            self.meta_applied(index, deadline).await?;
        }
        Ok((index, result))
    }

    /// Proposes a command to a group that this node leads.
    ///
    /// # Errors
    /// As [`propose`](Self::propose), without looking for another leader.
    pub(crate) async fn propose_here(
        &self,
        shard: ShardId,
        command: Command,
    ) -> Result<(RaftIndex, CommandResult), Error> {
        if shard == META {
            return self.meta.propose(command).await;
        }
        let missing = || Error::new(Code::NotLeader, format!("shard {shard} has no replica on this node"));
        self.shard(shard).ok_or_else(missing)?.propose_at(command).await
    }

    async fn propose_at(
        &self,
        node: NodeId,
        shard: ShardId,
        command: &Command,
        timeout: Duration,
    ) -> Result<(RaftIndex, CommandResult), Missed> {
        let asked = self.router.ask(node, Method::Propose, proposal(shard, command), timeout).await?;
        let answer: Result<Proposed, _> = bounded::decode(asked.body, bounded::MAX_OF_LIST);
        proposed(answer.map_err(|error| Missed::Unknown(format!("the answer of node {node} cannot be read: {error}")))?)
    }

    /// Returns when this node's metadata has every change that was acknowledged before the call, on whichever node.
    ///
    /// # Errors
    /// [`Code::NotLeader`], [`Code::Unavailable`]: it is not known, since the metadata group has no leader that answers.
    pub(crate) async fn catch_up_with_meta(&self) -> Result<(), Error> {
        let look = MetaLook {
            router: Arc::clone(&self.router),
            nodes: Arc::clone(&self.nodes),
            group: Arc::clone(self.meta.group()),
            applied: self.meta.watch_applied(),
        };
        self.freshness.join(move || look.look()).await
    }

    /// Waits until the metadata of this node is at an index.
    async fn meta_applied(&self, index: RaftIndex, deadline: Instant) -> Result<(), Error> {
        wait_applied(&mut self.meta.watch_applied(), index, deadline).await
    }
}

/// A look at how far the metadata is, by whoever leads it.
struct MetaLook {
    router: Arc<Router>,
    nodes: Arc<Nodes>,
    group: Arc<Group>,
    applied: watch::Receiver<RaftIndex>,
}

impl MetaLook {
    async fn look(mut self) -> Result<(), Error> {
        let deadline = Instant::now() + LOOK_WAIT;
        let mut tries = self.router.tries(META, LOOK_WAIT, true);
        let index = loop {
            let leader = tries.leader().await?;
            let answer = match leader {
                Leader::Here => self.group.read_index(CONFIRM_WAIT).await.map_err(Missed::from),
                Leader::At(node) => self.read_index_at(node).await,
            };
            if let Some(answer) = tries.settle(leader, answer).await {
                break answer?;
            }
        };
        wait_applied(&mut self.applied, index, deadline).await
    }

    async fn read_index_at(&self, node: NodeId) -> Result<RaftIndex, Missed> {
        let request = Frame::head(ReadIndexRequest { shard: META.0 }.encode_to_vec());
        let asked = self.nodes.call(node, Method::ReadIndex, request, CONFIRM_WAIT + CONFIRM_WAIT / 2);
        let answer = tokio::select! {
            answer = asked => answer,
            // One that hangs is replaced before it is given up.
            () = self.router.superseded(&[META], node) => {
                return Err(Missed::Unknown(format!("node {node} does not lead the metadata any more")));
            }
        };
        let head = answer.map_err(Missed::of_call)?.head;
        let answer: Result<ReadIndexAnswer, _> = bounded::decode(head, bounded::MAX_OF_REQUEST);
        let unreadable = |error| Missed::Unknown(format!("the answer of node {node} cannot be read: {error}"));
        answer.map(|answer| RaftIndex(answer.index)).map_err(unreadable)
    }
}

async fn wait_applied(
    applied: &mut watch::Receiver<RaftIndex>,
    index: RaftIndex,
    deadline: Instant,
) -> Result<(), Error> {
    let reached = applied.wait_for(|applied| *applied >= index);
    match tokio::time::timeout_at(deadline.into(), reached).await {
        Ok(Ok(_)) => Ok(()),
        _ => {
            let message = format!(
                "the metadata of this node has not come to entry {index} yet, which took effect; other nodes show it"
            );
            Err(Error::new(Code::Timeout, message))
        }
    }
}
