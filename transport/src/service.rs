//! What answers.

use async_trait::async_trait;
use stratalog_proto::Error;

use crate::{Frame, Frames, Identity, Method};

/// Who asks, as the handshake checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it said of itself.
    pub identity: Identity,
}

/// The answering side of a node. Implemented by the broker, and by a node that waits for a cluster.
#[async_trait]
pub trait PeerService: Send + Sync + 'static {
    /// Answers one message.
    ///
    /// # Errors
    /// The refusal, which the caller gets as [`CallError::Refused`](crate::CallError::Refused).
    async fn call(&self, from: Peer, method: Method, frame: Frame) -> Result<Frame, Error>;

    /// Answers messages by messages. Dropping the answers ends it.
    ///
    /// # Errors
    /// The refusal of the stream as a whole.
    async fn stream(&self, from: Peer, method: Method, frames: Frames) -> Result<Frames, Error>;
}
