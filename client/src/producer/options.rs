//! How to produce.

use std::time::Duration;

use stratalog_proto::batch::Compression;

/// How a producer collects, compresses and sends records.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// How batches are compressed.
    pub compression: Compression,
    /// How long a batch waits for more records before it is sent.
    pub linger: Duration,
    /// The size of a batch before compression; a larger record is a batch of its own.
    pub batch_bytes: usize,
    /// The most memory that records take which are not acknowledged yet.
    pub buffer_bytes: usize,
    /// How long a record may take from [`crate::Producer::send`] to its acknowledgement, retries included. It is
    /// counted from the oldest record of a batch.
    pub deadline: Duration,
    /// Whether a batch that is sent again is appended once, so that a lost connection costs nothing. Without it there
    /// is one batch in flight for each partition, and what was in flight on a lost connection has an unknown outcome: it
    /// may even come into the log behind what was sent after it.
    pub idempotent: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Zstd,
            linger: Duration::from_millis(5),
            batch_bytes: 256 << 10,
            buffer_bytes: 32 << 20,
            deadline: Duration::from_secs(30),
            idempotent: true,
        }
    }
}
