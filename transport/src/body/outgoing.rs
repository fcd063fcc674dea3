//! Messages as the body of a request or an answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, StreamExt};
use hyper::body::{Body, Frame as Piece};
use stratalog_proto::Error;
use tokio::sync::oneshot;

use crate::Frame;
use crate::wire::{Encoded, Message, check};

/// The receiver of the answers is gone: the request is reset instead of ended.
#[derive(Debug, thiserror::Error)]
#[error("nobody waits for the answers any longer")]
pub(crate) struct Dropped;

/// What goes out: each message as one chunk, whose buffers the socket takes as they are.
pub(crate) struct Outgoing {
    messages: Messages,
    /// What became of it.
    fate: Fate,
    /// Ends when nobody waits for the answers any longer.
    wanted: Option<oneshot::Receiver<Infallible>>,
}

/// What becomes of a request: it is handed over to the connection, or withdrawn before. Who knows that it was withdrawn knows
/// that the other side never sees any of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate(Arc<AtomicU8>);

const WAITS: u8 = 0;
const HANDED_OVER: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Fate {
    /// Whether it may go out: it was not withdrawn, and cannot be any more.
    fn hand_over(&self) -> bool {
        self.settle(HANDED_OVER)
    }

    /// Whether nothing of it was handed over, nor will be.
    pub(crate) fn withdraw(&self) -> bool {
        self.settle(WITHDRAWN)
    }

    fn settle(&self, fate: u8) -> bool {
        match self.0.compare_exchange(WAITS, fate, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(settled) => settled == fate,
        }
    }
}

enum Messages {
    One(Option<Message>),
    Many(BoxStream<'static, Result<Frame, Error>>),
}

impl Outgoing {
    /// One message.
    pub(crate) fn one(message: Message) -> Self {
        Self { messages: Messages::One(Some(message)), fate: Fate::default(), wanted: None }
    }

    /// Frames until the first error, which is sent as such.
    pub(crate) fn many(frames: BoxStream<'static, Result<Frame, Error>>) -> Self {
        Self { messages: Messages::Many(frames), fate: Fate::default(), wanted: None }
    }

    /// Resets the request when the sender of `wanted` is dropped.
    pub(crate) fn while_wanted(mut self, wanted: oneshot::Receiver<Infallible>) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// What becomes of it.
    pub(crate) fn fate(&self) -> Fate {
        self.fate.clone()
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let next = match &mut self.messages {
            Messages::One(message) => return Poll::Ready(message.take()),
            Messages::Many(frames) => ready!(frames.poll_next_unpin(cx)),
        };
        let message = match next.map(|result| result.and_then(|frame| check(&frame).map(|()| frame))) {
            None => None,
            Some(Ok(frame)) => Some(Message::Frame(frame)),
            Some(Err(error)) => Some(Message::Error(error)),
        };
        if !matches!(message, Some(Message::Frame(_))) {
            self.messages = Messages::One(None);
        }
        Poll::Ready(message)
    }
}

impl Body for Outgoing {
    type Data = Encoded;
    type Error = Dropped;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Piece<Encoded>, Dropped>>> {
        if self.wanted.as_mut().is_some_and(|wanted| Pin::new(wanted).poll(cx).is_ready()) {
            return Poll::Ready(Some(Err(Dropped)));
        }
        let Some(message) = ready!(self.poll_message(cx)) else { return Poll::Ready(None) };
        if !self.fate.hand_over() {
            return Poll::Ready(Some(Err(Dropped)));
        }
        Poll::Ready(Some(Ok(Piece::data(Encoded::new(message)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.messages, Messages::One(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn polled(body: &mut Outgoing) -> Poll<Option<Result<(), Dropped>>> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        Pin::new(body).poll_frame(&mut cx).map_ok(|_| ())
    }

    #[test]
    fn what_was_withdrawn_is_never_handed_over() {
        let mut body = Outgoing::one(Message::Frame(Frame::default()));
        assert!(body.fate().withdraw());
        assert!(matches!(polled(&mut body), Poll::Ready(Some(Err(Dropped)))));
        assert!(body.fate().withdraw(), "it stays so");
    }

    #[test]
    fn what_was_handed_over_cannot_be_withdrawn() {
        let mut body = Outgoing::one(Message::Frame(Frame::default()));
        assert!(matches!(polled(&mut body), Poll::Ready(Some(Ok(())))));
        assert!(!body.fate().withdraw());
        assert!(matches!(polled(&mut body), Poll::Ready(None)));
    }
}
