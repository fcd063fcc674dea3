//! What an operator should know of a cluster as it is now.

use std::collections::{BTreeMap, BTreeSet};

use stratalog_proto::{NodeId, ShardId};

use super::status::{ClusterStatus, NodeState, ReplicaRole, ReplicaStatus, ShardStatus};
use crate::meta::named;

/// Whole sentences, the gravest first.
pub(super) fn warnings(status: &ClusterStatus) -> Vec<String> {
    let silent: BTreeSet<NodeId> = status.nodes.iter().filter(|node| !node.reachable).map(|node| node.node).collect();
    let mut warnings = Vec::new();
    warnings.extend(of_shards(status, lost, "has no replica any more: what it held is lost"));
    warnings.extend(of_shards(
        status,
        |shard| !lost(shard) && !is_new(shard) && !has_quorum(shard, &silent),
        "has no majority of voters that are reached: nothing can be written to it until they are back",
    ));
    warnings.extend(of_shards(status, is_new, "is new, and waits for one of its replicas to begin it"));
    warnings.extend(of_shards(
        status,
        |shard| has_quorum(shard, &silent) && shard.leader.is_none(),
        "has no leader at the moment",
    ));
    warnings.extend(doubted(status));
    for node in status.nodes.iter().filter(|node| !node.reachable) {
        let why = node.problem.as_deref().unwrap_or("nobody knows why");
        warnings.push(format!("Node {} does not answer: {why}.", node.node));
    }
    warnings.extend(of_shards(
        status,
        |shard| {
            let voters = voters(shard).count();
            voters > 0 && voters.is_multiple_of(2)
        },
        "has an even number of voters: it survives no more losses than with one voter less",
    ));
    warnings.extend(under_replicated(status));
    warnings.extend(incomplete(status));
    warnings.extend(mixed(status));
    warnings.extend(without_listener(status));
    warnings
}

/// One sentence about all shards that something is true of.
fn of_shards(status: &ClusterStatus, is_so: impl Fn(&ShardStatus) -> bool, what: &str) -> Option<String> {
    let shards: Vec<ShardId> = status.shards.iter().filter(|shard| is_so(shard)).map(|shard| shard.shard).collect();
    match shards.as_slice() {
        [] => None,
        [one] => Some(capital(&format!("{} {what}.", named(&[*one])))),
        many => Some(format!("Of {} each {what}.", named(many))),
    }
}

fn voters(shard: &ShardStatus) -> impl Iterator<Item = &ReplicaStatus> {
    // One that leaves votes until it has left; one that joins does not count on.
    shard.replicas.iter().filter(|replica| matches!(replica.role, ReplicaRole::Voter | ReplicaRole::Leaving))
}

fn lost(shard: &ShardStatus) -> bool {
    !shard.replicas.iter().any(|replica| replica.role != ReplicaRole::Learner)
}

/// Whether there are replicas, and none has a vote.
fn is_new(shard: &ShardStatus) -> bool {
    !lost(shard) && voters(shard).next().is_none()
}

fn has_quorum(shard: &ShardStatus, silent: &BTreeSet<NodeId>) -> bool {
    let (all, well) = (voters(shard).count(), voters(shard).filter(|voter| !silent.contains(&voter.node)).count());
    well > all / 2
}

/// Shards with fewer voters than were asked for: because there are too few nodes, or not yet.
fn under_replicated(status: &ClusterStatus) -> Option<String> {
    let active = status.nodes.iter().filter(|node| node.state == NodeState::Active).count();
    let is_short = |shard: &&ShardStatus| shard.shard.0 != 0 && voters(shard).count() < shard.replication as usize;
    let short: Vec<&ShardStatus> = status.shards.iter().filter(is_short).collect();
    let most = short.iter().map(|shard| shard.replication).max()?;
    // A cluster of one is what its owner began with.
    if status.nodes.len() == 1 {
        return None;
    }
    let shards: Vec<ShardId> = short.iter().map(|shard| shard.shard).collect();
    let why = if active < most as usize {
        format!("{most} copies need {most} active nodes, and there are {active}")
    } else {
        "replicas are joining, or are about to".to_owned()
    };
    Some(capital(&format!("{} has fewer copies than asked for: {why}.", subject(&shards))))
}

/// Nodes with replicas that do not vote, as they may have forgotten what they acknowledged.
fn doubted(status: &ClusterStatus) -> Vec<String> {
    let mut shards_of: BTreeMap<NodeId, Vec<ShardId>> = BTreeMap::new();
    for shard in &status.shards {
        for replica in shard.replicas.iter().filter(|replica| replica.in_doubt) {
            shards_of.entry(replica.node).or_default().push(shard.shard);
        }
    }
    let sentence = |(node, shards): (NodeId, Vec<ShardId>)| {
        format!(
            "Node {node} may have lost the end of its log: it does not vote in {} until a leader or the other voters have told \
             what they have.",
            named(&shards)
        )
    };
    shards_of.into_iter().map(sentence).collect()
}

/// Replicas that do not count yet, since files are on their way to them.
fn incomplete(status: &ClusterStatus) -> Option<String> {
    let replicas = status.shards.iter().flat_map(|shard| &shard.replicas);
    let missing: Vec<&ReplicaStatus> = replicas.filter(|replica| replica.missing_segments > 0).collect();
    let (files, bytes) = missing
        .iter()
        .fold((0, 0), |(files, bytes), replica| (files + replica.missing_segments, bytes + replica.missing_bytes));
    let count = missing.len();
    (count > 0).then(|| {
        format!("Replicas that lack segments, which they are fetching: {count} ({files} files, {bytes} bytes).")
    })
}

fn mixed(status: &ClusterStatus) -> Option<String> {
    let versions: BTreeSet<&str> = status.nodes.iter().map(|node| node.version.as_str()).collect();
    let versions: Vec<&str> = versions.into_iter().collect();
    let level = status.feature_level;
    (versions.len() > 1).then(|| {
        format!(
            "Nodes run different versions ({}): the cluster stays at feature level {level} until all run the newest.",
            versions.join(", ")
        )
    })
}

/// Listeners for Kafka clients that only some nodes have: their clients are sent to fewer nodes than there are.
fn without_listener(status: &ClusterStatus) -> Vec<String> {
    let names: BTreeSet<&String> = status.nodes.iter().flat_map(|node| node.kafka_listeners.keys()).collect();
    let sentence = |name: &String| {
        let without = status.nodes.iter().filter(|node| !node.kafka_listeners.contains_key(name));
        let nodes: Vec<String> = without.map(|node| node.node.to_string()).collect();
        (!nodes.is_empty()).then(|| {
            let (s, nodes) = (if nodes.len() == 1 { "" } else { "s" }, nodes.join(", "));
            format!(
                "Node{s} {nodes} without the Kafka listener {name}: its clients do not reach the groups that are coordinated there."
            )
        })
    };
    names.into_iter().filter_map(sentence).collect()
}

fn subject(shards: &[ShardId]) -> String {
    match shards {
        [one] => named(&[*one]),
        many => format!("each of {}", named(many)),
    }
}

fn capital(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
