//! One whole batch whose header is known to be true.

use bytes::{Bytes, BytesMut};

use super::header::{CHECKSUM_AT, CHECKSUMMED_FROM, HEADER_BYTES, MAGIC_AT};
use super::{BatchError, BatchHeader, Compression, Records};
use crate::{Offset, ProducerId};

/// One whole batch: magic 2, the declared length, a known codec, and no more records than offsets.
///
/// What the records themselves hold is known only once they have been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    compression: Compression,
    bytes: Bytes,
}

impl Batch {
    /// Takes bytes that are exactly one batch, checksum included. Copies nothing.
    ///
    /// # Errors
    /// Whichever [`BatchError`] the header or the checksum shows first.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let batch = Self::parse_trusted(bytes)?;
        let computed = crc32c::crc32c(&batch.bytes[CHECKSUMMED_FROM..]);
        if computed != batch.header.crc {
            return Err(BatchError::Checksum { stored: batch.header.crc, computed });
        }
        Ok(batch)
    }

    /// The same without the pass over the bytes: for those that lay under a checksum of ours.
    ///
    /// # Errors
    /// As [`Batch::parse`], but for [`BatchError::Checksum`].
    pub fn parse_trusted(bytes: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::read(&bytes)?;
        header.check(bytes.len())?;
        let compression = header.compression()?;
        Ok(Self { header, compression, bytes })
    }

    /// The header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Records in the batch: as many as offsets, or fewer, down to none, once some were erased.
    pub fn record_count(&self) -> u32 {
        self.header.record_count as u32
    }

    /// Offsets that the batch takes, at least one.
    pub fn offset_count(&self) -> u32 {
        self.header.offset_count()
    }

    /// Checks that each offset has a record: what is demanded of a producer.
    ///
    /// # Errors
    /// [`BatchError::Count`].
    pub fn check_dense(&self) -> Result<(), BatchError> {
        let BatchHeader { record_count, last_offset_delta, .. } = self.header;
        if self.header.is_dense() { Ok(()) } else { Err(BatchError::Count { record_count, last_offset_delta }) }
    }

    /// The records, in order. Keys, values and headers are slices: of this batch when it is not compressed, else of
    /// one buffer that is made here.
    ///
    /// # Errors
    /// [`BatchError::Bomb`] if they decompress to more than `max_bytes`, which is also (but for a constant) the most
    /// memory that is taken; [`BatchError::Decompress`]; [`BatchError::Record`] if there cannot be as many records.
    pub fn records(&self, max_bytes: usize) -> Result<Records, BatchError> {
        let body = self.bytes.slice(HEADER_BYTES..);
        Records::new(&self.header, self.compression.decompress(body, max_bytes)?)
    }

    /// The batch as it leaves in a fetch: its header with the place that the log gave it, and the rest as a slice of
    /// the same buffer. The patched fields lie outside the checksum.
    ///
    /// # Panics
    /// If `base_offset` is above `i64::MAX`, which the log never assigns (L2).
    pub fn patched(&self, base_offset: Offset, leader_epoch: i32) -> (Bytes, Bytes) {
        let header = self.patched_header(base_offset, leader_epoch);
        (Bytes::copy_from_slice(&header), self.bytes.slice(HEADER_BYTES..))
    }

    /// The first part of [`Batch::patched`], without taking memory for it.
    ///
    /// # Panics
    /// As [`Batch::patched`].
    pub fn patched_header(&self, base_offset: Offset, leader_epoch: i32) -> [u8; HEADER_BYTES] {
        let base_offset = i64::try_from(base_offset.0).expect("L2: an offset is at most i64::MAX");
        let mut header: [u8; HEADER_BYTES] = *self.bytes.first_chunk().expect("a batch has a header");
        header[..8].copy_from_slice(&base_offset.to_be_bytes());
        header[12..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
        header
    }

    /// A copy that another producer, or the same one with other numbers, would have sent. Only for a batch of which it
    /// is certain that it was not appended under its old numbers.
    pub fn with_producer(&self, id: ProducerId, epoch: i16, base_sequence: i32) -> Bytes {
        let (producer_id, producer_epoch) = (id.0, epoch);
        let header = BatchHeader { producer_id, producer_epoch, base_sequence, ..self.header.clone() };
        let mut bytes = BytesMut::from(&self.bytes[..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        seal_checksum(&mut bytes);
        bytes.freeze()
    }
}

/// Writes the checksum of a finished batch into its header.
pub(super) fn seal_checksum(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CHECKSUMMED_FROM..]);
    batch[CHECKSUM_AT..CHECKSUMMED_FROM].copy_from_slice(&crc.to_be_bytes());
}
