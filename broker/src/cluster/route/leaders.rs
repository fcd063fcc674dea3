//! Finding who leads a shard.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use prost::Message;
use stratalog_proto::internal::{ReplicaState, ReplicaStateRequest, ReplicaStates};
use stratalog_proto::{NodeId, ReplicaId, ShardId, Term, bounded};
use stratalog_transport::{Frame, Method};
use tokio::time::{Instant, timeout_at};

use super::Router;
use super::tries::Leader;

/// How long a node may take to say what its replica knows.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// How long the others may take once one says that it leads: a later leader may be among them.
const OTHERS_WAIT: Duration = Duration::from_millis(50);

/// What replicas said so far.
#[derive(Default)]
struct Said {
    /// The newest term.
    term: u64,
    /// The term of a leader, whether it says so itself, and its node.
    leader: Option<(u64, bool, NodeId)>,
}

impl Said {
    /// A replica told a term, and in it maybe who leads.
    fn note(&mut self, term: u64, leads: bool, leader: Option<NodeId>) {
        self.term = self.term.max(term);
        let named = leader.map(|leader| (term, leads, leader));
        let is_newer = |(term, leads, _): &(u64, bool, NodeId)| {
            self.leader.is_none_or(|(known, says_so, _)| (*term, *leads) >= (known, says_so))
        };
        if let Some(newer) = named.filter(is_newer) {
            self.leader = Some(newer);
        }
    }

    /// Whether the leader of the newest term has said that it is.
    fn is_clear(&self) -> bool {
        self.leader.is_some_and(|(term, leads, _)| leads && term == self.term)
    }
}

impl Router {
    /// Who leads a shard, as far as this node knows: the role of its replica is newer than what was heard before.
    pub(crate) fn known_leader(&self, shard: ShardId) -> Option<Leader> {
        let me = self.links.me();
        let by_replica = self.links.watch_role(shard).and_then(|role| {
            let role = *role.borrow();
            if role.leads {
                return Some(Leader::Here);
            }
            self.links.view().node_of(shard, role.leader?).filter(|node| *node != me).map(Leader::At)
        });
        by_replica.or_else(|| self.links.heard_leader(shard).filter(|node| *node != me).map(Leader::At))
    }

    /// Who leads a shard, and the leader epoch in which it does, as far as this node knows: both from the same source, so that
    /// clients do not look for a new leader where the old one was.
    pub(crate) fn known_lead(&self, shard: ShardId) -> (Option<Leader>, Option<Term>) {
        let heard = self.links.heard_epoch(shard);
        let role = self.role(shard).filter(|role| role.epoch > Term(0) && Some(role.epoch) >= heard);
        let Some(role) = role else {
            let me = self.links.me();
            let leader = self.links.heard_leader(shard).filter(|node| *node != me).map(Leader::At);
            return (leader.or_else(|| self.known_leader(shard)), heard);
        };
        let leads_soon =
            role.leader.and_then(|leader| self.links.view().node_of(shard, leader)) == Some(self.links.me());
        let leader = if leads_soon { Some(Leader::Here) } else { self.known_leader(shard) };
        (leader, Some(role.epoch))
    }

    /// The newest leader epoch of a shard that this node knows of; `None` if it knows of none.
    pub(crate) fn known_epoch(&self, shard: ShardId) -> Option<Term> {
        let by_replica = self.role(shard).map(|role| role.epoch).filter(|epoch| *epoch > Term(0));
        by_replica.max(self.links.heard_epoch(shard))
    }

    /// As [`known_epoch`](Self::known_epoch), for somebody who claims to know of one: if this node has not heard of it, the
    /// others are asked first.
    pub(crate) async fn epoch(&self, shard: ShardId, claimed: Term) -> Option<Term> {
        let known = self.known_epoch(shard);
        if known >= Some(claimed) {
            return known;
        }
        self.ask_replicas(shard).await;
        self.known_epoch(shard)
    }

    /// Asks every node that has a replica of the shard who leads it. The newest term counts; one that leads says so itself,
    /// and then those that hang are not waited for.
    pub(crate) async fn ask_replicas(&self, shard: ShardId) -> Option<NodeId> {
        let view = self.links.view();
        let me = self.links.me();
        let nodes = view.shards.get(&shard)?.replicas.values().map(|replica| replica.node).filter(|node| *node != me);
        let ask = |node| async move { (node, self.ask_replica(node, shard).await) };
        let mut asked: FuturesUnordered<_> = nodes.map(ask).collect();
        let (mut said, mut until) = (Said::default(), Instant::now() + ASK_WAIT);
        while let Ok(Some((node, state))) = timeout_at(until, asked.next()).await {
            let Some(state) = state else { continue };
            let leader = if state.leads { Some(node) } else { view.node_of(shard, ReplicaId(state.leader)) };
            said.note(state.term, state.leads, leader.filter(|leader| *leader != me));
            if said.is_clear() {
                until = until.min(Instant::now() + OTHERS_WAIT);
            }
        }
        let (term, _, leader) = said.leader?;
        self.links.note_epoch(shard, Term(term));
        self.links.note_leader(shard, Some(leader));
        Some(leader)
    }

    async fn ask_replica(&self, node: NodeId, shard: ShardId) -> Option<ReplicaState> {
        let request = ReplicaStateRequest { shards: vec![shard.0] };
        let frame = Frame::head(request.encode_to_vec());
        let answer = self.links.call(node, Method::ReplicaState, frame, ASK_WAIT).await.ok()?;
        let states = bounded::decode::<ReplicaStates>(answer.head, bounded::MAX_OF_LIST).ok()?;
        states.replicas.into_iter().find(|state| state.shard == shard.0)
    }
}
