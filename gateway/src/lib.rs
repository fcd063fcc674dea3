//! One module per foreign protocol: gRPC for the SDK, HTTP for everything that speaks JSON.
//!
//! - `front`: what answers requests, and that it changes when a node that waited for a cluster has joined one.
//! - `greeting`: connections of gRPC that do not begin end, and those of Kafka clients at a port that is not theirs.
//! - `grpc`: the services `Topics`, `Log`, `Query` and `Cluster` of `stratalog.v1`; record batches pass through unchanged.
//! - `http`: REST over HTTP/1.1, described for users in `docs/HTTP.md`.
//! - `ingest`: from the body of an HTTP request to record batches.
//! - `kafka`: Kafka's protocol, described for users in `docs/KAFKA.md`.
//! - `rows`: from the rows of an answer to JSON, NDJSON, CSV or an Arrow stream, and the task that pumps them.
//!
//! All of them call the same [`stratalog_broker::Broker`]; none has a private path to storage. What comes in is bounded
//! before memory is taken for it (X1): bodies after decompression, counts, the requests in flight of a stream, and the
//! time a peer may take. A short answer never looks like a whole one: an answer that fails half way ends the stream with
//! an error, and its statistics, which come last, are missing.

mod cluster;
mod dead_letters;
mod front;
mod gateway;
mod greeting;
mod grpc;
mod http;
mod ingest;
mod kafka;
mod metrics;
mod records;
mod rows;
mod segments;
mod serve;
mod waiting;

/// Tells tests what a decoder holds.
#[cfg(test)]
#[global_allocator]
static METER: stratalog_mutation::Meter = stratalog_mutation::Meter;

pub use dead_letters::dead_letter_reasons;
pub use gateway::{Gateway, GatewayOptions};
pub use kafka::{Kafka, KafkaOptions};
pub use rows::{JsonRows, unique_names};
pub use serve::{serve_grpc, serve_http};
pub use waiting::Waiting;
