//! One connection to another node, and the calls and streams on it.

use std::error::Error as _;
use std::iter;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Connection as Driver, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stratalog_proto::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::body::{Outgoing, Received};
use crate::http::{Shape, request};
use crate::intake::Intake;
use crate::tls::Socket;
use crate::wire::{Message, check};
use crate::{CallError, Frame, Frames, Method, Peer};

type Driving = Driver<TokioIo<Box<dyn Socket>>, Outgoing, TokioExecutor>;

/// Closed when the last user lets go, when the other end is gone, or when it sends what is no frame.
pub(crate) struct Connection {
    peer: Peer,
    address: String,
    sender: SendRequest<Outgoing>,
    close: CancellationToken,
    ended: Arc<OnceLock<String>>,
    intake: Intake,
}

impl Connection {
    /// Takes over a connection whose other end is `peer`.
    pub(super) fn start(
        peer: Peer,
        address: &str,
        sender: SendRequest<Outgoing>,
        driver: Driving,
        intake: Intake,
    ) -> Self {
        let (close, ended) = (CancellationToken::new(), Arc::new(OnceLock::new()));
        tokio::spawn(drive(driver, close.clone(), ended.clone()));
        Self { peer, address: address.to_owned(), sender, close, ended, intake }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.close.is_cancelled()
    }

    /// Why it was lost, if it was.
    pub(super) fn problem(&self) -> Option<String> {
        self.ended.get().map(|why| format!("the connection to {} was lost: {why}", self.address))
    }

    /// One message, one answer.
    pub(crate) async fn call(&self, method: Method, frame: Frame, within: Duration) -> Result<Frame, CallError> {
        check(&frame).map_err(CallError::Refused)?;
        let body = Outgoing::one(Message::Frame(frame));
        let fate = body.fate();
        let answer = async {
            let answer = self.send(method, Shape::Call, body).await?;
            self.received(answer).into_frame().await.map(|(frame, _)| frame)
        };
        timeout(within, answer).await.unwrap_or_else(|_| {
            let words = format!("{} to {} had no answer within {} ms", method.name(), self.address, within.as_millis());
            Err(if fate.withdraw() { CallError::NotSent(words) } else { CallError::Unknown(words) })
        })
    }

    /// Messages in both directions, until the answers are dropped.
    pub(crate) async fn stream(&self, method: Method, frames: BoxStream<'static, Result<Frame, Error>>) -> Frames {
        let (wanted, dropped) = oneshot::channel();
        let body = Outgoing::many(frames).while_wanted(dropped);
        match self.send(method, Shape::Stream, body).await {
            Ok(answer) => {
                let answers = self.received(answer).into_frames();
                // The stream of answers owns the sender: with it the request ends.
                stream::unfold((answers, wanted), |(mut answers, wanted)| async move {
                    let next = answers.next().await?;
                    Some((next, (answers, wanted)))
                })
                .boxed()
            }
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn received(&self, answer: Response<Incoming>) -> Received {
        Received::answer(answer.into_body(), self.close.clone(), self.intake.clone())
    }

    async fn send(&self, method: Method, shape: Shape, body: Outgoing) -> Result<Response<Incoming>, CallError> {
        let fate = body.fate();
        let mut sender = self.sender.clone();
        let sent = sender.try_send_request(request(method, shape, body)).await;
        sent.map_err(|mut error| {
            let kept = error.take_message().is_some();
            self.error(kept || fate.withdraw(), error.error(), method)
        })
    }

    /// Tells what was certainly not done from what is not known.
    fn error(&self, unsent: bool, error: &hyper::Error, method: Method) -> CallError {
        let words = format!("{} to {}: {}", method.name(), self.address, reason(error));
        if unsent || was_refused(error) { CallError::NotSent(words) } else { CallError::Unknown(words) }
    }
}

/// Lives as long as the connection does.
async fn drive(driver: Driving, close: CancellationToken, ended: Arc<OnceLock<String>>) {
    let why = tokio::select! {
        done = driver => done.err().map_or_else(|| "it was closed, or did not answer".into(), |error| reason(&error)),
        () = close.cancelled() => "the other side sent what is no frame".into(),
    };
    // There is no other writer.
    let _ = ended.set(why);
}

/// Whether the other side says that it did not look at the request: it is over its bound of streams, or is closing.
fn was_refused(error: &hyper::Error) -> bool {
    let Some(error) = cause(error).and_then(|cause| cause.downcast_ref::<h2::Error>()) else { return false };
    let says = if error.is_go_away() { h2::Reason::NO_ERROR } else { h2::Reason::REFUSED_STREAM };
    error.is_remote() && error.reason() == Some(says)
}

/// The innermost error says the most.
fn reason(error: &hyper::Error) -> String {
    cause(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn cause(error: &hyper::Error) -> Option<&(dyn std::error::Error + 'static)> {
    iter::successors(error.source(), |error| (*error).source()).last()
}
