//! Nodes that clients are better not sent to: Kafka calls them fenced. Each node asks all others over and over whether they are
//! there, whatever else there is to be said to them, and judges by their answers alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use stratalog_proto::NodeId;

use crate::broker::Broker;

/// Between two questions to a node that answers.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a node may take to answer.
const ASK_WAIT: Duration = Duration::from_secs(1);
/// Whoever has not answered for so long is away: one answer that is late does not make it so.
const AWAY_AFTER: Duration = Duration::from_secs(3);

/// Asks again and again, until the end of the broker.
pub(super) async fn listen_for_nodes(broker: Weak<Broker>) {
    loop {
        let Some(here) = broker.upgrade() else { return };
        ask(&here).await;
        drop(here);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(broker: &Arc<Broker>) {
    let (view, now) = (broker.nodes().view(), Instant::now());
    let others = || view.nodes.keys().copied().filter(|node| *node != broker.nodes().me());
    // Whoever answers says what it has of the metadata, which is little.
    let asked: BTreeMap<_, _> = others().map(|node| (node, vec![0])).collect();
    let states = broker.ask_states(asked, ASK_WAIT).await;
    let mut heard = broker.nodes().heard();
    heard.keep(|node| view.nodes.contains_key(&node));
    others().for_each(|node| heard.note(node, states.problem(node).is_none(), now));
}

impl Broker {
    /// The nodes that have not answered this one for three seconds. Nobody, while those that are left are no majority of the
    /// cluster: then it is this node that is cut off, as likely as not.
    pub fn absent_nodes(&self) -> BTreeSet<NodeId> {
        let away = self.nodes().heard().lost(AWAY_AFTER, Instant::now());
        unless_outnumbered(away, self.nodes().view().nodes.len())
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
