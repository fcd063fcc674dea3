//! The body of a request or an answer as messages.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use hyper::body::{Body, Incoming};
use tokio_util::sync::CancellationToken;

use crate::wire::{Decoder, Malformed, Message};
use crate::{CallError, Frame, Frames};

/// Why there is no further message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side does not keep to the protocol.
    #[error("the other side sent {0}")]
    Malformed(#[from] Malformed),
    /// The connection or the stream broke.
    #[error("the connection was lost: {0}")]
    Lost(hyper::Error),
}

/// What comes in. Read no further than it is asked for, so that the sender is held back.
pub(crate) struct Received {
    body: Incoming,
    decoder: Decoder,
    /// Of what was read, what is not decoded yet.
    rest: Bytes,
    /// Closes the connection, if its other end sends what is no frame (X1).
    close: CancellationToken,
}

impl Received {
    pub(crate) fn new(body: Incoming, close: CancellationToken) -> Self {
        Self { body, decoder: Decoder::new(), rest: Bytes::new(), close }
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, BodyError> {
        let next = self.read().await;
        if matches!(next, Err(BodyError::Malformed(_))) {
            self.close.cancel();
        }
        next
    }

    async fn read(&mut self) -> Result<Option<Message>, BodyError> {
        loop {
            if let Some(message) = self.decoder.take(&mut self.rest)? {
                return Ok(Some(message));
            }
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                None => return Ok(self.decoder.finish().map(|()| None)?),
                Some(Err(error)) => return Err(BodyError::Lost(error)),
                Some(Ok(piece)) => self.rest = piece.into_data().unwrap_or_default(),
            }
        }
    }

    /// The frames up to the end or the first error.
    pub(crate) fn into_frames(self) -> Frames {
        let next = |received: Option<Self>| async move {
            let mut received = received?;
            match received.next().await {
                Ok(None) => None,
                Ok(Some(Message::Frame(frame))) => Some((Ok(frame), Some(received))),
                Ok(Some(Message::Error(error))) => Some((Err(CallError::Refused(error)), None)),
                Err(error) => Some((Err(CallError::Unknown(error.to_string())), None)),
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    /// The only frame of a call.
    pub(crate) async fn into_frame(mut self) -> Result<Frame, CallError> {
        match self.next().await {
            Ok(Some(Message::Frame(frame))) => Ok(frame),
            Ok(Some(Message::Error(error))) => Err(CallError::Refused(error)),
            Ok(None) => Err(CallError::Unknown("the answer is empty".into())),
            Err(error) => Err(CallError::Unknown(error.to_string())),
        }
    }
}
