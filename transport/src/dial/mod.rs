//! Connections to other nodes.

mod connect;
mod connection;
mod links;

pub(crate) use connect::{DialError, Dialer, unguarded};
pub(crate) use connection::Connection;
pub(crate) use links::Links;
