//! A request of another node.

use std::sync::Arc;

use futures::stream::StreamExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use stratalog_proto::{Code, Error};
use tokio_util::sync::CancellationToken;

use crate::body::{Outgoing, Received};
use crate::dial::Links;
use crate::http::{Shape, asked};
use crate::wire::{Message, check};
use crate::{CallError, Method, Peer, PeerService};

/// Who is at the other end of a connection, and who answers.
pub(super) struct Caller {
    pub(super) peer: Peer,
    /// It did not mean this node, but whoever is here.
    pub(super) open_only: bool,
    pub(super) links: Arc<Links>,
    pub(super) service: Arc<dyn PeerService>,
    pub(super) close: CancellationToken,
}

impl Caller {
    /// A refusal is an answer, too.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let body = match self.try_answer(request).await {
            Ok(body) => body,
            Err(error) => Outgoing::one(Message::Error(error)),
        };
        Response::new(body)
    }

    async fn try_answer(&self, request: Request<Incoming>) -> Result<Outgoing, Error> {
        let Some((method, shape)) = asked(&request) else {
            let words = "this node does not know what it is asked: is the other one of a later version?";
            return Err(Error::new(Code::NotBuilt, words));
        };
        self.permit(method)?;
        let received = Received::request(request.into_body(), self.close.clone(), self.links.dialer().intake.clone());
        match shape {
            Shape::Call => {
                let (frame, _until_answered) = received.into_frame().await.map_err(error_of)?;
                let answer = self.service.call(self.peer.clone(), method, frame).await?;
                check(&answer)?;
                Ok(Outgoing::one(Message::Frame(answer)))
            }
            Shape::Stream => {
                let answers = self.service.stream(self.peer.clone(), method, received.into_frames()).await?;
                Ok(Outgoing::many(answers.map(|answer| answer.map_err(error_of)).boxed()))
            }
        }
    }

    /// Who may ask what. The cluster is compared each time, since this node may have joined one since the handshake.
    fn permit(&self, method: Method) -> Result<(), Error> {
        if method.is_open() {
            return Ok(());
        }
        let mine = self.links.me().cluster;
        if self.open_only || mine.is_none() || mine != self.peer.identity.cluster {
            let words = format!("{} is only answered to nodes of the same cluster that mean this node", method.name());
            return Err(Error::new(Code::Unauthenticated, words));
        }
        Ok(())
    }
}

/// As the other side is told.
fn error_of(error: CallError) -> Error {
    match error {
        CallError::Refused(error) => error,
        CallError::NotSent(words) | CallError::Unknown(words) => Error::new(Code::Unavailable, words),
    }
}
