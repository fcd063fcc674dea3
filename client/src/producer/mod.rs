//! Writing to a topic.
//!
//! Callers put records into the open batch of a partition (`shared`); one task (`sender`) sends what is due. What may
//! be sent and what an answer changes is decided by `queue`, which does no IO.

mod delivery;
mod identity;
mod options;
mod patience;
mod queue;
mod record;
mod seal;
mod sender;
mod shared;
mod sticky;
mod verdict;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use stratalog_proto::{Code, Token};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

pub use delivery::{Ack, Delivery};
pub use options::ProducerOptions;
pub use record::OutRecord;

use crate::{Client, ClientError, SendError};
use delivery::heard;
use identity::new_identity;
use queue::Limits;
use sender::Sender;
use shared::Shared;

/// The largest record: a batch of it still fits the largest `max.message.bytes` and a gRPC message.
const MAX_RECORD_BYTES: usize = 32 << 20;

/// Writes to one topic. To share it between tasks, put it into an `Arc`; its methods take `&self`.
///
/// Dropping it sends what it holds in the background; [`Producer::close`] waits for that.
///
/// ```no_run
/// # use stratalog_client::{Client, OutRecord, ProducerOptions, SendError};
/// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let producer = client.producer("orders", ProducerOptions::default()).await?;
/// let delivery = producer.send(OutRecord::keyed("user-7", r#"{"amount":12}"#)).await?;
/// match delivery.await {
///     Ok(ack) => println!("at offset {} after {:?}", ack.offset, ack.latency),
///     Err(SendError::Failed { code, message }) => println!("not written ({code}): {message}"),
///     Err(SendError::Unknown { message }) => println!("perhaps written: {message}"),
/// }
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts writing to a topic.
    ///
    /// # Errors
    /// `UnknownTopic`; `InvalidConfig` for options that cannot be; `Unavailable` if no node answers.
    pub async fn producer(&self, topic: &str, options: ProducerOptions) -> Result<Producer, ClientError> {
        let described = self.describe_topic(topic).await?;
        let topic_info = described.topic.unwrap_or_default();
        if topic_info.partitions == 0 {
            return Err(ClientError::new(
                Code::Internal,
                format!("the node describes topic {topic} without partitions"),
            ));
        }
        let max_message_bytes = topic_info.config.map_or(0, |config| config.max_message_bytes);
        let limits = limits(&options, max_message_bytes as usize)?;
        let identity = if options.idempotent { Some(new_identity(self).await?) } else { None };
        let buffer_bytes = options.buffer_bytes.min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared::new(topic, topic_info.partitions, limits, buffer_bytes, identity));
        let sender = tokio::spawn(Sender::new(self.clone(), shared.clone(), options.idempotent).run());
        Ok(Producer { shared, sender: Some(sender) })
    }
}

/// Checks the options, and keeps batches below what the topic accepts.
fn limits(options: &ProducerOptions, max_message_bytes: usize) -> Result<Limits, ClientError> {
    if options.batch_bytes == 0 || options.buffer_bytes == 0 || options.deadline.is_zero() {
        let message = "batch_bytes, buffer_bytes and deadline of a producer are above zero";
        return Err(ClientError::new(Code::InvalidConfig, message));
    }
    let max_message_bytes = if max_message_bytes == 0 { usize::MAX } else { max_message_bytes };
    // Codecs make what does not compress a little larger.
    let accepted = max_message_bytes / 16 * 15;
    Ok(Limits {
        compression: options.compression,
        linger: options.linger,
        batch_bytes: options.batch_bytes.min(options.buffer_bytes).min(accepted),
        max_message_bytes,
        deadline: options.deadline,
    })
}

impl Producer {
    /// Adds a record to a batch; waits while the buffer is full. What becomes of the record, its [`Delivery`] tells.
    ///
    /// # Errors
    /// [`SendError::Failed`]: no room within the deadline (`Overloaded`), a record that no batch can hold
    /// (`MessageTooLarge`), no such partition, or a closed producer.
    pub async fn send(&self, record: OutRecord) -> Result<Delivery, SendError> {
        let now = Instant::now();
        let bytes = record.encoded_bytes();
        let room = self.room(bytes).await?;
        self.shared.push(&record, bytes, room, now)
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, SendError> {
        let largest = self.shared.buffer_bytes.min(MAX_RECORD_BYTES);
        let Some(permits) = u32::try_from(bytes).ok().filter(|_| bytes <= largest) else {
            let message = format!("a record takes {bytes} bytes; this producer holds at most {largest}");
            return Err(SendError::failed(Code::MessageTooLarge, message));
        };
        if let Ok(room) = self.shared.room.clone().try_acquire_many_owned(permits) {
            return Ok(room);
        }
        // What lingers takes room that somebody waits for.
        self.shared.end_linger();
        let deadline = self.shared.limits.deadline;
        let waited = tokio::time::timeout(deadline, self.shared.room.clone().acquire_many_owned(permits)).await;
        match waited {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(AcquireError { .. })) => Err(SendError::failed(Code::InvalidRequest, "the producer is closed")),
            Err(_) => {
                let message = format!("the producer's buffer had no room for {bytes} bytes within {deadline:?}");
                Err(SendError::failed(Code::Overloaded, message))
            }
        }
    }

    /// Sends what lingers, and waits for the outcome of everything that was sent so far.
    ///
    /// # Errors
    /// The first failure among it.
    pub async fn flush(&self) -> Result<(), SendError> {
        self.shared.end_linger();
        let mut first = Ok(());
        for outcome in self.shared.outcomes() {
            first = first.and(heard(outcome.await).map(|_| ()));
        }
        first
    }

    /// Flushes, and ends the producer.
    ///
    /// # Errors
    /// The first failure among what was not acknowledged yet.
    pub async fn close(mut self) -> Result<(), SendError> {
        let flushed = self.flush().await;
        self.shared.close();
        if let Some(sender) = self.sender.take() {
            // It panics or is cancelled only with the runtime.
            let _ = sender.await;
        }
        flushed
    }

    /// The highest position acknowledged in each shard: given to a query, makes it see all that this producer wrote.
    pub fn tokens(&self) -> Vec<Token> {
        self.shared.tokens()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.close();
    }
}
