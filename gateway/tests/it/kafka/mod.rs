//! Kafka's protocol, spoken by the library's half for clients.

mod bad_input;
mod client;
mod log;
mod topics;
