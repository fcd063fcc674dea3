//! A connection of another node.

use std::convert::Infallible;
use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use stratalog_proto::{Code, NodeId};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Server;
use super::answer::Caller;
use super::door::Entered;
use crate::Peer;
use crate::handshake::{Accepted, HandshakeError, accept};
use crate::http;
use crate::tls::Socket;

impl Server {
    /// From the handshake, which `entered` permits, to the end.
    pub(super) async fn connection(self: Arc<Self>, tcp: TcpStream, from: SocketAddr, entered: Entered) {
        let within = self.links.dialer().options.connect_timeout;
        let greeted = tokio::select! {
            greeted = timeout(within, self.greet(tcp)) => greeted,
            () = self.stopping.cancelled() => return,
        };
        drop(entered);
        match greeted {
            Ok(Ok((socket, accepted))) => self.talk(socket, accepted).await,
            // One of the two is about to join the cluster.
            Ok(Err(HandshakeError::Refused(error))) if error.code == Code::NotFormed => {}
            // Somebody looked whether anybody listens.
            Ok(Err(HandshakeError::Io(error))) if error.kind() == ErrorKind::UnexpectedEof => {}
            Ok(Err(error)) => self.tell(from, &error.to_string()),
            Err(_) => self.tell(from, "the handshake was not done in time"),
        }
    }

    async fn greet(&self, tcp: TcpStream) -> Result<(Box<dyn Socket>, Accepted), HandshakeError> {
        tcp.set_nodelay(true)?;
        let dialer = self.links.dialer();
        let mut socket = dialer.sockets.accept(tcp).await?;
        let me = self.links.me();
        let accepted = accept(&mut socket, &me, &*self.book, dialer.options.secret.as_ref()).await?;
        Ok((socket, accepted))
    }

    /// Returns once the node at the other end is removed from the cluster; never for one that came without being a member.
    async fn removed(&self, member: Option<NodeId>) {
        let Some(node) = member else { return pending().await };
        let mut rechecks = self.links.rechecks();
        while !self.book.is_removed(node) {
            if rechecks.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Answers until the other side goes or is removed from the cluster, the server stops, or what comes is no frame.
    async fn talk(&self, socket: Box<dyn Socket>, accepted: Accepted) {
        let close = CancellationToken::new();
        let member = (!accepted.open_only).then_some(accepted.identity.node);
        let caller = Arc::new(Caller {
            peer: Peer { identity: accepted.identity },
            open_only: accepted.open_only,
            links: self.links.clone(),
            service: self.service.clone(),
            close: close.clone(),
        });
        let answer = service_fn(move |request| {
            let caller = caller.clone();
            async move { Ok::<_, Infallible>(caller.answer(request).await) }
        });
        let mut talk = pin!(http::server(&self.links.dialer().options).serve_connection(TokioIo::new(socket), answer));
        tokio::select! {
            // How it ended matters to whoever was asked or asks on it, and they hear of it there.
            _ = &mut talk => return,
            () = self.stopping.cancelled() => {}
            () = close.cancelled() => {}
            () = self.removed(member) => {}
        }
        talk.as_mut().graceful_shutdown();
        let _ = timeout(http::CLOSE_WITHIN, talk).await;
    }
}
