//! Constants of format version 1, the types of columns, and the two fixed ends of a file.

use arrow::datatypes::{DataType, TimeUnit};
use stratalog_proto::{SegmentId, ShardId, TopicId};

use super::cursor::{Cursor, Malformed};

/// The version that this release writes, and the highest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes under one checksum.
pub const BLOCK_BYTES: u64 = 64 << 10;
/// Rows of a granule; the last one of a segment may have fewer.
pub const GRANULE_ROWS: u32 = 8_192;
/// The most rows in a segment. A zone map has one value a granule, so that it is itself no longer than a granule.
pub const MAX_ROWS: u32 = GRANULE_ROWS * GRANULE_ROWS;
/// The most columns in a segment.
pub(super) const MAX_COLUMNS: usize = 16_384;
/// The most (column, granule) cells in a segment: bounds what opening one takes.
pub(super) const MAX_CELLS: usize = 1 << 22;
/// The most partitions in a segment.
pub(super) const MAX_RANGES: usize = 1 << 20;
/// The longest column name, in bytes.
pub(super) const MAX_NAME_BYTES: usize = u16::MAX as usize;

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const TRAILER_BYTES: usize = 64;
pub(super) const HEADER_MAGIC: [u8; 8] = *b"STRATCOL";
pub(super) const TRAILER_MAGIC: [u8; 8] = *b"LOCTARTS";

const _: () = assert!(MAX_ROWS.div_ceil(GRANULE_ROWS) <= GRANULE_ROWS);
const _: () = assert!(BLOCK_BYTES >= (HEADER_BYTES + TRAILER_BYTES) as u64);

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnType {
    Boolean,
    Int32,
    Int64,
    Float64,
    Utf8,
    TimeNs,
    TimeMs,
}

impl ColumnType {
    /// The type for an Arrow type; `None` if a column segment has none for it.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        let utc = |zone: &Option<std::sync::Arc<str>>| zone.as_deref() == Some("UTC");
        Some(match data_type {
            DataType::Boolean => ColumnType::Boolean,
            DataType::Int32 => ColumnType::Int32,
            DataType::Int64 => ColumnType::Int64,
            DataType::Float64 => ColumnType::Float64,
            DataType::Utf8 => ColumnType::Utf8,
            DataType::Timestamp(TimeUnit::Nanosecond, zone) if utc(zone) => ColumnType::TimeNs,
            DataType::Timestamp(TimeUnit::Millisecond, zone) if utc(zone) => ColumnType::TimeMs,
            _ => return None,
        })
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Int32 => DataType::Int32,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Utf8 => DataType::Utf8,
            ColumnType::TimeNs => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            ColumnType::TimeMs => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        }
    }

    pub(super) fn tag(self) -> u8 {
        match self {
            ColumnType::Boolean => 1,
            ColumnType::Int32 => 2,
            ColumnType::Int64 => 3,
            ColumnType::Float64 => 4,
            ColumnType::Utf8 => 5,
            ColumnType::TimeNs => 6,
            ColumnType::TimeMs => 7,
        }
    }

    pub(super) fn from_tag(tag: u8) -> Option<Self> {
        use ColumnType::*;
        [Boolean, Int32, Int64, Float64, Utf8, TimeNs, TimeMs].into_iter().find(|column| column.tag() == tag)
    }
}

/// The first bytes of a file: whose it is, in case its footer is damaged. Covered by the checksum of block 0.
pub(super) fn encode_header(shard: ShardId, id: SegmentId, topic: TopicId) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(&HEADER_MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&shard.0.to_le_bytes());
    header[16..32].copy_from_slice(id.as_bytes());
    header[32..48].copy_from_slice(topic.as_bytes());
    header
}

/// The last bytes of a file: where the footer is, and the hash of everything before the trailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) blake3: [u8; 32],
    /// Where the footer starts, which is where the blocks end.
    pub(super) footer_start: u64,
    pub(super) footer_len: u32,
    pub(super) footer_crc: u32,
    pub(super) version: u32,
}

impl Trailer {
    pub(super) fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[0..32].copy_from_slice(&self.blake3);
        bytes[32..40].copy_from_slice(&self.footer_start.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.footer_len.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.footer_crc.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.version.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        bytes[56..64].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Reads the last [`TRAILER_BYTES`] of a file. The version is for the caller to judge.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let trailer = Self {
            blake3: cursor.array()?,
            footer_start: cursor.u64()?,
            footer_len: cursor.u32()?,
            footer_crc: cursor.u32()?,
            version: cursor.u32()?,
        };
        let crc = cursor.u32()?;
        if cursor.array()? != TRAILER_MAGIC {
            return Err(Malformed("the file does not end as a column segment does"));
        }
        cursor.finish()?;
        if crc32fast::hash(&bytes[..52]) != crc {
            return Err(Malformed("the trailer's checksum does not match"));
        }
        Ok(trailer)
    }
}
