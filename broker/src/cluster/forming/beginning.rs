//! Who begins a cluster, where several nodes are told to at once.
//!
//! A node that is to begin one says so to all nodes without a cluster that it knows, and each of them lets one node begin at
//! a time. Of two that begin together, the one with the smaller incarnation goes on: it refuses the other one, which has
//! said nothing to it before, and the other one lets it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_proto::{Code, Error};
use uuid::Uuid;

/// How long a node that was let begin may take to do so. It asks others for less than that.
const TURN: Duration = Duration::from_secs(15);

/// What a node knows of it.
pub(super) struct Beginning {
    own: Uuid,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// This node is about to begin a cluster.
    is_own: bool,
    /// The node that was let begin, and when.
    other: Option<(Uuid, Instant)>,
}

/// This node is about to begin a cluster, for as long as it is held.
pub(super) struct Claim<'a>(&'a Beginning);

impl Beginning {
    /// Of a node with this incarnation.
    pub(super) fn new(own: Uuid) -> Self {
        Self { own, known: Mutex::default() }
    }

    /// This node is about to begin a cluster.
    ///
    /// # Errors
    /// [`Code::Conflict`]: it let another one.
    pub(super) fn claim(&self, now: Instant) -> Result<Claim<'_>, Error> {
        let mut known = self.known.lock();
        match known.let_begin(now) {
            Some(other) => Err(begins(other)),
            None => {
                known.is_own = true;
                Ok(Claim(self))
            }
        }
    }

    /// Another node is about to.
    ///
    /// # Errors
    /// [`Code::Conflict`]: this one is, or let a third one, and goes before it.
    pub(super) fn allow(&self, other: Uuid, now: Instant) -> Result<(), Error> {
        let mut known = self.known.lock();
        let rival = if known.is_own { Some(self.own) } else { known.let_begin(now) };
        if let Some(rival) = rival.filter(|rival| *rival < other) {
            return Err(begins(rival));
        }
        known.other = Some((other, now));
        Ok(())
    }
}

impl Known {
    /// The node whose turn it is.
    fn let_begin(&self, now: Instant) -> Option<Uuid> {
        self.other.filter(|(_, since)| now.saturating_duration_since(*since) < TURN).map(|(other, _)| other)
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.known.lock().is_own = false;
    }
}

fn begins(node: Uuid) -> Error {
    let message = format!("the node with the incarnation {node} begins one at this moment, and this one joins it");
    Error::new(Code::Conflict, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u128) -> Uuid {
        Uuid::from_u128(id)
    }

    /// Whether each of two nodes begins, if each claims and asks the other one in this order of steps.
    fn begun(order: &[(usize, bool)]) -> [bool; 2] {
        let (nodes, now) = ([Beginning::new(id(1)), Beginning::new(id(2))], Instant::now());
        let (mut claims, mut begins) = ([None, None], [false; 2]);
        for (node, asks) in order {
            match asks {
                false => claims[*node] = nodes[*node].claim(now).ok(),
                true => {
                    begins[*node] = claims[*node].is_some() && nodes[1 - *node].allow(nodes[*node].own, now).is_ok()
                }
            }
        }
        begins
    }

    #[test]
    fn l1_of_two_nodes_that_begin_a_cluster_one_does_whatever_the_order() {
        let (claim, ask) = (false, true);
        for one in [0, 1] {
            let other = 1 - one;
            let mut alone = [false; 2];
            alone[one] = true;
            assert_eq!(begun(&[(one, claim), (one, ask), (other, claim), (other, ask)]), alone, "the first");
            for order in [
                [(one, claim), (other, claim), (one, ask), (other, ask)],
                [(one, claim), (other, claim), (other, ask), (one, ask)],
            ] {
                assert_eq!(begun(&order), [true, false], "the smaller one: {order:?}");
            }
        }
    }

    #[test]
    fn a_node_that_was_let_begin_and_did_not_keeps_nobody_back() {
        let (node, now) = (Beginning::new(id(5)), Instant::now());
        node.allow(id(3), now).unwrap();
        assert_eq!(node.claim(now).err().unwrap().code, Code::Conflict);
        assert_eq!(node.allow(id(4), now).unwrap_err().code, Code::Conflict);
        node.allow(id(3), now).unwrap();
        node.allow(id(2), now).unwrap();
        assert!(node.claim(now + TURN).is_ok());
        node.allow(id(4), now + TURN).unwrap();
    }
}
