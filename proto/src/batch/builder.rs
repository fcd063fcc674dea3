//! Making a batch.

use bytes::Bytes;

use super::header::{HEADER_BYTES, LENGTH_OVERHEAD, MAGIC};
use super::validated::seal_checksum;
use super::{BatchHeader, Compression, varint};
use crate::ProducerId;

/// The most bytes that records of one batch may take before compression: far above any `max.message.bytes`, far below
/// where Kafka's 32-bit lengths end.
const MAX_RECORDS_BYTES: usize = 1 << 30;

/// Collects records and makes them one batch, base offset 0.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    compression: Compression,
    producer: Producer,
    /// Room for the header, then encoded records.
    buffer: Vec<u8>,
    record_count: u32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Producer {
    id: ProducerId,
    epoch: i16,
    base_sequence: i32,
}

/// Kafka's "no producer".
const NO_PRODUCER: Producer = Producer { id: ProducerId(-1), epoch: -1, base_sequence: -1 };

impl BatchBuilder {
    /// An empty batch whose records will be compressed like this.
    pub fn new(compression: Compression) -> Self {
        Self::with_capacity(compression, HEADER_BYTES)
    }

    /// The same, with room for `bytes` of header and records: a batch that grows as it fills is copied each time it does.
    pub fn with_capacity(compression: Compression, bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(bytes.clamp(HEADER_BYTES, MAX_RECORDS_BYTES));
        buffer.resize(HEADER_BYTES, 0);
        Self {
            compression,
            producer: NO_PRODUCER,
            buffer,
            record_count: 0,
            base_timestamp_ms: 0,
            max_timestamp_ms: i64::MIN,
        }
    }

    /// Makes the batch idempotent: `base_sequence` is the sequence number of its first record.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: i16, base_sequence: i32) -> Self {
        self.producer = Producer { id, epoch, base_sequence };
        self
    }

    /// Appends a record; `timestamp_ms` counts from the epoch, `None` is Kafka's null.
    ///
    /// # Panics
    /// If the records would take more than 1 GiB: callers bound what they put into a batch long before.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) {
        if self.record_count == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        let delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let body = body_bytes(delta, self.record_count, key, value, headers);
        let total = self.buffer.len().saturating_add(body);
        assert!(total < MAX_RECORDS_BYTES, "a record batch of {total} bytes goes beyond {MAX_RECORDS_BYTES}");

        varint::put(&mut self.buffer, body as i64);
        self.buffer.push(0);
        varint::put(&mut self.buffer, delta);
        varint::put(&mut self.buffer, i64::from(self.record_count));
        self.put_nullable(key);
        self.put_nullable(value);
        varint::put(&mut self.buffer, headers.len() as i64);
        for (name, value) in headers {
            self.put_nullable(Some(name.as_bytes()));
            self.put_nullable(*value);
        }
        self.record_count += 1;
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
    }

    fn put_nullable(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => varint::put(&mut self.buffer, -1),
            Some(bytes) => {
                varint::put(&mut self.buffer, bytes.len() as i64);
                self.buffer.extend_from_slice(bytes);
            }
        }
    }

    /// Records so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch so far, header included, before compression.
    pub fn estimated_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Compresses the records and writes header and checksum.
    ///
    /// # Panics
    /// If there is no record: Kafka knows no empty batch.
    pub fn finish(mut self) -> Bytes {
        assert!(self.record_count > 0, "a record batch holds at least one record");
        let mut batch = match self.compression {
            Compression::None => std::mem::take(&mut self.buffer),
            codec => codec.compress(vec![0; HEADER_BYTES], &self.buffer[HEADER_BYTES..]),
        };
        let header = self.header(batch.len());
        batch[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        seal_checksum(&mut batch);
        batch.into()
    }

    fn header(&self, total_bytes: usize) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: (total_bytes - LENGTH_OVERHEAD) as i32,
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: i16::from(self.compression.codec()),
            last_offset_delta: self.record_count as i32 - 1,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: self.producer.id.0,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            record_count: self.record_count as i32,
        }
    }
}

/// Bytes of a record without the length before it.
fn body_bytes(
    timestamp_delta: i64,
    offset_delta: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) -> usize {
    let pairs = headers.iter().map(|(name, value)| nullable_bytes(Some(name.as_bytes())) + nullable_bytes(*value));
    1 + varint::encoded_len(timestamp_delta)
        + varint::encoded_len(i64::from(offset_delta))
        + nullable_bytes(key)
        + nullable_bytes(value)
        + varint::encoded_len(headers.len() as i64)
        + pairs.sum::<usize>()
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::encoded_len(bytes.len() as i64) + bytes.len())
}

/// The most bytes that such a record adds to a batch before compression, wherever in a batch it comes.
pub fn encoded_record_bytes(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> usize {
    let body = body_bytes(i64::MIN, i32::MAX as u32, key, value, headers);
    varint::encoded_len(body as i64) + body
}
