//! Nodes that clients are better not sent to: Kafka calls them fenced.

use std::collections::BTreeSet;
use std::time::Duration;

use stratalog_proto::NodeId;

use super::Broker;

/// Whoever has not answered a leader beside it for so long is away.
const AWAY_AFTER: Duration = Duration::from_secs(2);

impl Broker {
    /// The nodes that do not answer this one: no connection to them holds, or shards that are led here have heard nothing of them for
    /// two seconds. Nobody, while a majority of the cluster does not answer: then it is this node that is cut off, as likely as not.
    pub fn absent_nodes(&self) -> BTreeSet<NodeId> {
        let (me, view) = (self.nodes.me(), self.nodes.view());
        let mut away: BTreeSet<NodeId> = view.nodes.keys().copied().collect();
        away.retain(|node| *node != me && self.nodes.problem(*node).is_some());
        for shard in self.shards.all().into_iter().filter(|shard| self.router.leads(shard.id())) {
            let group = shard.group();
            let voters = view.shards.get(&shard.id()).into_iter().flat_map(|held| held.voters());
            let is_silent = |replica| group.follower(replica).is_some_and(|(_, _, silent)| silent >= AWAY_AFTER);
            away.extend(voters.filter(|(replica, node)| *node != me && is_silent(*replica)).map(|(_, node)| node));
        }
        unless_outnumbered(away, view.nodes.len())
    }
}

/// Nobody, if those who are left are no majority.
fn unless_outnumbered(away: BTreeSet<NodeId>, nodes: usize) -> BTreeSet<NodeId> {
    let left = nodes.saturating_sub(away.len());
    if 2 * left > nodes { away } else { BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_cut_off_says_of_nobody_that_it_is_away() {
        let away = |nodes: &[u64], of| {
            unless_outnumbered(nodes.iter().copied().map(NodeId).collect(), of)
                .iter()
                .map(|node| node.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(away(&[2], 3), [2]);
        assert_eq!(away(&[4, 5], 5), [4, 5]);
        for (nodes, of) in [(&[][..], 1), (&[2][..], 2), (&[2, 3][..], 3), (&[3, 4][..], 4)] {
            assert!(away(nodes, of).is_empty(), "{nodes:?} of {of}");
        }
    }
}
