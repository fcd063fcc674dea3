//! What a node says in a handshake without a secret, as bytes: what a fuzzer begins with.

use bytes::Bytes;
use stratalog_proto::internal::{Challenge, Introduction, Offer, Welcome};

use super::packet::{MAGIC, send};
use super::{NONCE_BYTES, OLDEST_PROTOCOL, PROTOCOL, hello};
use crate::Identity;

const NONCE: Bytes = Bytes::from_static(&[9; NONCE_BYTES]);

/// All that the side that connects sends.
pub(crate) async fn introduction(me: &Identity, to_node: u64) -> Vec<u8> {
    let mut sent = Vec::new();
    let offer = Offer { protocol: PROTOCOL, oldest: OLDEST_PROTOCOL, nonce: NONCE, secret: false };
    send(&mut sent, MAGIC, &offer).await.expect("memory does not fail");
    let introduction = Introduction { hello: Some(hello::write(me)), to_node };
    send(&mut sent, &[], &introduction).await.expect("memory does not fail");
    sent
}

/// All that the side that was connected to sends.
pub(crate) async fn welcome(me: &Identity) -> Vec<u8> {
    let mut sent = Vec::new();
    let challenge = Challenge { protocol: PROTOCOL, nonce: NONCE, secret: false };
    send(&mut sent, MAGIC, &challenge).await.expect("memory does not fail");
    let welcome = Welcome { hello: Some(hello::write(me)), ..Welcome::default() };
    send(&mut sent, &[], &welcome).await.expect("memory does not fail");
    sent
}
