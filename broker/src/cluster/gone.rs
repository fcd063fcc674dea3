//! Leaders whose process has ended. The system at their end says so at once, by refusing connections: then nobody has to wait
//! as long as for a leader that may only be slow.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use stratalog_proto::NodeId;
use tokio::time::sleep;

use crate::broker::Broker;
use crate::raft::Group;

/// Between two looks, as long as all leaders are heard of.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks at leaders that are silent.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Has the replicas here stand for election early where the leader is gone for certain.
pub(crate) async fn miss_leaders(broker: Weak<Broker>) {
    loop {
        let Some(node) = broker.upgrade() else { return };
        let silent = silent(&node);
        if !silent.is_empty() {
            let gone = gone(&node, silent.iter().map(|(_, leader)| *leader).collect()).await;
            stand(silent.iter().filter(|(_, leader)| gone.contains(leader)).map(|(group, _)| group)).await;
        }
        drop(node);
        sleep(if silent.is_empty() { LOOK_EVERY } else { LOOK_AGAIN }).await;
    }
}

/// Groups of this node whose leader was not heard of for a while, and the node that it is on.
fn silent(broker: &Broker) -> Vec<(Arc<Group>, NodeId)> {
    let view = broker.nodes().view();
    let groups = broker.shards().all().into_iter().map(|shard| Arc::clone(shard.group()));
    let all = groups.chain([Arc::clone(broker.meta().group())]);
    let silent = all.filter_map(|group| {
        let leader = view.node_of(group.log().shard(), group.silent_leader()?)?;
        Some((group, leader))
    });
    silent.collect()
}

/// Those of the nodes at whose address nobody listens.
async fn gone(broker: &Broker, nodes: BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let Some(transport) = broker.nodes().transport() else { return BTreeSet::new() };
    let looks = nodes.into_iter().map(|node| async move { transport.is_gone(node).await.then_some(node) });
    join_all(looks).await.into_iter().flatten().collect()
}

async fn stand(groups: impl Iterator<Item = &Arc<Group>>) {
    for group in groups {
        if let Err(error) = group.stand().await {
            tracing::debug!(shard = %group.log().shard(), %error, "a replica could not stand for election");
        }
    }
}
