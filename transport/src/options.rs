//! How connections are made and kept.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::{Code, Error};

/// What proves that a node is one of the cluster's. It never travels; it is never printed.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Below this many bytes, whoever hears a handshake could find it by trying.
    pub const MIN_BYTES: usize = 16;
    const CONTEXT: &str = "stratalog 2026-11 secret of a cluster, handshake between nodes";

    /// The key of a secret. White space around it, as a file has it at its end, does not count.
    ///
    /// # Errors
    /// `InvalidConfig` if it is shorter than [`Secret::MIN_BYTES`].
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if text.len() < Self::MIN_BYTES {
            let words = format!(
                "the cluster secret has {} bytes; it needs {} or more (make one with `openssl rand -hex 32`)",
                text.len(),
                Self::MIN_BYTES
            );
            return Err(Error::new(Code::InvalidConfig, words));
        }
        Ok(Self(blake3::derive_key(Self::CONTEXT, text.as_bytes())))
    }

    pub(crate) fn key(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Mutual TLS: both sides show a certificate that the authority of the cluster signed. All in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The authority, one certificate or several.
    pub authority: Bytes,
    /// This node's certificate, then what lies between it and the authority.
    pub certificate: Bytes,
    /// Its private key.
    pub key: Bytes,
    /// The name that the certificates of all nodes carry; `None`: each carries the host of its address.
    pub server_name: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// Bounds and times of all connections. With neither secret nor TLS only loopback addresses are served and dialled.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// The same on every node of the cluster.
    pub secret: Option<Secret>,
    /// Encrypts, and proves who is at the other end.
    pub tls: Option<Tls>,
    /// To connect, TLS and handshake included.
    pub connect_timeout: Duration,
    /// The first pause after a node was not reached; each further one is twice as long.
    pub backoff_min: Duration,
    /// The longest such pause.
    pub backoff_max: Duration,
    /// How often the other end of a connection is asked whether it is there.
    pub ping_interval: Duration,
    /// Without an answer for this long, the connection is given up.
    pub ping_timeout: Duration,
    /// Bytes in flight on one stream.
    pub stream_window_bytes: u32,
    /// Bytes in flight on one connection: those of `max_streams` streams at least. Frames that wait for room are not read, and must
    /// not keep the bytes of those that have it from coming.
    pub connection_window_bytes: u32,
    /// Calls and streams at once on one connection.
    pub max_streams: u32,
    /// Connections that are served at once.
    pub max_connections: usize,
    /// Of these, how many may be in their handshake.
    pub max_handshakes: usize,
    /// Of these, how many may come from one address, or one network of IPv6.
    pub max_handshakes_of_one: usize,
    /// Bytes of frames that are being received, or worked on for those who sent them, on all connections together. Small
    /// frames do not count; the largest one always fits.
    pub max_intake_bytes: usize,
    /// How long a frame may wait for that, and then for each of its pieces.
    pub intake_wait: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            secret: None,
            tls: None,
            connect_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            ping_interval: Duration::from_secs(2),
            ping_timeout: Duration::from_secs(3),
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 256 << 20,
            max_streams: 1024,
            max_connections: 1024,
            max_handshakes: 64,
            max_handshakes_of_one: 16,
            max_intake_bytes: 256 << 20,
            intake_wait: Duration::from_secs(10),
        }
    }
}

impl TransportOptions {
    /// Whether strangers are kept away, so that addresses other than loopback may be used.
    pub fn guards(&self) -> bool {
        self.secret.is_some() || self.tls.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else frames that wait for room and those that have it could wait for each other.
    #[test]
    fn streams_that_are_not_read_leave_the_others_their_bytes() {
        let options = TransportOptions::default();
        let unread = u64::from(options.max_streams) * u64::from(options.stream_window_bytes);
        assert!(unread <= u64::from(options.connection_window_bytes));
    }
}
