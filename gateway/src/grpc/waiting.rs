//! gRPC of a node that belongs to no cluster yet: it can be told to begin one, and refuses everything else.

use std::future::ready;

use axum::Router;
use axum::body::Body;
use stratalog_proto::v1::cluster_server::{Cluster, ClusterServer};
use stratalog_proto::v1::{self, ClusterNode, ClusterStatus};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::MAX_REQUEST_BYTES;
use crate::cluster::status;
use crate::waiting::WaitingNode;

/// The service `Cluster`; every other path is `NOT_FORMED`.
pub(crate) fn waiting(node: &WaitingNode) -> Router {
    let cluster = ClusterServer::new(Service(node.clone())).max_decoding_message_size(MAX_REQUEST_BYTES);
    let node = node.clone();
    let refuse = move || ready(Status::from(node.not_formed()).into_http::<Body>());
    Routes::new(cluster).into_axum_router().reset_fallback().fallback(refuse)
}

struct Service(WaitingNode);

impl Service {
    fn refusal<T>(&self) -> Result<Response<T>, Status> {
        Err(self.0.not_formed().into())
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn init_cluster(&self, request: Request<v1::InitClusterRequest>) -> Result<Response<ClusterStatus>, Status> {
        let v1::InitClusterRequest { shards, replication, alone } = request.into_inner();
        let broker = self.0.init(shards, replication, alone).await?;
        Ok(Response::new(status(&broker.cluster_status().await?)))
    }

    async fn get_cluster(&self, _: Request<v1::GetClusterRequest>) -> Result<Response<ClusterStatus>, Status> {
        let warnings = vec![self.0.not_formed().message];
        Ok(Response::new(ClusterStatus { warnings, ..ClusterStatus::default() }))
    }

    async fn add_node(&self, _: Request<v1::AddNodeRequest>) -> Result<Response<ClusterNode>, Status> {
        self.refusal()
    }

    async fn remove_node(&self, _: Request<v1::RemoveNodeRequest>) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        self.refusal()
    }

    async fn drain_node(&self, _: Request<v1::DrainNodeRequest>) -> Result<Response<ClusterNode>, Status> {
        self.refusal()
    }

    async fn move_replica(
        &self,
        _: Request<v1::MoveReplicaRequest>,
    ) -> Result<Response<v1::MoveReplicaResponse>, Status> {
        self.refusal()
    }

    async fn rebalance(&self, _: Request<v1::RebalanceRequest>) -> Result<Response<v1::RebalanceResponse>, Status> {
        self.refusal()
    }

    async fn transfer_leader(
        &self,
        _: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        self.refusal()
    }
}
