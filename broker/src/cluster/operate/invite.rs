//! Having a node join that belongs to no cluster yet.

use std::time::Duration;

use prost::Message;
use stratalog_proto::internal::InviteRequest;
use stratalog_proto::{Code, Error, NodeId};
use stratalog_transport::{CallError, Frame, Method};
use uuid::Uuid;

use crate::broker::Broker;
use crate::meta::ClusterView;

/// How long a node may take to answer an invitation.
const INVITE_WAIT: Duration = Duration::from_secs(5);
/// How long it may take to join.
const JOIN_WAIT: Duration = Duration::from_secs(30);
/// Addresses that a node is told; each is enough.
const MAX_SEEDS: usize = 8;

impl Broker {
    /// Asks the node at an address to join, and waits until the metadata knows it.
    pub(super) async fn invite(&self, address: &str) -> Result<NodeId, Error> {
        let transport = self.nodes().transport().ok_or_else(|| {
            let message = "this node has no listener for other nodes: set `cluster.listen`, and start it again";
            Error::new(Code::InvalidRequest, message)
        })?;
        let frame = Frame::head(InviteRequest { seeds: self.seeds() }.encode_to_vec());
        let asked = transport.call_address(address, Method::Invite, frame, INVITE_WAIT).await;
        let (peer, _) = asked.map_err(|error| refusal(address, error))?;
        self.joined(peer.identity.incarnation, address).await
    }

    /// Where nodes of the cluster are reached, this one first.
    fn seeds(&self) -> Vec<String> {
        let (view, me) = (self.meta().view(), self.nodes().me());
        let own = view.nodes.get(&me).into_iter();
        let others = view.nodes.iter().filter(|(node, _)| **node != me).map(|(_, node)| node);
        let known = own.chain(others).map(|node| node.peer_address.clone());
        known.filter(|address| !address.is_empty()).take(MAX_SEEDS).collect()
    }

    async fn joined(&self, incarnation: Uuid, address: &str) -> Result<NodeId, Error> {
        let mut views = self.meta().watch_view();
        let find = |view: &ClusterView| {
            view.nodes.iter().find(|(_, node)| node.incarnation == incarnation).map(|(node, _)| *node)
        };
        let mut found = None;
        let joined = views.wait_for(|view| {
            found = find(view);
            found.is_some()
        });
        let waited = tokio::time::timeout(JOIN_WAIT, joined).await.is_ok();
        found.filter(|_| waited).ok_or_else(|| {
            let message = format!(
                "the node at {address} was asked to join and has not done so in {JOIN_WAIT:?}; it goes on trying, and its \
                 log says why it could not"
            );
            Error::new(Code::Timeout, message)
        })
    }
}

fn refusal(address: &str, error: CallError) -> Error {
    match error {
        CallError::Refused(error) => error,
        CallError::NotSent(why) => Error::new(Code::Unavailable, format!("no node can be asked to join: {why}")),
        CallError::Unknown(why) => {
            let message = format!("the node at {address} did not answer, and may have been asked to join: {why}");
            Error::new(Code::Timeout, message)
        }
    }
}
