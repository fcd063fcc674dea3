//! Finding who leads a shard.

use std::time::Duration;

use futures::future::join_all;
use prost::Message;
use stratalog_proto::internal::{ReplicaState, ReplicaStateRequest, ReplicaStates};
use stratalog_proto::{NodeId, ReplicaId, ShardId};
use stratalog_transport::{Frame, Method};

use super::Router;
use super::tries::Leader;

/// How long a node may take to say what its replica knows.
const ASK_WAIT: Duration = Duration::from_secs(1);

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

    /// Asks every node that has a replica of the shard who leads it. The newest term counts; one that leads says so itself.
    pub(crate) async fn ask_replicas(&self, shard: ShardId) -> Option<NodeId> {
        let view = self.links.view();
        let me = self.links.me();
        let nodes = view.shards.get(&shard)?.replicas.values().map(|replica| replica.node).filter(|node| *node != me);
        let asked = join_all(nodes.map(|node| async move { Some((node, self.ask_replica(node, shard).await?)) })).await;
        let named = |(node, state): (NodeId, ReplicaState)| {
            let leader = if state.leads { Some(node) } else { view.node_of(shard, ReplicaId(state.leader)) };
            Some((state.term, state.leads, leader.filter(|leader| *leader != me)?))
        };
        let (_, _, leader) =
            asked.into_iter().flatten().filter_map(named).max_by_key(|(term, leads, _)| (*term, *leads))?;
        self.links.note_leader(shard, Some(leader));
        Some(leader)
    }

    async fn ask_replica(&self, node: NodeId, shard: ShardId) -> Option<ReplicaState> {
        let request = ReplicaStateRequest { shards: vec![shard.0] };
        let frame = Frame::head(request.encode_to_vec());
        let answer = self.links.call(node, Method::ReplicaState, frame, ASK_WAIT).await.ok()?;
        let states = ReplicaStates::decode(answer.head).ok()?;
        states.replicas.into_iter().find(|state| state.shard == shard.0)
    }
}
