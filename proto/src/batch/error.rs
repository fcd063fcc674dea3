//! What can be wrong with the bytes of a record batch.

use super::{Compression, HEADER_BYTES};
use crate::{Code, Error};

/// Why bytes are not a record batch that we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header.
    #[error("a record batch has at least {HEADER_BYTES} bytes, here are {have}")]
    TooShort {
        /// Bytes given.
        have: usize,
    },
    /// The declared length is not the length of what was given.
    #[error("the record batch declares {declared} bytes in all, here are {have}")]
    Length {
        /// Bytes that the header declares, the twelve before its length field included.
        declared: i64,
        /// Bytes given.
        have: usize,
    },
    /// Kafka's formats before 0.11.
    #[error("record batch of magic {magic}; only magic 2 (Kafka 0.11 and later) is accepted")]
    Magic {
        /// The magic byte.
        magic: i8,
    },
    /// Bytes were damaged on their way.
    #[error("the record batch's checksum is {stored:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A codec that Kafka does not define.
    #[error("the record batch names compression codec {codec}; 0 to 4 (none, gzip, snappy, lz4, zstd) are known")]
    Codec {
        /// The low three bits of the attributes.
        codec: u8,
    },
    /// The header contradicts itself.
    #[error("the record batch counts {record_count} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// Records declared.
        record_count: i32,
        /// At least one less; exactly one less where no record can have been erased.
        last_offset_delta: i32,
    },
    /// A producer id needs an epoch and a first sequence number.
    #[error("the record batch names producer {producer_id} with epoch {producer_epoch} and sequence {base_sequence}")]
    Producer {
        /// The producer.
        producer_id: i64,
        /// Must not be negative.
        producer_epoch: i16,
        /// Must not be negative.
        base_sequence: i32,
    },
    /// The codec refuses the records.
    #[error("the records do not decompress as {}: {reason}", codec.name())]
    Decompress {
        /// The codec.
        codec: Compression,
        /// What it said.
        reason: String,
    },
    /// A decompression bomb, or records larger than the reader is ready to hold.
    #[error("the {} records decompress to more than {limit_bytes} bytes", codec.name())]
    Bomb {
        /// The codec.
        codec: Compression,
        /// The reader's limit.
        limit_bytes: usize,
    },
    /// A record contradicts itself or the batch.
    #[error("record {index} of the batch is not well formed: {reason}")]
    Record {
        /// Its place in the batch, from 0.
        index: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// More bytes than the declared records take.
    #[error("{bytes} bytes are left over behind the last record of the batch")]
    LeftOver {
        /// How many.
        bytes: usize,
    },
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        Error::new(Code::CorruptBatch, error.to_string())
    }
}
