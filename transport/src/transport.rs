//! The connections of a node to all others.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::{Code, Error, NodeId};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};

use crate::dial::{DialError, Dialer, Links};
use crate::handshake::Expected;
use crate::intake::Intake;
use crate::serve::Server;
use crate::tls::Sockets;
use crate::{AddressBook, CallError, Frame, Frames, Identity, Method, Peer, PeerService, TransportOptions};

/// Calls and streams to other nodes, and the listener that answers theirs.
///
/// To each node there is one connection a [`Lane`](crate::Lane), made when it is first needed and again when it was lost.
pub struct Transport {
    links: Arc<Links>,
    book: Arc<dyn AddressBook>,
}

impl Transport {
    /// Nothing is connected before it is needed.
    ///
    /// # Errors
    /// `InvalidConfig` for certificates or a key that cannot be used.
    pub fn new(identity: Identity, book: Arc<dyn AddressBook>, options: TransportOptions) -> Result<Arc<Self>, Error> {
        let (sockets, intake) = (Sockets::new(options.tls.as_ref())?, Intake::new(&options));
        let dialer = Dialer { sockets, intake, options };
        Ok(Arc::new(Self { links: Links::new(identity, dialer, book.clone()), book }))
    }

    /// Who this node is from now on: it joined a cluster, or its addresses changed. New connections say so, and those
    /// that said something else are used no longer.
    pub fn identify(&self, identity: Identity) {
        self.links.identify(identity);
    }

    /// Asks a node and waits for its answer, at most for `within`.
    pub fn call(
        &self,
        to: NodeId,
        method: Method,
        frame: Frame,
        within: Duration,
    ) -> BoxFuture<'static, Result<Frame, CallError>> {
        let link = self.links.clone().get(to, method.lane());
        let deadline = Instant::now() + within;
        Box::pin(async move {
            let connection = timeout_at(deadline, link).await.unwrap_or_else(|_| {
                Err(CallError::NotSent(format!("node {to} was not connected within {} ms", within.as_millis())))
            })?;
            connection.call(method, frame, deadline.duration_since(Instant::now())).await
        })
    }

    /// Sends frames to a node and gives its answers. An `Err` among the frames ends the stream at the receiver with that
    /// error. Nothing happens before the answers are polled; dropping them ends both directions.
    pub fn stream(&self, to: NodeId, method: Method, frames: BoxStream<'static, Result<Frame, Error>>) -> Frames {
        let link = self.links.clone().get(to, method.lane());
        stream::once(async move {
            match link.await {
                Ok(connection) => connection.stream(method, frames).await,
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        })
        .flatten()
        .boxed()
    }

    /// Asks whoever is at an address, on a connection of its own. Only methods that are [open](Method::is_open).
    ///
    /// Unlike [`Transport::call`], which says `NotSent`, a refusal in the handshake comes as `Refused` with its code: nobody
    /// tries again, but somebody wants to know.
    pub fn call_address(
        &self,
        address: &str,
        method: Method,
        frame: Frame,
        within: Duration,
    ) -> BoxFuture<'static, Result<(Peer, Frame), CallError>> {
        let (links, address, deadline) = (self.links.clone(), address.to_owned(), Instant::now() + within);
        Box::pin(async move {
            if !method.is_open() {
                let words = format!("{} is only asked of nodes of one's own cluster", method.name());
                return Err(CallError::Refused(Error::new(Code::InvalidRequest, words)));
            }
            let me = links.me();
            let dial = links.dialer().dial(&address, &me, Expected::Anyone);
            let dialled = timeout_at(deadline, dial).await.unwrap_or_else(|_| {
                let words = format!("{address} was not connected within {} ms", within.as_millis());
                Err(DialError::Unreachable(words))
            });
            let connection = dialled.map_err(|error| match error {
                DialError::Unreachable(words) => CallError::NotSent(words),
                DialError::Refused(error) => CallError::Refused(error),
            })?;
            let answer = connection.call(method, frame, deadline.duration_since(Instant::now())).await?;
            Ok((connection.peer().clone(), answer))
        })
    }

    /// Looks in the address book who was removed from the cluster, and ends the connections from and to it.
    pub fn recheck(&self) {
        self.links.recheck();
    }

    /// Why a node was not reached last. `None`: it was, or was never tried.
    pub fn problem(&self, node: NodeId) -> Option<String> {
        self.links.problem(node)
    }

    /// Whether nobody listens where a node is: its process has ended, or its listener has. False if that is not certain.
    pub fn is_gone(&self, node: NodeId) -> BoxFuture<'static, bool> {
        let (links, address) = (self.links.clone(), self.book.address(node));
        Box::pin(async move {
            match address {
                Some(address) => links.dialer().is_refused(&address).await,
                None => false,
            }
        })
    }

    /// Answers the connections of a listener until `shutdown`, and a little longer what was asked by then.
    ///
    /// # Errors
    /// `InvalidInput` if the listener is not on loopback and neither secret nor TLS guards it.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        service: Arc<dyn PeerService>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        Server::new(self.links.clone(), self.book.clone(), service).serve(listener, shutdown).await
    }
}
