//! Since when nodes answer, and since when they do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stratalog_proto::NodeId;

/// What one node knows of how the others answer it.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    nodes: BTreeMap<NodeId, Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    answers: bool,
    since: Instant,
}

impl Heard {
    /// A node answered, or did not. One that is new counts from now on.
    pub(super) fn note(&mut self, node: NodeId, answers: bool, now: Instant) {
        let line = self.nodes.entry(node).or_insert(Line { answers, since: now });
        if line.answers != answers {
            *line = Line { answers, since: now };
        }
    }

    /// Forgets nodes that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_there(*node));
    }

    /// Nodes that have not answered for so long.
    pub(super) fn lost(&self, after: Duration, now: Instant) -> BTreeSet<NodeId> {
        let lost = |line: &Line| !line.answers && now.saturating_duration_since(line.since) >= after;
        self.nodes.iter().filter(|(_, line)| lost(line)).map(|(node, _)| *node).collect()
    }

    /// Whether a node has answered for so long without a break.
    pub(super) fn is_steady(&self, node: NodeId, after: Duration, now: Instant) -> bool {
        let steady = |line: &Line| line.answers && now.saturating_duration_since(line.since) >= after;
        self.nodes.get(&node).is_some_and(steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_counts_from_its_beginning_and_ends_with_one_answer() {
        let (mut heard, start) = (Heard::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let node = NodeId(2);
        heard.note(node, true, at(0));
        heard.note(node, false, at(10));
        heard.note(node, false, at(15));
        let after = Duration::from_secs(10);
        assert!(heard.lost(after, at(19)).is_empty());
        assert_eq!(heard.lost(after, at(20)), BTreeSet::from([node]));
        heard.note(node, true, at(21));
        assert!(heard.lost(after, at(40)).is_empty());
        assert!(!heard.is_steady(node, after, at(30)) && heard.is_steady(node, after, at(31)));
        heard.keep(|_| false);
        assert!(!heard.is_steady(node, after, at(60)), "nothing is known of it");
    }
}
