//! Has the shards that are led here host exactly the topics that the metadata says.
//!
//! Whoever creates, changes or deletes a topic has its shards follow; this makes good what was cut short. It acts only on
//! what differs both before and after the metadata here has caught up: what a shard hosted before is known to the metadata
//! after, unless it was deleted. A topic that comes meanwhile would look like one that is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use stratalog_proto::{Error, RaftIndex, ShardId, TopicId};
use stratalog_query::TopicInfo;
use tokio::sync::watch;

use crate::broker::Broker;
use crate::meta::{partitions_by_shard, put_topic, remove_topic};
use crate::shard::{Shard, ShardState};

/// Without a sign that something changed. Also how long a change that was cut short may stay so.
const ROUND: Duration = Duration::from_secs(10);

/// Whoever changed a topic has its shards follow meanwhile.
const SETTLE: Duration = Duration::from_millis(500);

/// What a shard is to host: each topic, and which of its partitions.
type Wanted = BTreeMap<TopicId, (Arc<TopicInfo>, Vec<u32>)>;

/// What makes a shard host what it is to host.
#[derive(Debug, Default, PartialEq)]
struct Difference {
    put: Vec<(Arc<TopicInfo>, Vec<u32>)>,
    remove: Vec<TopicId>,
}

impl Difference {
    /// What of it there was before, too, and just so: settings that changed meanwhile are put by who changed them.
    fn that_was(mut self, before: &Self) -> Self {
        self.put.retain(|put| before.put.contains(put));
        self.remove.retain(|topic| before.remove.contains(topic));
        self
    }
}

/// Looks at every shard that is led here, now and then and whenever a topic has changed.
pub(crate) async fn host(broker: Weak<Broker>) {
    let Some(mut applied) = broker.upgrade().map(|broker| broker.meta().watch_applied()) else { return };
    loop {
        let Some(node) = broker.upgrade() else { return };
        let seen = node.topics_version();
        if let Err(error) = round(&node).await {
            tracing::debug!(%error, "shards may not host all topics yet; it is tried again");
        }
        drop(node);
        tokio::select! {
            goes_on = changed(&broker, &mut applied, seen) => match goes_on {
                true => tokio::time::sleep(SETTLE).await,
                false => return,
            },
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// Waits until the metadata has applied a change of a topic since that version: most of what it applies is none, and what
/// shards are to host is much to work out. `false`: the node is gone.
async fn changed(broker: &Weak<Broker>, applied: &mut watch::Receiver<RaftIndex>, seen: u64) -> bool {
    loop {
        match broker.upgrade().map(|node| node.topics_version()) {
            Some(version) if version == seen => {}
            Some(_) => return true,
            None => return false,
        }
        if applied.changed().await.is_err() {
            return false;
        }
    }
}

async fn round(broker: &Broker) -> Result<(), Error> {
    let before = differences(broker);
    if before.is_empty() {
        return Ok(());
    }
    broker.catch_up_with_meta().await?;
    for (shard, difference) in differences(broker) {
        if let Some((_, seen)) = before.iter().find(|(other, _)| other.id() == shard.id()) {
            heal(&shard, difference.that_was(seen)).await?;
        }
    }
    Ok(())
}

/// The shards that are led here and do not host what the metadata of this node says.
fn differences(broker: &Broker) -> Vec<(Arc<Shard>, Difference)> {
    let led: Vec<_> = broker.shards().all().into_iter().filter(|shard| shard.watch_role().borrow().leads).collect();
    if led.is_empty() {
        return Vec::new();
    }
    let (wanted, nothing) = (wanted(&broker.meta().topics()), Wanted::new());
    let differs = |shard: Arc<Shard>| {
        let wanted = wanted.get(&shard.id()).unwrap_or(&nothing);
        let difference = shard.read(|state| difference(state, wanted));
        (difference != Difference::default()).then_some((shard, difference))
    };
    led.into_iter().filter_map(differs).collect()
}

async fn heal(shard: &Shard, Difference { put, remove }: Difference) -> Result<(), Error> {
    for (topic, partitions) in put {
        shard.propose(put_topic(&topic, partitions)).await?;
        tracing::debug!(shard = %shard.id(), topic = topic.name, "a shard hosts a topic as the metadata says");
    }
    for topic in remove {
        shard.propose(remove_topic(topic)).await?;
        tracing::debug!(shard = %shard.id(), %topic, "a shard forgot a topic that was deleted");
    }
    Ok(())
}

/// What each shard is to host.
fn wanted(topics: &[Arc<TopicInfo>]) -> BTreeMap<ShardId, Wanted> {
    let mut wanted = BTreeMap::<ShardId, Wanted>::new();
    for topic in topics {
        for (shard, partitions) in partitions_by_shard(topic) {
            wanted.entry(shard).or_default().insert(topic.id, (Arc::clone(topic), partitions));
        }
    }
    wanted
}

fn difference(state: &ShardState, wanted: &Wanted) -> Difference {
    let missing = wanted.values().filter(|(topic, partitions)| !state.hosts(topic.id, &topic.config, partitions));
    let put = missing.cloned().collect();
    let remove = state.topics().map(|(topic, _)| topic).filter(|topic| !wanted.contains_key(topic)).collect();
    Difference { put, remove }
}

#[cfg(test)]
mod tests {
    use stratalog_proto::TenantId;
    use stratalog_proto::config::TopicConfig;

    use super::*;

    fn topic(id: TopicId, max_message_bytes: u32) -> Arc<TopicInfo> {
        let config = TopicConfig { max_message_bytes, ..TopicConfig::default() };
        let (name, shards) = ("t".to_owned(), vec![ShardId(1)]);
        Arc::new(TopicInfo { id, tenant: TenantId(0), name, partitions: 1, config, shards })
    }

    #[test]
    fn only_what_differs_in_the_same_way_at_both_looks_is_made_good() {
        let (same, altered, gone, new) = (TopicId::new(), TopicId::new(), TopicId::new(), TopicId::new());
        let before =
            Difference { put: vec![(topic(same, 1), vec![0]), (topic(altered, 1), vec![0])], remove: vec![gone] };
        let now = Difference {
            put: vec![(topic(same, 1), vec![0]), (topic(altered, 2), vec![0]), (topic(new, 1), vec![0])],
            remove: vec![gone, new],
        };
        let expected = Difference { put: vec![(topic(same, 1), vec![0])], remove: vec![gone] };
        assert_eq!(now.that_was(&before), expected);
    }
}
