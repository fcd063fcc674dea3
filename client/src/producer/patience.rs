//! How long a node may owe an answer.

use std::time::{Duration, Instant};

/// At first, where another node could answer.
const FIRST: Duration = Duration::from_secs(2);
/// After so long without a node that took too long, the first patience is enough again.
const FORGET: Duration = Duration::from_secs(60);

/// How long the oldest request may be without an answer before its node counts as lost, whatever the connection says: one
/// that is cut off from the others is alive, and acknowledges nothing.
///
/// Where the log is only slow, no node is faster than the others. So the patience doubles once all of them took longer, until a
/// record is acknowledged in less than the first patience: then it was the node. A link that is cut in one direction may make two
/// nodes slow.
#[derive(Debug)]
pub(super) struct Patience {
    now: Duration,
    most: Duration,
    nodes: usize,
    /// Nodes that took longer than this patience.
    slow: usize,
    /// When it ended last.
    ended: Option<Instant>,
}

impl Patience {
    /// Without another of so many nodes to ask there is nothing to gain; `most` is the longest that it makes sense to wait.
    pub(super) fn new(nodes: usize, most: Duration) -> Self {
        let now = if nodes > 1 { FIRST.min(most) } else { most };
        Self { now, most, nodes, slow: 0, ended: None }
    }

    /// How long a request may be without an answer.
    pub(super) fn length(&self) -> Duration {
        self.now
    }

    /// A node has taken longer than that.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ended = Some(now);
        self.slow += 1;
        if self.slow >= self.nodes {
            (self.now, self.slow) = ((self.now * 2).min(self.most), 0);
        }
    }

    /// A node has answered what was sent so long ago; `acked`: with an acknowledgement.
    pub(super) fn answered(&mut self, now: Instant, took: Duration, acked: bool) {
        let is_fast = acked && took < FIRST;
        if self.ended.is_some_and(|at| is_fast || now.duration_since(at) > FORGET) {
            (self.now, self.slow, self.ended) = (FIRST.min(self.most), 0, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(31);

    #[test]
    fn patience_doubles_when_all_nodes_are_slow_and_is_forgotten() {
        let (mut patience, start) = (Patience::new(2, MOST), Instant::now());
        let lengths = [(); 10].map(|()| {
            patience.ended(start);
            patience.length().as_secs()
        });
        assert_eq!(lengths, [2, 4, 4, 8, 8, 16, 16, 31, 31, 31]);
        patience.answered(start + FORGET, FIRST, true);
        assert_eq!(patience.length(), MOST);
        patience.answered(start + FORGET + Duration::from_millis(1), FIRST, true);
        assert_eq!(patience.length(), FIRST);
    }

    #[test]
    fn a_node_that_acknowledges_in_time_tells_that_the_one_before_it_was_slow_and_not_the_log() {
        let (mut patience, start) = (Patience::new(2, MOST), Instant::now());
        let fast = FIRST - Duration::from_millis(1);
        (0..2).for_each(|_| patience.ended(start));
        patience.answered(start, fast, false);
        patience.answered(start, FIRST, true);
        assert_eq!(patience.length(), 2 * FIRST, "a refusal says nothing of the log, nor does a late answer");
        patience.answered(start, fast, true);
        assert_eq!(patience.length(), FIRST);
    }

    #[test]
    fn the_only_node_is_waited_for() {
        let mut patience = Patience::new(1, MOST);
        patience.ended(Instant::now());
        assert_eq!(patience.length(), MOST);
    }
}
