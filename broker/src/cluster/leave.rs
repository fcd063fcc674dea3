//! A node that is about to stop gives leadership to others, and is given none back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{NodeId, ReplicaId};

use super::states::States;
use crate::broker::Broker;
use crate::raft::Group;

/// How long a stop waits for others to take over what this node leads.
const HAND_OVER_WAIT: Duration = Duration::from_secs(3);
/// Nodes that are all told to stop at once have mostly heard of it by then, and say that they will not lead.
const ALL_TOLD: Duration = Duration::from_millis(100);
/// How long a node may take to say whether it may lead.
const ASK_WAIT: Duration = Duration::from_secs(1);

impl Broker {
    /// Has no replica of this node begin to lead any more, by vote or because somebody hands leadership to it.
    pub(crate) fn decline_to_lead(&self) {
        self.running_groups().iter().for_each(|group| group.leave());
    }

    /// Gives leadership to others, so that nobody has to find out that this node is gone. Nobody waits long for that.
    pub(crate) async fn hand_over(&self) {
        let led: Vec<Arc<Group>> =
            self.running_groups().into_iter().filter(|group| group.is_leader() && !group.is_alone()).collect();
        if led.is_empty() {
            return;
        }
        tokio::time::sleep(ALL_TOLD).await;
        let states = &self.ask_states(self.others(), ASK_WAIT).await;
        let handing = led.iter().map(|group| async move {
            let shard = group.log().shard();
            // Of those that are stopped with this one, some are gone already.
            let fit = states.fit(shard);
            let may_lead = |replica: ReplicaId| fit.contains(&replica);
            group.hand_over_to(may_lead).await.err().map(|error| (shard, error))
        });
        let all = tokio::time::timeout(HAND_OVER_WAIT, futures::future::join_all(handing));
        tokio::select! {
            biased;
            () = self.nobody_stays(states) => {
                tracing::info!(shards = led.len(), "no other node stays that could lead what this one led");
            }
            handed = all => match handed {
                Ok(kept) => kept.into_iter().flatten().for_each(|(shard, error)| {
                    tracing::warn!(%shard, %error, "leadership was not handed over before the stop");
                }),
                Err(_) => tracing::warn!(
                    "leadership was not handed over in {HAND_OVER_WAIT:?}; the others find out by themselves"
                ),
            },
        }
    }

    /// Waits until no other node may lead, if that comes to be: who stops all nodes is neither to wait for the last, nor to be
    /// warned of it.
    async fn nobody_stays(&self, states: &States) {
        let mut somebody_may = states.somebody_may_lead();
        while somebody_may {
            tokio::time::sleep(ALL_TOLD).await;
            somebody_may = self.ask_states(self.others(), ASK_WAIT).await.somebody_may_lead();
        }
    }

    /// The other nodes, to be asked for all their replicas.
    fn others(&self) -> BTreeMap<NodeId, Vec<u32>> {
        let (view, me) = (self.nodes().view(), self.nodes().me());
        view.nodes.keys().filter(|node| **node != me).map(|node| (*node, Vec::new())).collect()
    }

    /// Those of all replicas that run here.
    fn running_groups(&self) -> Vec<Arc<Group>> {
        let shards = self.shards().all();
        shards.iter().map(|shard| shard.group()).chain([self.meta().group()]).cloned().collect()
    }
}
