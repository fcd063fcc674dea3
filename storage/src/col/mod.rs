//! Column segments: immutable `.col` files, each with rows of one topic, of one shard and of one time bucket.
//! Bytes in `docs/FORMATS.md`, "Column segment".
//!
//! [`write_segment`] takes sorted rows, or [`write_columns`] a [`ColumnSource`] of them, and leaves a durable file; [`ColReader`] gives any column of any granule of
//! [`GRANULE_ROWS`] rows back. In between lie 64 KiB blocks: the checksum of each is verified at its first touch,
//! before a decoder sees a byte of it, and decoders survive any bytes all the same (X1).
//!
//! - S3: the rows of a segment lie in its bucket unless it is mixed; its offset and time ranges are exact.
//! - L5: a damaged block is an error that names the file and the block, never a wrong answer.

mod directory;
mod encoding;
mod error;
mod facts;
mod footer;
mod format;
mod reader;
mod section;
mod source;
pub mod system;
mod writer;
mod zones;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::KIND;

pub use error::ColError;
pub use format::{BLOCK_BYTES, FORMAT_VERSION, GRANULE_ROWS, MAX_ROWS, max_columns};
pub use reader::ColReader;
pub use section::Section;
pub use source::ColumnSource;
pub use writer::{ColSpec, segment_file_name, write_columns, write_segment};
