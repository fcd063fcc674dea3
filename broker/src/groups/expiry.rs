//! Offsets that nobody needs any more: of groups that had no members for long, and of topics that are gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use stratalog_proto::entry::Command;
use stratalog_proto::{Error, PartitionId, Term, TopicId, internal};

use super::place_of;
use crate::broker::Broker;
use crate::idle::tick;
use crate::outcome::is_overtaken;
use crate::shard::Shard;

/// Looks now and then, in every shard that this node leads, for as long as it runs.
pub(crate) async fn expire_offsets(broker: Weak<Broker>) {
    loop {
        let Some(every) = broker.upgrade().map(|broker| broker.coordinators().options().expire_every) else { return };
        tick(every).await;
        let Some(broker) = broker.upgrade() else { return };
        match expire(&broker).await {
            Err(error) if !is_overtaken(&error) => {
                tracing::warn!(%error, "offsets of groups that are to go stay for now");
            }
            _ => {}
        }
    }
}

async fn expire(broker: &Broker) -> Result<(), Error> {
    forget_topics(broker).await?;
    let before_ns = before_ns(broker.coordinators().options().offsets_retention);
    let expired = |shard: &Shard| {
        shard.read(|state| {
            let groups = state.groups().iter().filter(|(_, group)| group.expired(before_ns).is_some());
            groups.map(|(id, _)| id.clone()).collect()
        })
    };
    for (shard, term, groups) in broker.coordinators().at_rest(expired) {
        for group in groups {
            expire_of(&shard, term, group, before_ns).await?;
        }
    }
    Ok(())
}

async fn expire_of(shard: &Shard, term: Term, group: String, before_ns: i64) -> Result<(), Error> {
    let expired = shard.read(|state| state.groups().get(&group)?.expired(before_ns));
    let Some(expired) = expired else { return Ok(()) };
    tracing::info!(group, offsets = expired.len(), "a group had no members for long: its offsets go");
    let offsets = expired.into_iter().map(place_of).collect();
    let command = internal::ExpireOffsets { group, before_ns, offsets };
    shard.propose_in(term, Command::ExpireOffsets(command)).await.map(drop)
}

/// Has groups forget the topics that the metadata does not have. A topic is there before anybody commits offsets of it.
async fn forget_topics(broker: &Broker) -> Result<(), Error> {
    let led = broker.coordinators().at_rest(|_| Vec::new());
    let of_shard = |shard: &Shard| -> BTreeSet<TopicId> {
        let places = |state: &crate::shard::ShardState| {
            state.groups().iter().flat_map(|(_, group)| group.offsets().keys().map(|(topic, _)| *topic)).collect()
        };
        shard.read(places)
    };
    let with_topics = |(shard, term, _): (Arc<Shard>, Term, Vec<String>)| {
        let topics = of_shard(&shard);
        (shard, term, topics)
    };
    let named: Vec<_> = led.into_iter().map(with_topics).collect();
    if named.iter().flat_map(|(_, _, topics)| topics).all(|topic| broker.known_topic(*topic).is_some()) {
        return Ok(());
    }
    // Afterwards: what was named before is known now, unless it was deleted.
    broker.catch_up_with_meta().await?;
    let known: HashSet<TopicId> = broker.meta().topics().iter().map(|topic| topic.id).collect();
    for (shard, term, topics) in named {
        let gone: BTreeSet<TopicId> = topics.into_iter().filter(|topic| !known.contains(topic)).collect();
        for (group, places) in places_of(&shard, &gone) {
            let offsets = places.into_iter().map(place_of).collect();
            let command = internal::DeleteOffsets { group, offsets };
            shard.propose_in(term, Command::DeleteOffsets(command)).await?;
        }
    }
    Ok(())
}

/// What groups have committed of these topics.
fn places_of(shard: &Shard, topics: &BTreeSet<TopicId>) -> BTreeMap<String, Vec<(TopicId, PartitionId)>> {
    if topics.is_empty() {
        return BTreeMap::new();
    }
    shard.read(|state| {
        let of_group = |group: &crate::shard::Group| -> Vec<_> {
            group.offsets().keys().filter(|(topic, _)| topics.contains(topic)).copied().collect()
        };
        let groups = state.groups().iter().map(|(id, group)| (id.clone(), of_group(group)));
        groups.filter(|(_, places)| !places.is_empty()).collect()
    })
}

/// The time that is so long ago.
fn before_ns(retention: Duration) -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.saturating_sub(retention).as_nanos()).unwrap_or_default()
}
