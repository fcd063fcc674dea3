//! The container of a text index: Tantivy's files for one segment, behind a header that names rows, columns and files.
//! Described in bytes in `docs/FORMATS.md`.

mod container;
mod directory;
mod source;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use container::with_right_checksum;
pub(crate) use container::{Component, Container, write};
pub(crate) use directory::{BlobDirectory, segment_id};
pub use source::Source;

#[cfg(test)]
mod tests;
