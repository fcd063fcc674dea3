//! That a side knows the cluster's secret.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::HandshakeError;
use crate::Secret;

pub(super) const PROOF_BYTES: usize = 32;

/// Who proves. It is part of what is hashed, so that a proof cannot be sent back to its maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Connects = 1,
    Accepts = 2,
}

/// All that was said, from the first message on.
#[derive(Debug, Default)]
pub(super) struct Transcript(Vec<u8>);

impl Transcript {
    pub(super) fn add(&mut self, message: &[u8]) {
        self.0.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.0.extend_from_slice(message);
    }

    fn proof(&self, secret: &Secret, side: Side) -> blake3::Hash {
        blake3::Hasher::new_keyed(secret.key()).update(&[side as u8]).update(&self.0).finalize()
    }

    /// Sends the proof of `side`, if there is a secret.
    pub(super) async fn prove<S: AsyncWrite + Unpin>(
        &self,
        socket: &mut S,
        secret: Option<&Secret>,
        side: Side,
    ) -> Result<(), HandshakeError> {
        if let Some(secret) = secret {
            socket.write_all(self.proof(secret, side).as_bytes()).await?;
            socket.flush().await?;
        }
        Ok(())
    }

    /// Reads the proof of `side`, if there is a secret. Whether it is right; compared in constant time.
    pub(super) async fn proved<S: AsyncRead + Unpin>(
        &self,
        socket: &mut S,
        secret: Option<&Secret>,
        side: Side,
    ) -> Result<bool, HandshakeError> {
        let Some(secret) = secret else { return Ok(true) };
        let mut read = [0; PROOF_BYTES];
        socket.read_exact(&mut read).await?;
        Ok(self.proof(secret, side) == blake3::Hash::from_bytes(read))
    }
}
