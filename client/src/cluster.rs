//! The cluster: who is in it, who has what, and changes of that.

use stratalog_proto::v1;

use crate::retry::ask;
use crate::{Client, ClientError};

impl Client {
    /// Begins a cluster with the node that is asked as its first; 0 stands for what the node's settings say. `alone`: also
    /// while nodes that it is to join do not answer, and may belong to a cluster.
    ///
    /// # Errors
    /// `WrongCluster` if the node belongs to a cluster, or knows of one; `Conflict` if a node that it is to join does not
    /// answer, or begins a cluster at the same time; `InvalidConfig`.
    pub async fn init_cluster(
        &self,
        shards: u32,
        replication: u32,
        alone: bool,
    ) -> Result<v1::ClusterStatus, ClientError> {
        ask!(changing, self, cluster.init_cluster(v1::InitClusterRequest { shards, replication, alone }))
    }

    /// The cluster, as the node that is asked sees it. Of a node that belongs to none, it is empty but for what to do.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn cluster(&self) -> Result<v1::ClusterStatus, ClientError> {
        ask!(reading, self, cluster.get_cluster(v1::GetClusterRequest {}))
    }

    /// Has the node at an address, host:port of its listener for other nodes, join the cluster.
    ///
    /// # Errors
    /// `Unavailable` if it is not reached, or does not reach the others; `WrongCluster` if it belongs to a cluster;
    /// `Unauthenticated`; `Timeout`: it may yet join.
    pub async fn add_node(&self, peer_address: &str) -> Result<v1::ClusterNode, ClientError> {
        ask!(changing, self, cluster.add_node(v1::AddNodeRequest { peer_address: peer_address.to_owned() }))
    }

    /// Takes a node out of the cluster for ever. `force` gives up what only that node has.
    ///
    /// # Errors
    /// `UnknownNode`; `QuorumAtRisk`, naming the shards that have replicas on it.
    pub async fn remove_node(&self, node: u64, force: bool) -> Result<(), ClientError> {
        ask!(changing, self, cluster.remove_node(v1::RemoveNodeRequest { node, force }))?;
        Ok(())
    }

    /// Has a node give its replicas away, or with `cancel` take some again. It goes on behind the answer.
    ///
    /// # Errors
    /// `UnknownNode`; `QuorumAtRisk` if the other nodes are too few for its replicas.
    pub async fn drain_node(&self, node: u64, cancel: bool) -> Result<v1::ClusterNode, ClientError> {
        ask!(changing, self, cluster.drain_node(v1::DrainNodeRequest { node, cancel }))
    }

    /// Has a replica of a shard move to a node: from another one, or from the one that has the most replicas. It goes on
    /// behind the answer.
    ///
    /// # Errors
    /// `UnknownNode`; `InvalidRequest` for what cannot move; `Conflict` while another change of the shard is under way.
    pub async fn move_replica(
        &self,
        shard: u32,
        to_node: u64,
        from_node: Option<u64>,
    ) -> Result<v1::Move, ClientError> {
        let request = v1::MoveReplicaRequest { shard, to_node, from_node: from_node.unwrap_or(0) };
        Ok(ask!(changing, self, cluster.move_replica(request))?.r#move.unwrap_or_default())
    }

    /// Spreads replicas evenly, behind the answer; with `plan` only says how it would. The moves.
    ///
    /// # Errors
    /// `Timeout`: some moves may have begun.
    pub async fn rebalance(&self, plan: bool) -> Result<Vec<v1::Move>, ClientError> {
        Ok(ask!(changing, self, cluster.rebalance(v1::RebalanceRequest { plan }))?.moves)
    }

    /// Has the leader of a shard hand leadership over, to a node or to any that is up to date. The node that leads then.
    ///
    /// # Errors
    /// `InvalidRequest`: the node has no voter of the shard; `NotLeader`: nobody leads it now; `Unavailable`: the node is
    /// not up to date.
    pub async fn transfer_leader(&self, shard: u32, to_node: Option<u64>) -> Result<u64, ClientError> {
        let request = v1::TransferLeaderRequest { shard, to_node: to_node.unwrap_or(0) };
        Ok(ask!(changing, self, cluster.transfer_leader(request))?.leader_node)
    }
}
