//! Whether the other side is who it has to be. Pure.

use stratalog_proto::{Code, Error, NodeId};
use uuid::Uuid;

use crate::{AddressBook, Identity};

/// Whom a connection is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whoever is there: only open methods are asked.
    Anyone,
    /// This node, of this incarnation as far as that is known.
    Node { node: NodeId, incarnation: Option<Uuid> },
}

impl Expected {
    pub(super) fn wire(self) -> u64 {
        match self {
            Expected::Anyone => 0,
            Expected::Node { node, .. } => node.0,
        }
    }
}

/// What the side that connected thinks of who is there. `address`: what was dialled.
pub(super) fn check_accepting(me: &Identity, it: &Identity, expected: Expected, address: &str) -> Result<(), Error> {
    let Expected::Node { node, incarnation } = expected else { return Ok(()) };
    if me.incarnation == it.incarnation {
        return Err(Error::new(Code::InvalidConfig, format!("{address} is this node itself, not node {node}")));
    }
    check_cluster(me, it, &format!("the node at {address}"))?;
    if it.node != node {
        let words = format!("at {address} is node {}, not node {node}: see its advertised address", it.node);
        return Err(Error::new(Code::Unauthenticated, words));
    }
    check_incarnation(it, incarnation)
}

/// What the side that was connected to thinks of who came. `to_node`: whom it means; 0: anyone.
pub(super) fn check_connecting(
    me: &Identity,
    it: &Identity,
    to_node: u64,
    book: &dyn AddressBook,
) -> Result<(), Error> {
    // Who asks whoever is there may find itself, and sees that.
    if to_node == 0 {
        return Ok(());
    }
    if me.incarnation == it.incarnation {
        let words = format!("this node has connected to itself: the address of node {to_node} leads to it");
        return Err(Error::new(Code::InvalidConfig, words));
    }
    check_cluster(me, it, &format!("node {}", it.node))?;
    if me.node.0 != to_node {
        let words = format!("this is node {}, not node {to_node}: see the advertised address of both", me.node);
        return Err(Error::new(Code::Unauthenticated, words));
    }
    if it.node == me.node {
        let words = format!("two nodes say that they are node {}; each needs an id of its own", me.node);
        return Err(Error::new(Code::Unauthenticated, words));
    }
    if book.is_removed(it.node) {
        return Err(removed(it.node));
    }
    check_incarnation(it, book.incarnation(it.node))
}

/// It knows the secret, and is no member any more.
fn removed(node: NodeId) -> Error {
    let words = format!(
        "node {node} was removed from the cluster, and its id is never used again. Stop it; with an empty data directory it \
         joins as a new node"
    );
    Error::new(Code::UnknownNode, words)
}

fn check_cluster(me: &Identity, it: &Identity, who: &str) -> Result<(), Error> {
    match (me.cluster, it.cluster) {
        (Some(mine), Some(its)) if mine == its => Ok(()),
        (Some(mine), Some(its)) => {
            let words = format!("{who} belongs to cluster {its}, this one to cluster {mine}");
            Err(Error::new(Code::WrongCluster, words))
        }
        (Some(mine), None) => {
            let words = format!("{who} does not belong to cluster {mine}, nor to any other; it has to join first");
            Err(Error::new(Code::NotFormed, words))
        }
        (None, _) => Err(Error::new(Code::NotFormed, "this node belongs to no cluster yet")),
    }
}

fn check_incarnation(it: &Identity, known: Option<Uuid>) -> Result<(), Error> {
    if known.is_none_or(|known| known == it.incarnation) {
        return Ok(());
    }
    let words = format!(
        "node {} comes with a new data directory: its data was wiped or replaced. Remove the node from the cluster, and \
         add it under a new id",
        it.node
    );
    Err(Error::new(Code::Unauthenticated, words))
}
