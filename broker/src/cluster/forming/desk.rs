//! What a node answers that belongs to no cluster yet.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use stratalog_proto::internal::InviteRequest;
use stratalog_proto::{Code, Error, bounded};
use stratalog_transport::{Frame, Frames, Identity, Method, Peer, PeerService};

use super::Forming;

/// Its answering side.
pub(super) struct Desk(Weak<Forming>);

impl Desk {
    pub(super) fn new(forming: &Arc<Forming>) -> Self {
        Self(Arc::downgrade(forming))
    }

    fn forming(&self) -> Result<Arc<Forming>, Error> {
        self.0.upgrade().ok_or_else(|| Error::new(Code::Unavailable, "the node is stopping"))
    }
}

#[async_trait]
impl PeerService for Desk {
    async fn call(&self, from: Peer, method: Method, frame: Frame) -> Result<Frame, Error> {
        match method {
            Method::Begin => {
                let Identity { incarnation, peer_address, .. } = from.identity;
                self.forming()?.let_begin(incarnation, &peer_address).map(|()| Frame::default())
            }
            Method::Invite => {
                let malformed =
                    |error| Error::new(Code::InvalidRequest, format!("an invitation cannot be read: {error}"));
                let invitation: InviteRequest =
                    bounded::decode(frame.head, bounded::MAX_OF_REQUEST).map_err(malformed)?;
                self.forming()?.add_seeds(&invitation.seeds)?;
                Ok(Frame::default())
            }
            _ => Err(not_formed()),
        }
    }

    async fn stream(&self, _from: Peer, _method: Method, _frames: Frames) -> Result<Frames, Error> {
        Err(not_formed())
    }
}

fn not_formed() -> Error {
    Error::new(Code::NotFormed, "this node belongs to no cluster yet")
}
