//! Reading a topic from an offset on.

mod decode;
mod fetcher;
mod options;
mod positions;
mod source;

use bytes::Bytes;
use stratalog_proto::{Offset, PartitionId, ProducerId};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub use options::{ConsumerOptions, Start, Stop};

use crate::{Client, ClientError};
use fetcher::Fetcher;
use positions::Positions;
use source::Sources;

/// A record as it was produced, with the place that the log gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset in there.
    pub offset: Offset,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// `None` is Kafka's null.
    pub key: Option<Bytes>,
    /// `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Its headers, in order; keys may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Who wrote it; `None`: a producer that is not idempotent.
    pub producer: Option<ProducerEpoch>,
}

/// An idempotent producer, as the batches that it wrote name it. Of one epoch a log has no record twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerEpoch {
    /// Given out by the cluster.
    pub id: ProducerId,
    /// From 0 on. A producer begins the next one when it numbers its records anew.
    pub epoch: i16,
}

/// Reads a topic. Fetches run ahead of the reader, [`ConsumerOptions::prefetch`] answers far; dropping it ends them.
///
/// Records of one partition come in the order of their offsets. Where retention has dropped what was asked for, reading
/// goes on at the oldest record that is left.
///
/// ```no_run
/// # use stratalog_client::{Client, ConsumerOptions, Start, Stop};
/// # async fn example(client: Client) -> Result<(), stratalog_client::ClientError> {
/// let options = ConsumerOptions { start: Start::Latest, stop: Stop::Never, ..ConsumerOptions::default() };
/// let mut consumer = client.consumer("orders", options).await?;
/// while let Some(records) = consumer.next().await? {
///     for record in records {
///         println!("{}/{}: {:?}", record.partition, record.offset, record.value);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    answers: mpsc::Receiver<Result<Vec<ConsumedRecord>, ClientError>>,
    fetcher: AbortHandle,
}

impl Client {
    /// Starts reading a topic.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`; `Unavailable` if no node answers.
    pub async fn consumer(&self, topic: &str, options: ConsumerOptions) -> Result<Consumer, ClientError> {
        let positions = Positions::resolve(self, topic, &options).await?;
        let (sender, answers) = mpsc::channel(options.prefetch.max(1));
        let sources = Sources::find(self.clone(), options.zone.as_deref()).await;
        let fetcher = Fetcher::new(self.clone(), sources, topic, options, positions, sender);
        let task = tokio::spawn(fetcher.run());
        Ok(Consumer { answers, fetcher: task.abort_handle() })
    }
}

impl Consumer {
    /// The next records, at least one; `None` at the end that [`Stop::AtEnd`] asked for.
    ///
    /// # Errors
    /// `UnknownTopic` if it was deleted meanwhile, `OffsetOutOfRange` for a start beyond the end, `CorruptBatch`; and
    /// `Unavailable` when no node answered for [`ConsumerOptions::patience`]. After an error there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Vec<ConsumedRecord>>, ClientError> {
        self.answers.recv().await.transpose()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetcher.abort();
    }
}
