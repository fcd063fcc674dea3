//! The Rust SDK of Stratalog: produce, consume, SQL, search and topics over gRPC.
//!
//! [`Client`] is the way in. It is cheap to clone, and its connection is made again whenever it was lost; given several
//! nodes of a cluster, it goes on with the next where one does not answer.
//!
//! What holds:
//! - A delivery that succeeded was fsynced on a majority (L1). One that did not says whether the record is certainly not
//!   in the log ([`SendError::Failed`]) or may be ([`SendError::Unknown`]); the two are never mixed up.
//! - Records of one producer stay in the order in which they were sent, partition by partition, also when batches are
//!   sent again; an idempotent producer (the default) writes each batch once, whatever happens to connections, copies
//!   that a lost connection still delivers included.
//! - A producer holds at most [`ProducerOptions::buffer_bytes`]; when they are full, [`Producer::send`] waits.
//! - A query's answer is whole, or an error: never short.
//!
//! ```no_run
//! use stratalog_client::{Client, ConsumerOptions, OutRecord, ProducerOptions, QueryOptions, Stop};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7070").await?;
//! client.create_topic("orders", 4, &[("retention".into(), "7d".into())]).await?;
//!
//! let producer = client.producer("orders", ProducerOptions::default()).await?;
//! let delivery = producer.send(OutRecord::keyed("user-7", r#"{"amount":12}"#)).await?;
//! let ack = delivery.await?;
//! println!("partition {}, offset {}", ack.partition, ack.offset);
//!
//! // With the token of the write, the query sees it.
//! let options = QueryOptions { tokens: producer.tokens(), ..QueryOptions::default() };
//! let mut answer = client.sql("SELECT sum(amount) FROM orders", &options).await?;
//! while let Some(rows) = answer.next().await? {
//!     println!("{} rows", rows.num_rows());
//! }
//!
//! let options = ConsumerOptions { stop: Stop::AtEnd, ..ConsumerOptions::default() };
//! let mut consumer = client.consumer("orders", options).await?;
//! while let Some(records) = consumer.next().await? {
//!     println!("{} records", records.len());
//! }
//! # Ok(())
//! # }
//! ```

mod backup;
mod client;
mod cluster;
mod consumer;
mod error;
mod groups;
mod learn;
mod nodes;
mod producer;
mod query;
mod reach;
mod retry;
mod topics;

/// Tells tests what a decoder holds.
#[cfg(test)]
#[global_allocator]
static METER: stratalog_mutation::Meter = stratalog_mutation::Meter;

pub use backup::ShardCopy;
pub use client::Client;
pub use consumer::{ConsumedRecord, Consumer, ConsumerOptions, ProducerEpoch, Start, Stop};
pub use error::{ClientError, SendError};
pub use producer::{Ack, Delivery, OutRecord, Producer, ProducerOptions};
pub use query::{Parameter, QueryOptions, QueryStream};
pub use topics::Verification;

pub use stratalog_proto::batch::Compression;
