//! What the files of segments have in common: blocks under checksums, a footer that says what they hold, and a trailer
//! with the hash of it all. Bytes in `docs/FORMATS.md`, "Segment files".
//!
//! - L5: a damaged byte is an error that names file, block and bytes, whichever byte it is.
//! - X1: nothing that a file says is believed before it was checked, and no memory is taken for it before that.

mod blocks;
#[cfg(test)]
mod counting;
mod cursor;
mod error;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod parts;
mod sections;
mod trailer;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use blocks::{BLOCK_BYTES, part_of};
#[cfg(test)]
pub(crate) use counting::counted;
pub(crate) use cursor::{Cursor, Malformed};
pub(crate) use error::FileError;
pub(crate) use file::BlockFile;
pub(crate) use sections::Sections;
pub(crate) use trailer::{FileKind, HEADER_BYTES};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use trailer::{TRAILER_BYTES, Trailer};
pub(crate) use writer::{BlockWriter, Written, write_named};
