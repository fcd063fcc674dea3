//! Kafka's protocol, spoken by the library's half for clients.

mod admin;
mod bad_input;
pub(crate) mod client;
mod connections;
mod epochs;
mod fetch_sessions;
pub(crate) mod groups;
mod listeners;
mod log;
mod pipelines;
mod replicas;
mod three;
mod topics;
