//! Learning which nodes a cluster has from the one that answers, so that it may go down.

use std::sync::{Arc, Weak};
use std::time::Duration;

use stratalog_proto::v1;
use tokio::time::{sleep, timeout};

use crate::nodes::Nodes;

/// A client that is gone sooner needs no other node: looking at the cluster costs all of them a question.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Between looks at a node that belongs to no cluster, or to a cluster of one: the first, and the longest.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// How long a node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Asks until the nodes are known, or nobody needs them any more.
pub(crate) async fn learn(nodes: Weak<Nodes>) {
    sleep(FIRST_PAUSE).await;
    let mut pause = PAUSE;
    while let Some(here) = nodes.upgrade() {
        if here.learn(&addresses(&here).await) {
            return;
        }
        drop(here);
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
}

/// Where the nodes of the cluster are, as the current one says; none, if it does not.
async fn addresses(nodes: &Arc<Nodes>) -> Vec<String> {
    let mut cluster = nodes.current().cluster();
    let asked = timeout(ANSWER_WITHIN, cluster.get_cluster(v1::GetClusterRequest {})).await;
    let Ok(Ok(status)) = asked else { return Vec::new() };
    status.into_inner().nodes.into_iter().map(|node| node.grpc_address).collect()
}
