//! Messages as the bodies of HTTP/2 requests and answers.

mod outgoing;
mod received;

pub(crate) use outgoing::Outgoing;
pub(crate) use received::Received;
