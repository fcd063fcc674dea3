//! The SDK against a node that is only a log in memory, and fails as it is told to.

mod connection;
mod consumer;
mod failover;
mod node;
mod producer;
mod query;
mod zone;
