//! SaslHandshake: how a client wants to say who it is. There is no SASL yet: without this request a client would find that out by
//! itself, or take it for a network that fails, and this node would know nothing of it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::api::Request;
use super::connection::Client;
use super::wire::Malformed;

/// The longest part of a mechanism's name that is logged: those that there are have up to 18.
const SHOWN_CHARS: usize = 40;

pub(super) fn answer(client: &Client, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: SaslHandshakeRequest = request.decode()?;
    if !client.was_refused_sasl.swap(true, Ordering::Relaxed) {
        let mechanism: String = asked.mechanism.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
        tracing::info!(
            peer = %client.peer,
            "a client of the Kafka listener wants SASL ({mechanism}), which there is not: set security.protocol=PLAINTEXT"
        );
    }
    let refused = ResponseError::UnsupportedSaslMechanism.code();
    request.encode(&SaslHandshakeResponse::default().with_error_code(refused))
}
