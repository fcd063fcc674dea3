//! How far the groups are behind that are coordinated here.

use std::sync::Arc;

use stratalog_proto::{Offset, PartitionId, TopicId};

use crate::broker::Broker;
use crate::metrics::{Lag, MAX_LAGS};
use crate::shard::Shard;

/// Of each group that is coordinated here, and each partition that it has committed offsets of, if this node has a replica of
/// it; not of more than [`MAX_LAGS`] in all.
pub(crate) fn lags(broker: &Broker) -> Vec<Lag> {
    let led = broker.shards().all().into_iter().filter(|shard| broker.router().leads(shard.id()));
    let mut lags = Vec::new();
    for shard in led {
        let most = MAX_LAGS - lags.len();
        lags.extend(committed(&shard, most).into_iter().filter_map(|committed| lag_of(broker, committed)));
    }
    lags
}

type OfPartition = (String, TopicId, PartitionId, Offset);

fn committed(shard: &Arc<Shard>, most: usize) -> Vec<OfPartition> {
    shard.read(|state| {
        let offsets = state.groups().iter().flat_map(|(id, group)| {
            let offsets = group.offsets().iter();
            offsets.map(move |((topic, partition), of)| (id.clone(), *topic, *partition, of.offset))
        });
        offsets.take(most).collect()
    })
}

fn lag_of(broker: &Broker, (group, topic, partition, committed): OfPartition) -> Option<Lag> {
    let topic = broker.known_topic(topic)?;
    let shard = broker.shards().get(*topic.shards.get(partition.0 as usize)?)?;
    let end = shard.read(|state| Some(state.partition(topic.id, partition)?.high_watermark()))?;
    let (topic, records) = (topic.name.clone(), end.0.saturating_sub(committed.0));
    Some(Lag { group, topic, partition: partition.0, records })
}
