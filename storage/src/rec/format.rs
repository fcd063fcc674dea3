//! Constants of format version 1.

use crate::container::FileKind;

/// The version that this release writes, and the highest that it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// The longest span of a partition, unless it is a single batch: what finding an offset costs at most.
pub(super) const SPAN_BYTES: u64 = 32 << 10;
/// The most partitions in a segment, of all topics together.
pub(super) const MAX_PARTITIONS: usize = 1 << 20;

/// What tells a replay segment's file from others.
pub(crate) static KIND: FileKind = FileKind {
    name: "replay segment",
    header_magic: *b"STRATREC",
    trailer_magic: *b"CERTARTS",
    version: FORMAT_VERSION,
};
