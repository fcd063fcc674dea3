//! Requests, from the socket to what is asked. This folder names nothing of ours outside of itself but record batches: `fuzz/`
//! compiles it without the rest of the gateway.
//!
//! - `frames`: requests off the socket.
//! - `api`: which requests are answered, in which versions. Nothing is announced that is not built.
//! - `wire`: Kafka's encoding.
//! - `shape` and `shapes`: looking at a request before memory is taken for what it claims.
//! - `produce` and `fetch`: what is read by hand.

pub(in crate::kafka) mod api;
pub(in crate::kafka) mod fetch;
pub(in crate::kafka) mod frames;
pub(in crate::kafka) mod produce;
pub(in crate::kafka) mod shape;
mod shapes;
pub(in crate::kafka) mod wire;
