//! Connections between the nodes of a cluster: who is at the other end, and buffers that travel without being copied.
//!
//! What is said over them is the business of the broker: this room knows no Raft and reads no payload. A peer that does not
//! have the cluster's secret, is of another cluster, or is not the node that was meant is refused before anything else (X1).

mod body;
mod dial;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod http;
mod identity;
mod intake;
mod method;
mod options;
mod quiet;
mod serve;
mod service;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod wire;

pub use frame::{CallError, Frame, Frames};
pub use identity::{AddressBook, Identity};
pub use method::{Lane, Method};
pub use options::{Secret, Tls, TransportOptions};
pub use service::{Peer, PeerService};
pub use transport::Transport;
