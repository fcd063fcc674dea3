//! Who begins a cluster, where several nodes are told to at once.
//!
//! A node that is to begin one claims that, says so to all nodes without a cluster that it knows, and decides. Each of them
//! lets one node begin at a time. Of two that begin together, the one with the smaller incarnation goes on: it refuses the
//! other one, which has said nothing to it before; the other one lets it, and its own claim is over. Once a node has decided
//! it lets nobody.

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
    own: Own,
    /// The node that was let begin, and when.
    other: Option<(Uuid, Instant)>,
}

/// What this node itself is about to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Own {
    #[default]
    Nothing,
    /// To begin a cluster, unless others are against it.
    Claimed,
    /// It begins one. For as long as the process runs: what it wrote of one may count, even if that failed.
    Decided,
}

/// This node is about to begin a cluster, for as long as it is held, or until another one was let.
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
                if known.own == Own::Nothing {
                    known.own = Own::Claimed;
                }
                Ok(Claim(self))
            }
        }
    }

    /// Another node is about to. If it goes before this one, this one's claim is over.
    ///
    /// # Errors
    /// [`Code::Conflict`]: this one has decided, or it is about to, or let a third one, and goes before it.
    pub(super) fn allow(&self, other: Uuid, now: Instant) -> Result<(), Error> {
        let mut known = self.known.lock();
        let rival = match known.own {
            Own::Decided => return Err(begins(self.own)),
            Own::Claimed => Some(self.own),
            Own::Nothing => known.let_begin(now),
        };
        if let Some(rival) = rival.filter(|rival| *rival < other) {
            return Err(begins(rival));
        }
        (known.own, known.other) = (Own::Nothing, Some((other, now)));
        Ok(())
    }
}

impl Claim<'_> {
    /// Nobody is against it: this node lets no other one begin from now on.
    ///
    /// # Errors
    /// [`Code::Conflict`]: it let another one meanwhile.
    pub(super) fn decide(self) -> Result<(), Error> {
        let mut known = self.0.known.lock();
        if known.own == Own::Nothing {
            return Err(begins(known.other.map_or(self.0.own, |(other, _)| other)));
        }
        known.own = Own::Decided;
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
        let mut known = self.0.known.lock();
        if known.own == Own::Claimed {
            known.own = Own::Nothing;
        }
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

    /// How many of two nodes begin, if `asks` of them know the other one, and each claims, asks it, and decides. The bits of
    /// `order` say whose turn it is.
    fn begun(asks: [bool; 2], order: u32) -> usize {
        let (nodes, now) = ([Beginning::new(id(1)), Beginning::new(id(2))], Instant::now());
        let (mut claims, mut steps, mut begun) = ([None, None], [0; 2], 0);
        for turn in 0..6 {
            let node = (order >> turn & 1) as usize;
            let claim = claims[node].take();
            claims[node] = match steps[node] {
                0 => nodes[node].claim(now).ok(),
                1 => claim.filter(|_| !asks[node] || nodes[1 - node].allow(nodes[node].own, now).is_ok()),
                _ => {
                    begun += usize::from(claim.is_some_and(|claim| claim.decide().is_ok()));
                    None
                }
            };
            steps[node] += 1;
        }
        begun
    }

    #[test]
    fn l1_of_two_nodes_of_which_one_knows_the_other_one_begins_a_cluster_whatever_the_order() {
        for asks in [[true, true], [true, false], [false, true]] {
            for order in (0..64_u32).filter(|order| order.count_ones() == 3) {
                assert_eq!(begun(asks, order), 1, "who asks: {asks:?}, in the order {order:06b}");
            }
        }
    }

    #[test]
    fn l1_a_node_that_has_decided_lets_nobody_however_long_it_takes() {
        let (node, now) = (Beginning::new(id(5)), Instant::now());
        node.claim(now).unwrap().decide().unwrap();
        for later in [Duration::ZERO, TURN, 100 * TURN] {
            assert_eq!(node.allow(id(1), now + later).unwrap_err().code, Code::Conflict);
        }
        node.claim(now + TURN).unwrap().decide().expect("what failed is tried again");
    }

    #[test]
    fn l1_a_claim_that_took_longer_than_its_turn_is_over_once_another_node_was_let() {
        let (slow, now) = (Beginning::new(id(5)), Instant::now());
        let claim = slow.claim(now).unwrap();
        slow.allow(id(3), now + TURN).unwrap();
        assert_eq!(claim.decide().unwrap_err().code, Code::Conflict);
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
