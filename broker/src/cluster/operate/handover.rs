//! Leadership that goes where an operator, or the leader of the metadata, wants it.

use std::time::Duration;

use prost::Message;
use stratalog_proto::internal::TransferLeaderRequest;
use stratalog_proto::{Code, Error, NodeId, ReplicaId, ShardId};
use stratalog_transport::{CallError, Frame, Method};

use super::super::states::States;
use crate::broker::Broker;
use crate::meta::Role;

/// How long a node may take to say who leads.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// How long the old leader may take to hand leadership over.
const HANDOVER_WAIT: Duration = Duration::from_secs(5);
/// How often is looked for the new leader, and how long it is waited between.
const LOOKS: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(100);

impl Broker {
    /// Has the leader of a shard hand leadership over, to a node or to any replica that is up to date. Returns who leads
    /// then: a third one may have been faster.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`]: there is no such shard, or the node has no voter of it; [`Code::NotLeader`]: nobody leads
    /// the shard now; [`Code::Unavailable`]: the node is not up to date, is about to stop, or waits for its disk;
    /// [`Code::Timeout`].
    pub async fn transfer_leader(&self, shard: ShardId, to: Option<NodeId>) -> Result<NodeId, Error> {
        let to = to.map(|to| self.voter_on(shard, to).map(|replica| (to, replica))).transpose()?;
        let states = self.states_of(shard).await;
        let (from, term) = leader_in(&states, shard).ok_or_else(|| {
            let message =
                format!("shard {shard} has no leader that this node reaches: nobody can hand leadership over");
            Error::new(Code::NotLeader, message)
        })?;
        if to.is_some_and(|(to, _)| to == from) {
            return Ok(from);
        }
        if let Some((to, _)) = to.filter(|(_, replica)| states.unfit(shard).contains(replica)) {
            let message =
                format!("node {to} cannot lead shard {shard} now: it is about to stop, or its disk is stalled");
            return Err(Error::new(Code::Unavailable, message));
        }
        self.ask_for_handover(shard, from, to.map(|(_, replica)| replica)).await?;
        for _ in 0..LOOKS {
            match leader_in(&self.states_of(shard).await, shard) {
                Some((leader, now)) if now > term => return Ok(leader),
                _ => tokio::time::sleep(LOOK_PAUSE).await,
            }
        }
        let message =
            format!("node {from} handed the leadership of shard {shard} over, and nobody says yet that it leads");
        Err(Error::new(Code::Timeout, message))
    }

    /// Asks the leader of a shard to hand leadership over: to a replica, or to any that is fit.
    ///
    /// # Errors
    /// As [`transfer_leader`](Self::transfer_leader).
    pub(in crate::cluster) async fn ask_for_handover(
        &self,
        shard: ShardId,
        from: NodeId,
        replica: Option<ReplicaId>,
    ) -> Result<(), Error> {
        if from == self.nodes().me() {
            let group = self.group(shard)?;
            return match replica {
                Some(replica) => group.transfer_leader(replica).await,
                None => group.hand_over().await,
            };
        }
        let request = TransferLeaderRequest { shard: shard.0, replica: replica.map_or(0, |replica| replica.0) };
        let frame = Frame::head(request.encode_to_vec());
        let answer = self.nodes().call(from, Method::TransferLeader, frame, HANDOVER_WAIT).await;
        answer.map(|_| ()).map_err(|error| match error {
            CallError::Refused(error) => error,
            CallError::NotSent(why) => {
                Error::new(Code::Unavailable, format!("the leader cannot be asked to hand leadership over: {why}"))
            }
            CallError::Unknown(why) => {
                Error::new(Code::Timeout, format!("the leader does not say that it hands leadership over: {why}"))
            }
        })
    }

    fn voter_on(&self, shard: ShardId, node: NodeId) -> Result<ReplicaId, Error> {
        let invalid = |message| Error::new(Code::InvalidRequest, message);
        let view = self.meta().view();
        let placement = view.shards.get(&shard).ok_or_else(|| invalid(format!("there is no shard {shard}")))?;
        let there = placement.replicas.iter().find(|(_, replica)| replica.node == node);
        match there {
            Some((replica, view)) if view.role == Role::Voter => Ok(*replica),
            Some(_) => {
                Err(invalid(format!("the replica of shard {shard} on node {node} has no vote, or is about to leave")))
            }
            None => Err(invalid(format!("node {node} has no replica of shard {shard}"))),
        }
    }

    /// What the nodes say of a shard that have a replica.
    async fn states_of(&self, shard: ShardId) -> States {
        let view = self.meta().view();
        let replicas = view.shards.get(&shard).into_iter().flat_map(|placement| placement.replicas.values());
        self.ask_states(replicas.map(|replica| (replica.node, vec![shard.0])).collect(), ASK_WAIT).await
    }
}

/// Who leads a shard, and in which term.
fn leader_in(states: &States, shard: ShardId) -> Option<(NodeId, u64)> {
    states.leader_of(shard).map(|(node, state)| (node, state.term))
}
