//! From an address to a connection whose other end is known.

use std::io;
use std::net::SocketAddr;

use hyper_util::rt::TokioIo;
use stratalog_proto::{Code, Error};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Connection;
use crate::handshake::{Expected, HandshakeError, offer};
use crate::http;
use crate::intake::Intake;
use crate::tls::Sockets;
use crate::{Identity, Peer, TransportOptions};

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nobody was reached, or nobody who keeps to the handshake.
    #[error("{0}")]
    Unreachable(String),
    /// This node or the other does not want it.
    #[error("{0}")]
    Refused(Error),
}

impl DialError {
    /// One of the two is about to join the cluster, which takes care of itself.
    pub(crate) fn is_a_wait(&self) -> bool {
        matches!(self, DialError::Refused(error) if error.code == Code::NotFormed)
    }
}

/// Makes connections.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) options: TransportOptions,
    pub(crate) sockets: Sockets,
    /// Of all connections.
    pub(crate) intake: Intake,
}

impl Dialer {
    /// Connects to `address`, as `me`, and makes sure that who is there is `expected`.
    pub(crate) async fn dial(&self, address: &str, me: &Identity, expected: Expected) -> Result<Connection, DialError> {
        let within = self.options.connect_timeout;
        timeout(within, self.try_dial(address, me, expected)).await.unwrap_or_else(|_| {
            let words = format!("{address} did not answer within {} ms", within.as_millis());
            Err(DialError::Unreachable(words))
        })
    }

    async fn try_dial(&self, address: &str, me: &Identity, expected: Expected) -> Result<Connection, DialError> {
        let unreachable = |error: io::Error| DialError::Unreachable(format!("{address} was not reached: {error}"));
        let tcp = self.tcp(address).await?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let mut socket = self.sockets.connect(tcp, host).await.map_err(unreachable)?;
        let secret = self.options.secret.as_ref();
        let identity = offer(&mut socket, me, expected, secret, address).await.map_err(|error| match error {
            HandshakeError::Refused(error) => DialError::Refused(error),
            other => DialError::Unreachable(format!("{address} was not reached: {other}")),
        })?;
        let (sender, driver) = http::client(&self.options)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| DialError::Unreachable(format!("{address} was not reached: {error}")))?;
        Ok(Connection::start(Peer { identity }, address, sender, driver, self.intake.clone()))
    }

    /// Whether nobody listens at an address: whose process has ended, its system refuses connections in its place. Of one that
    /// does not answer nothing is known.
    pub(crate) async fn is_refused(&self, address: &str) -> bool {
        let look = async {
            let found: Vec<SocketAddr> = lookup_host(address).await.map(Iterator::collect).unwrap_or_default();
            for candidate in &found {
                let connected = TcpStream::connect(candidate).await;
                if !connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
                    return false;
                }
            }
            !found.is_empty()
        };
        timeout(self.options.connect_timeout, look).await.unwrap_or(false)
    }

    /// The first of the addresses of a name that takes a connection.
    async fn tcp(&self, address: &str) -> Result<TcpStream, DialError> {
        let found = lookup_host(address).await;
        let found: Vec<SocketAddr> = found
            .map_err(|error| DialError::Unreachable(format!("the address {address} was not found: {error}")))?
            .collect();
        let mut last = format!("the address {address} was not found");
        for candidate in found {
            if !self.options.guards() && !candidate.ip().is_loopback() {
                return Err(DialError::Refused(unguarded(address)));
            }
            match TcpStream::connect(candidate).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => last = format!("{address} was not reached: {error}"),
            }
        }
        Err(DialError::Unreachable(last))
    }
}

/// What an address needs that others can reach, too.
pub(crate) fn unguarded(address: &str) -> Error {
    let words = format!(
        "{address} is not a loopback address: nodes on other machines need a cluster secret (cluster.secret_file) or \
         TLS (cluster.tls)"
    );
    Error::new(Code::InvalidConfig, words)
}
