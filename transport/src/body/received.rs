//! The body of a request or an answer as messages.

use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use hyper::body::{Body, Frame as BodyFrame, Incoming};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::intake::{FREE_BYTES, Intake, Room};
use crate::wire::{Decoder, Malformed, Message};
use crate::{CallError, Frame, Frames};

type Piece = Result<BodyFrame<Bytes>, hyper::Error>;

/// Why there is no further message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side does not keep to the protocol.
    #[error("the other side sent {0}")]
    Malformed(#[from] Malformed),
    /// The connection or the stream broke.
    #[error("the connection was lost: {0}")]
    Lost(hyper::Error),
    /// Too much of others is on its way in.
    #[error("there was no room for a message of {0} bytes: too many large ones come in at the same time")]
    NoRoom(usize),
    /// The other side fell silent.
    #[error("the other side stopped in the middle of a message")]
    Stopped,
}

/// What comes in. Read no further than it is asked for, so that the sender is held back.
pub(crate) struct Received {
    body: Incoming,
    decoder: Decoder,
    /// Of what was read, what is not decoded yet.
    rest: Bytes,
    /// Closes the connection, if its other end sends what is no frame (X1).
    close: CancellationToken,
    intake: Intake,
    /// For the frame that is being received; for the one that was given out last, if that is `worked_on`.
    room: Option<Room>,
    /// Frames count until the next one is asked for: requests do. Of answers, the one who asked bounds how many it keeps.
    worked_on: bool,
}

impl Received {
    /// What another node asks.
    pub(crate) fn request(body: Incoming, close: CancellationToken, intake: Intake) -> Self {
        Self { body, decoder: Decoder::new(), rest: Bytes::new(), close, intake, room: None, worked_on: true }
    }

    /// What another node answers.
    pub(crate) fn answer(body: Incoming, close: CancellationToken, intake: Intake) -> Self {
        Self { worked_on: false, ..Self::request(body, close, intake) }
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, BodyError> {
        self.room = None;
        let next = self.read().await;
        if !self.worked_on {
            self.room = None;
        }
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
            self.make_room().await?;
            match self.piece().await? {
                None => return Ok(self.decoder.finish().map(|()| None)?),
                Some(Err(error)) => return Err(BodyError::Lost(error)),
                Some(Ok(piece)) => self.rest = piece.into_data().unwrap_or_default(),
            }
        }
    }

    /// Waits until the frame that is being received has room (X1).
    async fn make_room(&mut self) -> Result<(), BodyError> {
        let large = self.decoder.announced().filter(|bytes| self.room.is_none() && *bytes > FREE_BYTES);
        if let Some(bytes) = large {
            self.room = Some(self.intake.room_for(bytes).await.ok_or(BodyError::NoRoom(bytes))?);
        }
        Ok(())
    }

    /// The next piece of the body. A frame that has room, which others wait for, has to go on.
    async fn piece(&mut self) -> Result<Option<Piece>, BodyError> {
        let patience = self.room.as_ref().map(|_| self.intake.patience());
        let piece = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
        match patience {
            Some(patience) => timeout(patience, piece).await.map_err(|_| BodyError::Stopped),
            None => Ok(piece.await),
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

    /// The only frame of a call, and what it takes of the room.
    pub(crate) async fn into_frame(mut self) -> Result<(Frame, Option<Room>), CallError> {
        match self.next().await {
            Ok(Some(Message::Frame(frame))) => Ok((frame, self.room)),
            Ok(Some(Message::Error(error))) => Err(CallError::Refused(error)),
            Ok(None) => Err(CallError::Unknown("the answer is empty".into())),
            Err(error) => Err(CallError::Unknown(error.to_string())),
        }
    }
}
