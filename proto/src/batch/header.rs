//! The 61 bytes before the records.

use bytes::{Buf, BufMut};

use super::{BatchError, Compression};

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes that the batch's length field does not count: base offset and the field itself.
pub(super) const LENGTH_OVERHEAD: usize = 12;
/// The first byte that the checksum covers.
pub(super) const CHECKSUMMED_FROM: usize = 21;
/// The place of the checksum.
pub(super) const CHECKSUM_AT: usize = 17;
/// The place of the magic byte, the same in all of Kafka's formats.
pub(super) const MAGIC_AT: usize = 16;
/// The only format that is accepted.
pub(super) const MAGIC: i8 = 2;

/// The bits of the attributes that name the codec.
pub(super) const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The header of a batch, field by field as on the wire; -1 is Kafka's "none" for the producer fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The first of its offsets; 0 until the log has assigned one.
    pub base_offset: i64,
    /// Bytes of the batch from `leader_epoch` on.
    pub batch_length: i32,
    /// The term in which the batch was appended.
    pub leader_epoch: i32,
    /// 2.
    pub magic: i8,
    /// CRC32C of everything behind it.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// The last of its offsets, less `base_offset`.
    pub last_offset_delta: i32,
    /// Milliseconds since the epoch; records hold differences to it.
    pub base_timestamp_ms: i64,
    /// The largest timestamp of the records, in milliseconds since the epoch.
    pub max_timestamp_ms: i64,
    /// The idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence number of its first offset, or -1.
    pub base_sequence: i32,
    /// Records in the batch: one for each of its offsets, or fewer once some were erased.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the first [`HEADER_BYTES`] of a batch, without judging what they say.
    ///
    /// # Errors
    /// [`BatchError::TooShort`], and [`BatchError::Magic`] since older formats have another layout.
    pub fn read(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] as i8 != MAGIC {
            return Err(BatchError::Magic { magic: bytes[MAGIC_AT] as i8 });
        }
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::TooShort { have: bytes.len() });
        }
        let mut bytes = bytes;
        Ok(Self {
            base_offset: bytes.get_i64(),
            batch_length: bytes.get_i32(),
            leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp_ms: bytes.get_i64(),
            max_timestamp_ms: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            record_count: bytes.get_i32(),
        })
    }

    /// The [`HEADER_BYTES`] of the wire form.
    pub(super) fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut array = [0; HEADER_BYTES];
        let mut out = &mut array[..];
        out.put_i64(self.base_offset);
        out.put_i32(self.batch_length);
        out.put_i32(self.leader_epoch);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp_ms);
        out.put_i64(self.max_timestamp_ms);
        out.put_i64(self.producer_id);
        out.put_i16(self.producer_epoch);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
        array
    }

    /// How the records are compressed.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for a number that Kafka does not define.
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let codec = (self.attributes & CODEC_MASK) as u8;
        Compression::from_codec(codec).ok_or(BatchError::Codec { codec })
    }

    /// Whether the records' timestamps are all `max_timestamp_ms`, the time of the append.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the records are markers of the log itself, which no reader is shown.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// How many offsets the batch takes, which stays what it was when records of it are erased. 0 for a header that says
    /// nothing of the kind, which no [`Batch`](super::Batch) has.
    pub fn offset_count(&self) -> u32 {
        u32::try_from(i64::from(self.last_offset_delta) + 1).unwrap_or(0)
    }

    /// Whether each of its offsets has a record, as in every batch that a producer sends.
    pub fn is_dense(&self) -> bool {
        self.record_count >= 1 && i64::from(self.record_count) == i64::from(self.offset_count())
    }

    /// Whether an idempotent producer sent it.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Checks what the header says against itself and against the bytes that are there.
    pub(super) fn check(&self, have: usize) -> Result<(), BatchError> {
        let declared = i64::from(self.batch_length) + LENGTH_OVERHEAD as i64;
        if i64::try_from(have) != Ok(declared) {
            return Err(BatchError::Length { declared, have });
        }
        let (record_count, last_offset_delta) = (self.record_count, self.last_offset_delta);
        if last_offset_delta < 0 || record_count < 0 || record_count as u32 > self.offset_count() {
            return Err(BatchError::Count { record_count, last_offset_delta });
        }
        self.compression()?;
        self.check_producer()
    }

    fn check_producer(&self) -> Result<(), BatchError> {
        // Markers of transactions name a producer and no sequence.
        let complete = self.producer_epoch >= 0 && self.base_sequence >= 0;
        if !self.has_producer() || self.is_control() || complete {
            return Ok(());
        }
        Err(BatchError::Producer {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
        })
    }
}
