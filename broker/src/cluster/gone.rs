//! Leaders whose process has ended. The system at their end says so at once, by refusing connections: then nobody has to wait
//! as long as for a leader that may only be slow.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
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
    let mut looks = Looks::default();
    loop {
        let Some(node) = broker.upgrade() else { return };
        let silent = silent(&node);
        silent.iter().for_each(|(_, leader)| looks.look_at(&node, *leader));
        drop(node);
        let pause = sleep(if silent.is_empty() { LOOK_EVERY } else { LOOK_AGAIN });
        tokio::pin!(pause);
        while let Some(leader) = tokio::select! {
            () = &mut pause => None,
            leader = looks.next_gone() => Some(leader),
        } {
            stand(silent.iter().filter(|(_, of)| *of == leader).map(|(group, _)| group)).await;
        }
    }
}

/// Looks at nodes, one at each: a node that lets one wait does not hold up those at the others.
#[derive(Default)]
struct Looks {
    under_way: FuturesUnordered<BoxFuture<'static, (NodeId, bool)>>,
    at: BTreeSet<NodeId>,
}

impl Looks {
    /// Looks whether nobody listens at the address of a node, unless that is under way.
    fn look_at(&mut self, broker: &Broker, node: NodeId) {
        let Some(transport) = broker.nodes().transport() else { return };
        if self.at.insert(node) {
            self.under_way.push(transport.is_gone(node).map(move |gone| (node, gone)).boxed());
        }
    }

    /// The next of the nodes of which it turns out that nobody listens there.
    async fn next_gone(&mut self) -> NodeId {
        while let Some((node, is_gone)) = self.under_way.next().await {
            self.at.remove(&node);
            if is_gone {
                return node;
            }
        }
        std::future::pending().await
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

async fn stand(groups: impl Iterator<Item = &Arc<Group>>) {
    for group in groups {
        if let Err(error) = group.stand().await {
            tracing::debug!(shard = %group.log().shard(), %error, "a replica could not stand for election");
        }
    }
}
