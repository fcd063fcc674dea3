//! The side that connects.

use stratalog_proto::internal::{Challenge, Introduction, Offer, Welcome};
use stratalog_proto::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite};

use super::packet::{MAGIC, receive, receive_magic, send};
use super::proof::{Side, Transcript};
use super::{Expected, HandshakeError, NONCE_BYTES, OLDEST_PROTOCOL, PROTOCOL, check, hello, nonce};
use crate::{Identity, Secret};

/// The most bytes that are repeated of what a peer gives as its reason.
const MAX_REASON_BYTES: usize = 1024;

/// Introduces `me` to who is at the other end of `socket`, dialled as `address`, and gives who it is.
pub(crate) async fn offer<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    me: &Identity,
    expected: Expected,
    secret: Option<&Secret>,
    address: &str,
) -> Result<Identity, HandshakeError> {
    let mut said = Transcript::default();
    challenge(socket, &mut said, secret, address).await?;

    let introduction = Introduction { hello: Some(hello::write(me)), to_node: expected.wire() };
    said.add(&send(socket, &[], &introduction).await?);
    said.prove(socket, secret, Side::Connects).await?;

    let (welcome, bytes) = receive::<_, Welcome>(socket).await?;
    said.add(&bytes);
    if let Some(error) = refusal(&welcome, address) {
        return Err(HandshakeError::Refused(error));
    }
    if !said.proved(socket, secret, Side::Accepts).await? {
        let words = format!("{address} does not know the cluster secret");
        return Err(HandshakeError::refused(Code::Unauthenticated, words));
    }
    let it = hello::read(welcome.hello)?;
    check::check_accepting(me, &it, expected, address).map_err(HandshakeError::Refused)?;
    Ok(it)
}

/// Up to where the other side has said which protocol it speaks, and has sent its nonce.
async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    said: &mut Transcript,
    secret: Option<&Secret>,
    address: &str,
) -> Result<(), HandshakeError> {
    let offer =
        Offer { protocol: PROTOCOL, oldest: OLDEST_PROTOCOL, nonce: nonce().to_vec().into(), secret: secret.is_some() };
    said.add(&send(socket, MAGIC, &offer).await?);
    receive_magic(socket).await?;
    let (challenge, bytes) = receive::<_, Challenge>(socket).await?;
    said.add(&bytes);
    if challenge.nonce.len() != NONCE_BYTES {
        return Err(HandshakeError::NotAPeer(format!("the challenge has {} bytes", challenge.nonce.len())));
    }
    if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&challenge.protocol) {
        let words = format!("{address} speaks no protocol between nodes that this version knows");
        return Err(HandshakeError::refused(Code::NewerVersion, words));
    }
    match (secret.is_some(), challenge.secret) {
        (true, false) => Err(HandshakeError::refused(
            Code::Unauthenticated,
            format!("this node has a cluster secret, but the one at {address} has none: give both the same"),
        )),
        (false, true) => Err(HandshakeError::refused(
            Code::Unauthenticated,
            format!("the node at {address} asks for the cluster secret, and this node has none: give both the same"),
        )),
        _ => Ok(()),
    }
}

/// Why the other side does not want this node.
fn refusal(welcome: &Welcome, address: &str) -> Option<Error> {
    if welcome.code == 0 {
        return None;
    }
    let code = Code::from_number(welcome.code).unwrap_or(Code::Internal);
    let reason = &welcome.message[..welcome.message.floor_char_boundary(MAX_REASON_BYTES)];
    Some(Error::new(code, format!("{address} refused the connection: {}", reason.escape_debug())))
}
