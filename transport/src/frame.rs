//! What travels: a head, and buffers that it describes.

use bytes::Bytes;
use futures::stream::BoxStream;
use stratalog_proto::Error;

/// One message. Nothing is copied into one buffer on its way to the socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What the receiver reads first.
    pub head: Bytes,
    /// Buffers that the head describes.
    pub parts: Vec<Bytes>,
}

impl Frame {
    /// The most buffers beside the head.
    pub const MAX_PARTS: usize = 65_536;
    /// The most bytes of a frame, head and buffers together.
    pub const MAX_BYTES: usize = 64 << 20;

    /// A message without further buffers.
    pub fn head(head: impl Into<Bytes>) -> Self {
        Self { head: head.into(), parts: Vec::new() }
    }

    /// Bytes of head and buffers.
    pub fn bytes(&self) -> usize {
        self.head.len() + self.parts.iter().map(Bytes::len).sum::<usize>()
    }
}

/// Messages in their order; the first error ends them.
pub type Frames = BoxStream<'static, Result<Frame, CallError>>;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// It was certainly not done: the peer was not reached.
    #[error("{0}")]
    NotSent(String),
    /// Whether it was done is not known.
    #[error("{0}")]
    Unknown(String),
    /// The peer refused it, with this error.
    #[error("{0}")]
    Refused(Error),
}
