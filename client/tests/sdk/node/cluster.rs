//! What the node in memory tells of its cluster; it changes nothing there.

use stratalog_proto::v1;
use stratalog_proto::v1::cluster_server::Cluster;
use tonic::{Request, Response, Status};

use super::Shared;

macro_rules! refused {
    ($($method:ident($request:ident) -> $answer:ident;)*) => {
        #[tonic::async_trait]
        impl Cluster for Shared {
            async fn get_cluster(
                &self,
                _: Request<v1::GetClusterRequest>,
            ) -> Result<Response<v1::ClusterStatus>, Status> {
                let (cluster, answered_by, nodes) = ("ours".to_owned(), self.node, self.state.lock().nodes.clone());
                let status = v1::ClusterStatus { cluster, answered_by, nodes, ..v1::ClusterStatus::default() };
                Ok(Response::new(status))
            }

            $(async fn $method(&self, _: Request<v1::$request>) -> Result<Response<v1::$answer>, Status> {
                Err(Status::unimplemented("not here"))
            })*
        }
    };
}

refused! {
    init_cluster(InitClusterRequest) -> ClusterStatus;
    add_node(AddNodeRequest) -> ClusterNode;
    remove_node(RemoveNodeRequest) -> RemoveNodeResponse;
    drain_node(DrainNodeRequest) -> ClusterNode;
    move_replica(MoveReplicaRequest) -> MoveReplicaResponse;
    rebalance(RebalanceRequest) -> RebalanceResponse;
    transfer_leader(TransferLeaderRequest) -> TransferLeaderResponse;
}
