//! What nodes say of their replicas, asked of many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use prost::Message;
use stratalog_proto::internal::{ReplicaState, ReplicaStateRequest, ReplicaStates};
use stratalog_proto::{NodeId, ReplicaId, ShardId, Term, bounded};
use stratalog_transport::{Frame, Method};

use crate::broker::Broker;
use crate::meta::ClusterView;

/// Nodes that are asked at the same time.
const AT_ONCE: usize = 64;
/// How long a node may take to answer before it counts as silent.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// How long whoever wants to know of leaders waits for it.
const HEAR_WAIT: Duration = Duration::from_millis(500);

/// Answers of nodes, as of one moment or so.
#[derive(Clone, Debug, Default)]
pub(super) struct States {
    states: BTreeMap<(ShardId, NodeId), ReplicaState>,
    /// Why a node did not answer.
    silent: BTreeMap<NodeId, String>,
}

impl Broker {
    /// Asks nodes for their replicas of some shards, of all for an empty list; each at most `timeout`. This node answers
    /// itself.
    pub(super) async fn ask_states(&self, asked: BTreeMap<NodeId, Vec<u32>>, timeout: Duration) -> States {
        let answers = asked.into_iter().map(|(node, shards)| async move {
            if node == self.nodes().me() {
                return (node, Ok(self.replica_states(&shards)));
            }
            let frame = Frame::head(ReplicaStateRequest { shards }.encode_to_vec());
            let answer = self.nodes().call(node, Method::ReplicaState, frame, timeout).await;
            let read =
                |frame: Frame| bounded::decode(frame.head, bounded::MAX_OF_LIST).map_err(|error| error.to_string());
            let states = answer.map_err(|error| error.to_string()).and_then(read);
            (node, states.map(|states: ReplicaStates| states.replicas))
        });
        stream::iter(answers).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Has this node hear who leads those of some shards that it has no replica of, unless it did a moment ago: clients are to be
    /// told of a new leader, also where nothing is asked of it. Returns soon, whether everybody has answered or not.
    pub async fn hear_leaders(self: &Arc<Self>, shards: impl Iterator<Item = ShardId>) {
        let elsewhere = shards.filter(|shard| self.shards().get(*shard).is_none());
        let (due, view) = (self.nodes().due(elsewhere), self.nodes().view());
        let mut asked: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        for shard in due {
            let replicas = view.shards.get(&shard).into_iter().flat_map(|placement| placement.replicas.values());
            replicas.for_each(|replica| asked.entry(replica.node).or_default().push(shard.0));
        }
        if asked.is_empty() {
            return;
        }
        let is_doubted = |(node, _): &(NodeId, Vec<u32>)| self.nodes().problem(*node).is_some();
        let (doubted, reached) = asked.into_iter().partition(is_doubted);
        // Who did not answer last is asked as well, and nobody waits for it.
        tokio::spawn(Arc::clone(self).hear_from(doubted));
        let heard = tokio::spawn(Arc::clone(self).hear_from(reached));
        // It goes on if it takes longer, and whoever asks next is told.
        let _ = tokio::time::timeout(HEAR_WAIT, heard).await;
    }

    async fn hear_from(self: Arc<Self>, asked: BTreeMap<NodeId, Vec<u32>>) {
        let shards: BTreeSet<ShardId> = asked.values().flatten().copied().map(ShardId).collect();
        let states = self.ask_states(asked, SILENT_AFTER).await;
        for shard in shards {
            let Some((node, state)) = states.leader_of(shard) else { continue };
            let epoch = Term(state.term);
            if Some(epoch) >= self.nodes().epoch_of(shard) {
                self.nodes().note_leader(shard, Some(node));
                self.nodes().note_epoch(shard, epoch);
            }
        }
    }

    /// The nodes that do not answer now.
    pub(crate) async fn silent_nodes(&self, view: &ClusterView) -> BTreeSet<NodeId> {
        let asked = view.nodes.keys().map(|node| (*node, vec![0])).collect();
        self.ask_states(asked, SILENT_AFTER).await.silent.into_keys().collect()
    }
}

impl FromIterator<(NodeId, Result<Vec<ReplicaState>, String>)> for States {
    fn from_iter<I: IntoIterator<Item = (NodeId, Result<Vec<ReplicaState>, String>)>>(answers: I) -> Self {
        let mut all = Self::default();
        for (node, answer) in answers {
            match answer {
                Ok(states) => all.states.extend(states.into_iter().map(|state| ((ShardId(state.shard), node), state))),
                Err(why) => {
                    all.silent.insert(node, why);
                }
            }
        }
        all
    }
}

impl States {
    /// What a node said of its replica of a shard.
    pub(super) fn get(&self, shard: ShardId, node: NodeId) -> Option<&ReplicaState> {
        self.states.get(&(shard, node))
    }

    /// What all nodes said of their replicas of a shard.
    pub(super) fn of_shard(&self, shard: ShardId) -> impl Iterator<Item = (NodeId, &ReplicaState)> {
        let all = self.states.range((shard, NodeId(0))..=(shard, NodeId(u64::MAX)));
        all.map(|((_, node), state)| (*node, state))
    }

    /// The node that leads a shard by what it says itself, and what it said: of two, that of the newer term.
    pub(super) fn leader_of(&self, shard: ShardId) -> Option<(NodeId, &ReplicaState)> {
        self.of_shard(shard).filter(|(_, state)| state.leads).max_by_key(|(_, state)| state.term)
    }

    /// Every shard that somebody leads, with who does.
    pub(super) fn leaders(&self) -> BTreeMap<ShardId, NodeId> {
        let shards: BTreeSet<ShardId> = self.states.keys().map(|(shard, _)| *shard).collect();
        shards.into_iter().filter_map(|shard| Some((shard, self.leader_of(shard)?.0))).collect()
    }

    /// The replicas of a shard that say that they cannot lead now.
    pub(super) fn unfit(&self, shard: ShardId) -> BTreeSet<ReplicaId> {
        self.of_shard(shard).filter(|(_, state)| state.unfit).map(|(_, state)| ReplicaId(state.replica)).collect()
    }

    /// The replicas of a shard that say that they could lead now.
    pub(super) fn fit(&self, shard: ShardId) -> BTreeSet<ReplicaId> {
        self.of_shard(shard).filter(|(_, state)| !state.unfit).map(|(_, state)| ReplicaId(state.replica)).collect()
    }

    /// Whether one of all replicas says that it could lead now.
    pub(super) fn somebody_may_lead(&self) -> bool {
        self.states.values().any(|state| !state.unfit)
    }

    /// Why a node did not answer; `None` if it did, or was not asked.
    pub(super) fn problem(&self, node: NodeId) -> Option<&str> {
        self.silent.get(&node).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that stopped before the others had nothing to hand over, and is gone when they ask.
    #[test]
    fn who_does_not_answer_could_not_lead() {
        let state = |shard, replica, unfit| ReplicaState { shard, replica, unfit, ..ReplicaState::default() };
        let gone = Err(String::from("it was not reached"));
        let all =
            [(NodeId(1), Ok(vec![state(1, 11, false)])), (NodeId(2), Ok(vec![state(1, 12, true)])), (NodeId(3), gone)];
        let states: States = all.into_iter().collect();
        assert_eq!(states.fit(ShardId(1)), BTreeSet::from([ReplicaId(11)]));
        assert_eq!(states.unfit(ShardId(1)), BTreeSet::from([ReplicaId(12)]));
        assert_eq!(states.fit(ShardId(2)), BTreeSet::new());
        assert!(states.somebody_may_lead() && states.problem(NodeId(3)).is_some());
    }
}
