//! The first words of a connection: both sides prove that they know the cluster's secret and say who they are, before
//! anything else is read from them.
//!
//! The secret never travels: each side sends a random nonce, and then a keyed hash over its role and all that was said.
//! The side that connects proves itself first, so that a stranger learns nothing from a node. What either side then says of
//! itself is checked against what the other expects: cluster, node, incarnation (X1).

mod accept;
mod check;
mod hello;
mod offer;
mod packet;
mod proof;
#[cfg(any(test, feature = "fuzzing"))]
mod samples;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Accepted, accept};
pub(crate) use check::Expected;
pub(crate) use offer::offer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use samples::{introduction, welcome};

use std::io;

use stratalog_proto::{Code, Error};

/// The newest protocol between nodes that this version speaks.
const PROTOCOL: u32 = 1;
/// The oldest one.
const OLDEST_PROTOCOL: u32 = 1;
const NONCE_BYTES: usize = 32;

/// Why a connection is not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The socket failed, or the other side closed it.
    #[error("the connection ended in its handshake: {0}")]
    Io(#[from] io::Error),
    /// What came is not of this handshake.
    #[error("{0}")]
    NotAPeer(String),
    /// One of the two sides does not want the other.
    #[error("{0}")]
    Refused(Error),
}

impl HandshakeError {
    fn refused(code: Code, words: impl Into<String>) -> Self {
        Self::Refused(Error::new(code, words))
    }
}

/// 32 bytes that nobody can guess.
fn nonce() -> [u8; NONCE_BYTES] {
    let (one, other) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    *blake3::Hasher::new().update(one.as_bytes()).update(other.as_bytes()).finalize().as_bytes()
}
