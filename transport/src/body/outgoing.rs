//! Messages as the body of a request or an answer.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// Says that the last message was handed over.
    handed_over: Arc<AtomicBool>,
    /// Ends when nobody waits for the answers any longer.
    wanted: Option<oneshot::Receiver<Infallible>>,
}

enum Messages {
    One(Option<Message>),
    Many(BoxStream<'static, Result<Frame, Error>>),
}

impl Outgoing {
    /// One message.
    pub(crate) fn one(message: Message) -> Self {
        Self { messages: Messages::One(Some(message)), handed_over: Arc::default(), wanted: None }
    }

    /// Frames until the first error, which is sent as such.
    pub(crate) fn many(frames: BoxStream<'static, Result<Frame, Error>>) -> Self {
        Self { messages: Messages::Many(frames), handed_over: Arc::default(), wanted: None }
    }

    /// Resets the request when the sender of `wanted` is dropped.
    pub(crate) fn while_wanted(mut self, wanted: oneshot::Receiver<Infallible>) -> Self {
        self.wanted = Some(wanted);
        self
    }

    /// True once a message was handed over to the connection: before, the other side cannot have seen any of it.
    pub(crate) fn handed_over(&self) -> Arc<AtomicBool> {
        self.handed_over.clone()
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
        self.handed_over.store(true, Ordering::Release);
        Poll::Ready(Some(Ok(Piece::data(Encoded::new(message)))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.messages, Messages::One(None))
    }
}
