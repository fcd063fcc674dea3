//! Kafka's v2 record batch: the one form in which records travel, are replicated and lie on disk.
//!
//! A batch is 61 bytes of header and then its records, compressed as one block by whoever produced them. It stays as
//! the producer sent it: only the base offset and the leader epoch, which lie outside its checksum, are ever patched.
//!
//! ```text
//!  0 base offset i64          12 leader epoch i32     21 attributes i16         35 max timestamp i64    53 base sequence i32
//!  8 length i32 (from 12 on)  16 magic i8 = 2         23 last offset delta i32  43 producer id i64      57 record count i32
//!                             17 crc32c u32 (21 on)   27 base timestamp i64     51 producer epoch i16   61 records
//! ```
//!
//! A batch takes `last offset delta + 1` offsets. A producer's has a record for each of them; in the log it may have fewer,
//! down to none, because some were erased ([`without`]).
//!
//! Numbers are big-endian; inside records they are zigzag varints. Layout and rules:
//! <https://kafka.apache.org/documentation/#recordbatch>.
//!
//! ```
//! use stratalog_proto::batch::{Batch, BatchBuilder, Compression};
//!
//! let mut builder = BatchBuilder::new(Compression::Zstd);
//! builder.push(1_700_000_000_000, Some(b"user-7"), Some(b"{\"n\":1}"), &[("source", Some(b"doc"))]);
//! let batch = Batch::parse(builder.finish())?;
//! let records = batch.records(1 << 20)?.collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(records[0].value.as_deref(), Some(&b"{\"n\":1}"[..]));
//! # Ok::<(), stratalog_proto::batch::BatchError>(())
//! ```

mod builder;
mod compression;
mod erase;
mod error;
mod header;
mod partitioner;
mod records;
mod several;
mod snappy;
mod validated;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, encoded_record_bytes};
pub use compression::Compression;
pub use erase::without;
pub use error::BatchError;
pub use header::{BatchHeader, HEADER_BYTES};
pub use partitioner::partition_for_key;
pub use records::{Header, HeaderIter, Headers, Record, Records};
pub use several::Batches;
pub use validated::Batch;
