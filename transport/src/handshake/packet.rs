//! Messages of the handshake on the socket: a length and a prost message, behind a magic in each direction.

use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::HandshakeError;

/// The first bytes of each direction.
pub(super) const MAGIC: &[u8; 8] = b"SLPEER\r\n";
/// The most bytes of a message: what a stranger can make a node take.
pub(super) const MAX_PACKET_BYTES: usize = 16 << 10;

/// Sends `head`, then a message. What went out, for the proof.
pub(super) async fn send<S: AsyncWrite + Unpin>(
    socket: &mut S,
    head: &[u8],
    message: &impl Message,
) -> Result<Vec<u8>, HandshakeError> {
    let body = message.encode_to_vec();
    let length = u16::try_from(body.len()).ok().filter(|length| usize::from(*length) <= MAX_PACKET_BYTES);
    let Some(length) = length else {
        return Err(HandshakeError::NotAPeer(format!("a handshake message of {} bytes is too long", body.len())));
    };
    socket.write_all(&[head, &length.to_le_bytes(), &body].concat()).await?;
    socket.flush().await?;
    Ok(body)
}

/// Reads a message, and the bytes that it was.
pub(super) async fn receive<S: AsyncRead + Unpin, M: Message + Default>(
    socket: &mut S,
) -> Result<(M, Vec<u8>), HandshakeError> {
    let length = usize::from(socket.read_u16_le().await?);
    if length > MAX_PACKET_BYTES {
        return Err(HandshakeError::NotAPeer(format!("a handshake message of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    match M::decode(&body[..]) {
        Ok(message) => Ok((message, body)),
        Err(error) => Err(HandshakeError::NotAPeer(format!("a handshake message cannot be read: {error}"))),
    }
}

/// Reads the magic of the other side, no further than to the first byte that differs: who speaks another protocol may
/// wait for an answer and send no more.
pub(super) async fn receive_magic<S: AsyncRead + Unpin>(socket: &mut S) -> Result<(), HandshakeError> {
    for expected in MAGIC {
        if socket.read_u8().await? != *expected {
            return Err(HandshakeError::NotAPeer(
                "what is there is not a Stratalog node's port for other nodes".into(),
            ));
        }
    }
    Ok(())
}
