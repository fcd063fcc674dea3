//! The service `Cluster`.

use stratalog_proto::v1::cluster_server::Cluster;
use stratalog_proto::v1::{self, ClusterNode, ClusterStatus};
use stratalog_proto::{Code, Error, NodeId, ShardId};
use tonic::{Request, Response, Status};

use super::Service;
use crate::cluster::{given, moved, node, status};

#[tonic::async_trait]
impl Cluster for Service {
    async fn init_cluster(&self, _: Request<v1::InitClusterRequest>) -> Result<Response<ClusterStatus>, Status> {
        self.call("InitCluster", async {
            let found = self.shared.broker.cluster_status().await?;
            let cluster = found.cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
            let message = format!(
                "node {} belongs to cluster {cluster} already, and a cluster begins once: `stratalog cluster status` shows it",
                found.answered_by
            );
            Err(Error::new(Code::WrongCluster, message))
        })
        .await
    }

    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<ClusterStatus>, Status> {
        self.call("GetCluster", async { Ok(status(&self.shared.broker.cluster_status().await?)) }).await
    }

    async fn add_node(&self, request: Request<v1::AddNodeRequest>) -> Result<Response<ClusterNode>, Status> {
        let address = request.into_inner().peer_address;
        self.call("AddNode", async { Ok(node(&self.shared.broker.add_node(&address).await?)) }).await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let v1::RemoveNodeRequest { node, force } = request.into_inner();
        self.call("RemoveNode", async {
            self.shared.broker.remove_node(NodeId(node), force).await?;
            Ok(v1::RemoveNodeResponse {})
        })
        .await
    }

    async fn drain_node(&self, request: Request<v1::DrainNodeRequest>) -> Result<Response<ClusterNode>, Status> {
        let v1::DrainNodeRequest { node: id, cancel } = request.into_inner();
        self.call("DrainNode", async { Ok(node(&self.shared.broker.drain_node(NodeId(id), cancel).await?)) }).await
    }

    async fn move_replica(
        &self,
        request: Request<v1::MoveReplicaRequest>,
    ) -> Result<Response<v1::MoveReplicaResponse>, Status> {
        let v1::MoveReplicaRequest { shard, to_node, from_node } = request.into_inner();
        self.call("MoveReplica", async {
            let begun = self.shared.broker.move_replica(ShardId(shard), NodeId(to_node), given(from_node)).await?;
            Ok(v1::MoveReplicaResponse { r#move: Some(moved(begun)) })
        })
        .await
    }

    async fn rebalance(
        &self,
        request: Request<v1::RebalanceRequest>,
    ) -> Result<Response<v1::RebalanceResponse>, Status> {
        let plan = request.into_inner().plan;
        self.call("Rebalance", async {
            let moves = self.shared.broker.rebalance(plan).await?;
            Ok(v1::RebalanceResponse { moves: moves.into_iter().map(moved).collect() })
        })
        .await
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        let v1::TransferLeaderRequest { shard, to_node } = request.into_inner();
        self.call("TransferLeader", async {
            let leader = self.shared.broker.transfer_leader(ShardId(shard), given(to_node)).await?;
            Ok(v1::TransferLeaderResponse { leader_node: leader.0 })
        })
        .await
    }
}
