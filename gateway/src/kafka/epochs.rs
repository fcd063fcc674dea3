//! Leader epochs (KIP-320): what clients believe of who leads, against what is known here.
//!
//! An epoch is a term of the shard's Raft group that had a leader. Any node answers for any partition, so that a client whose
//! epoch is old would be answered as well; it is told all the same, as by Kafka, since that is how it hears of a new leader. A
//! client may have heard of one before the node that it asks: then the node asks the others before it says that it knows of none.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use futures::future::join_all;
use kafka_protocol::ResponseError;
use stratalog_proto::{ShardId, Term};
use stratalog_query::TopicInfo;

use super::Node;

/// An epoch as Kafka's clients know it.
pub(super) fn number(epoch: Term) -> i32 {
    i32::try_from(epoch.0).unwrap_or(i32::MAX)
}

/// What a client is told that claims an epoch; `None`: nothing.
pub(super) fn verdict(known: Option<Term>, claimed: i32) -> Option<ResponseError> {
    // A negative epoch is none. Where no epoch is known, nobody leads: that is told by whatever else is asked.
    let known = known.filter(|_| claimed >= 0).map(number)?;
    match claimed.cmp(&known) {
        Ordering::Less => Some(ResponseError::FencedLeaderEpoch),
        Ordering::Equal => None,
        Ordering::Greater => Some(ResponseError::UnknownLeaderEpoch),
    }
}

/// The partitions of a topic, with the epochs that are claimed of them, that are refused for these.
pub(super) async fn refused(
    node: &Node,
    topic: &TopicInfo,
    claims: impl Iterator<Item = (i32, i32)> + Clone,
) -> BTreeMap<i32, ResponseError> {
    let shard_of = |index: i32| topic.shards.get(usize::try_from(index).ok()?).copied();
    let mut newest: BTreeMap<ShardId, u64> = BTreeMap::new();
    for (index, claimed) in claims.clone() {
        if let (Some(shard), Ok(claimed)) = (shard_of(index), u64::try_from(claimed)) {
            let before = newest.entry(shard).or_insert(claimed);
            *before = claimed.max(*before);
        }
    }
    let broker = &node.shared.broker;
    let look =
        |(shard, claimed): (ShardId, u64)| async move { (shard, broker.leader_epoch(shard, Term(claimed)).await) };
    let known: BTreeMap<ShardId, Option<Term>> = join_all(newest.into_iter().map(look)).await.into_iter().collect();
    let refusal = |(index, claimed): (i32, i32)| {
        let known = *known.get(&shard_of(index)?)?;
        Some((index, verdict(known, claimed)?))
    };
    claims.filter_map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_told_to_be_old_or_not_known_and_none_is_never_wrong() {
        let told = |known: u64, claimed| verdict(Some(Term(known)), claimed);
        assert_eq!(told(5, 4), Some(ResponseError::FencedLeaderEpoch));
        assert_eq!(told(5, 5), None);
        assert_eq!(told(5, 6), Some(ResponseError::UnknownLeaderEpoch));
        assert_eq!([told(5, -1), told(5, i32::MIN), verdict(None, 7)], [None; 3]);
        assert_eq!(told(u64::MAX, i32::MAX), None, "what batches say of a term that is too large");
    }
}
