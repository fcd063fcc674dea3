//! Constants of format version 1, and the types of columns.

use arrow::datatypes::{DataType, TimeUnit};

use crate::container::{self, FileKind};

/// The version that this release writes, and the highest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes under one checksum.
pub const BLOCK_BYTES: u64 = container::BLOCK_BYTES;
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

/// The most columns that a segment of so many rows may have.
pub fn max_columns(rows: usize) -> usize {
    MAX_COLUMNS.min(MAX_CELLS / rows.div_ceil(GRANULE_ROWS as usize).max(1))
}

/// What tells a column segment's file from others.
pub(crate) static KIND: FileKind = FileKind {
    name: "column segment",
    header_magic: *b"STRATCOL",
    trailer_magic: *b"LOCTARTS",
    version: FORMAT_VERSION,
};

const _: () = assert!(MAX_ROWS.div_ceil(GRANULE_ROWS) <= GRANULE_ROWS);

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
