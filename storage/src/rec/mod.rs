//! Replay segments: immutable `.rec` files of one shard, each with the record batches that a range of its log gave
//! offsets to. Bytes in `docs/FORMATS.md`, "Replay segment".
//!
//! Batches lie in them as a consumer gets them, those of a partition back to back, so that a fetch is one slice of the
//! file. [`write_rec`] and [`fn@repack`] are pure functions of their input: all replicas build the same file. [`RecReader`]
//! finds batches by offset, by time, and in the order of the log.
//!
//! - L2: the batches of a partition in a segment follow each other without a gap between their offsets; a gap within a
//!   batch comes from erasure.
//! - L4: what is freed from the log because it lies here was checked on its way in, batch by batch.
//! - L5: a damaged block is an error that names file, block and offsets, never a wrong answer.

mod batches;
mod erased;
mod error;
mod footer;
mod format;
mod handle;
mod meta;
mod order;
mod ordered;
mod partition;
mod reader;
mod repack;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use format::KIND;

pub use erased::ErasedOffsets;
pub use error::RecError;
pub use handle::RecHandle;
pub use meta::{RecMeta, RecRange, RecTopicMeta};
pub use ordered::{RecBatchRef, RecCursor};
pub use partition::RecEpoch;
pub use reader::{RecReader, RecSlice};
pub use repack::repack;
pub use writer::{RecBatch, RecSpec, rec_file_name, write_rec};
