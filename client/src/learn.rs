//! Learning which nodes a cluster has from the one that answers, so that it may go down.
//!
//! An address that a node tells is one among the nodes. Here it may lead nowhere, or, through a tunnel, to a node of another
//! cluster: only one at which the very node answers, as one of the same cluster, is gone on with.

use std::sync::Weak;
use std::time::Duration;

use futures::future::join_all;
use stratalog_proto::v1::{ClusterNode, ClusterStatus, GetClusterRequest};
use tokio::time::{sleep, timeout};

use crate::nodes::{Node, Nodes};

/// A client that is gone sooner needs no other node: looking at the cluster costs all of them a question.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between looks as long as not all nodes are found, or there is but one: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// How long a node may take to be connected to.
const CONNECTED_WITHIN: Duration = Duration::from_secs(1);
/// How long it may take to answer: it asks the others itself, and waits two seconds for one that is silent.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Looks until all nodes are known, or nobody needs them any more.
pub(crate) async fn learn(nodes: Weak<Nodes>) {
    sleep(FIRST_PAUSE).await;
    let mut pause = PAUSE;
    while let Some(here) = nodes.upgrade() {
        if look(&here).await {
            return;
        }
        drop(here);
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

/// Adds the nodes that the current one tells of and that are found. Whether none is left to find: a cluster of one may yet
/// grow.
async fn look(nodes: &Nodes) -> bool {
    let Some(status) = status_of(nodes.current()).await else { return false };
    let unknown = unknown(&status, nodes);
    let found = join_all(unknown.iter().map(|told| found(told, &status.cluster))).await;
    let all_found = found.iter().all(Option::is_some);
    found.into_iter().flatten().for_each(|node| nodes.add(node));
    nodes.room() == 0 || (all_found && status.nodes.len() > 1 && !status.cluster.is_empty())
}

/// The nodes that are told of and not known, as many as there is room for. The one that tells is known by its address here.
fn unknown<'a>(status: &'a ClusterStatus, nodes: &Nodes) -> Vec<&'a ClusterNode> {
    let is_unknown = |told: &&ClusterNode| {
        told.node != status.answered_by && !told.grpc_address.is_empty() && !nodes.knows(&told.grpc_address)
    };
    status.nodes.iter().filter(is_unknown).take(nodes.room()).collect()
}

/// The node that is told of, if it answers where it is said to be.
pub(crate) async fn found(told: &ClusterNode, cluster: &str) -> Option<Node> {
    let node = timeout(CONNECTED_WITHIN, Node::at(&told.grpc_address)).await.ok()??;
    let answer = status_of(&node).await?;
    is_that_node(&answer, told, cluster).then_some(node)
}

fn is_that_node(answer: &ClusterStatus, told: &ClusterNode, cluster: &str) -> bool {
    !cluster.is_empty() && answer.cluster == cluster && answer.answered_by == told.node
}

/// The cluster as a node sees it; `None` if it does not say.
pub(crate) async fn status_of(node: &Node) -> Option<ClusterStatus> {
    let mut cluster = node.cluster();
    let answer = timeout(ANSWER_WITHIN, cluster.get_cluster(GetClusterRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use stratalog_proto::v1;
    use stratalog_proto::v1::cluster_server::{Cluster, ClusterServer};
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;
    use tonic::{Request, Response, Status};

    use super::*;

    /// A node that answers what it is asked of its cluster, and nothing else.
    struct Told(ClusterStatus);

    macro_rules! refused {
        ($($method:ident($request:ident) -> $answer:ident;)*) => {
            #[tonic::async_trait]
            impl Cluster for Told {
                async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Result<Response<ClusterStatus>, Status> {
                    Ok(Response::new(self.0.clone()))
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

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn serve(listener: TcpListener, cluster: &str, node: u64, nodes: &[(u64, SocketAddr)]) {
        let told = |(node, address): &(u64, SocketAddr)| ClusterNode {
            node: *node,
            grpc_address: address.to_string(),
            ..ClusterNode::default()
        };
        let nodes = nodes.iter().map(told).collect();
        let status =
            ClusterStatus { cluster: cluster.to_owned(), answered_by: node, nodes, ..ClusterStatus::default() };
        let service = ClusterServer::new(Told(status));
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
    }

    #[tokio::test]
    async fn only_nodes_that_answer_as_those_of_the_cluster_are_learned() {
        let (asked, given) = listener().await;
        let (second, there) = listener().await;
        let (foreign, elsewhere) = listener().await;
        let (gone, nowhere) = listener().await;
        drop(gone);
        // The one that is asked is known by where it was found. One address is that of another node than it is said to be.
        serve(asked, "ours", 1, &[(1, nowhere), (2, there), (3, elsewhere), (4, nowhere), (5, there)]);
        serve(second, "ours", 2, &[]);
        serve(foreign, "theirs", 3, &[]);
        let nodes = Nodes::connect(&[&given.to_string()]).await.unwrap();
        assert!(!look(&nodes).await, "some are not found");
        assert!(nodes.knows(&there.to_string()));
        assert_eq!(nodes.count(), 2);
        look(&nodes).await;
        assert_eq!(nodes.count(), 2, "nothing twice");
    }

    #[tokio::test]
    async fn the_search_ends_when_all_are_found_and_not_before_there_is_a_cluster() {
        for (cluster, is_over) in [("ours", true), ("", false)] {
            let (asked, given) = listener().await;
            let (second, there) = listener().await;
            serve(asked, cluster, 1, &[(1, given), (2, there)]);
            serve(second, cluster, 2, &[]);
            let nodes = Nodes::connect(&[&given.to_string()]).await.unwrap();
            assert_eq!(look(&nodes).await, is_over);
            assert_eq!(nodes.count(), if is_over { 2 } else { 1 });
        }
    }
}
