//! The side that was connected to.

use stratalog_proto::internal::{Challenge, Introduction, Offer, Welcome};
use stratalog_proto::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite};

use super::packet::{MAGIC, receive, receive_magic, send};
use super::proof::{Side, Transcript};
use super::{HandshakeError, NONCE_BYTES, OLDEST_PROTOCOL, PROTOCOL, check, hello, nonce};
use crate::{AddressBook, Identity, Secret};

/// Who came, and whether it means this node or whoever is here.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) identity: Identity,
    /// Only what is open to all may be asked.
    pub(crate) open_only: bool,
}

/// Hears who connects on `socket`, and answers as `me`. A refusal is told to the other side.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    me: &Identity,
    book: &dyn AddressBook,
    secret: Option<&Secret>,
) -> Result<Accepted, HandshakeError> {
    let mut said = Transcript::default();
    challenge(socket, &mut said, secret).await?;

    let (introduction, bytes) = receive::<_, Introduction>(socket).await?;
    said.add(&bytes);
    if !said.proved(socket, secret, Side::Connects).await? {
        let words = "wrong cluster secret: the two nodes do not have the same";
        return refuse(socket, Error::new(Code::Unauthenticated, words)).await;
    }
    let it = hello::read(introduction.hello)?;
    if let Err(error) = check::check_connecting(me, &it, introduction.to_node, book) {
        return refuse(socket, error).await;
    }
    let welcome = Welcome { hello: Some(hello::write(me)), ..Welcome::default() };
    said.add(&send(socket, &[], &welcome).await?);
    said.prove(socket, secret, Side::Accepts).await?;
    Ok(Accepted { identity: it, open_only: introduction.to_node == 0 })
}

/// Hears which protocols the other side speaks, and sends a nonce. The other side ends it if one has a secret and one not.
async fn challenge<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut S,
    said: &mut Transcript,
    secret: Option<&Secret>,
) -> Result<(), HandshakeError> {
    receive_magic(socket).await?;
    let (offer, bytes) = receive::<_, Offer>(socket).await?;
    said.add(&bytes);
    if offer.nonce.len() != NONCE_BYTES {
        return Err(HandshakeError::NotAPeer(format!("a nonce of {} bytes", offer.nonce.len())));
    }
    let common = Some(offer.protocol.min(PROTOCOL)).filter(|common| *common >= offer.oldest.max(OLDEST_PROTOCOL));
    let challenge =
        Challenge { protocol: common.unwrap_or(0), nonce: nonce().to_vec().into(), secret: secret.is_some() };
    said.add(&send(socket, MAGIC, &challenge).await?);
    if common.is_none() {
        let words = format!("it speaks protocol {} to {}, this node {PROTOCOL}", offer.oldest, offer.protocol);
        return Err(HandshakeError::refused(Code::NewerVersion, words));
    }
    if offer.secret != secret.is_some() {
        let words =
            if offer.secret { "it has a cluster secret, this node has none" } else { "it has no cluster secret" };
        return Err(HandshakeError::refused(Code::Unauthenticated, words));
    }
    Ok(())
}

/// Tells the other side why.
async fn refuse<S: AsyncWrite + Unpin, T>(socket: &mut S, error: Error) -> Result<T, HandshakeError> {
    let welcome = Welcome { hello: None, code: error.code as u32, message: error.message.clone() };
    send(socket, &[], &welcome).await?;
    Err(HandshakeError::Refused(error))
}
