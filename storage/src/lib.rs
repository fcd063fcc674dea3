//! What a node keeps on its disks: lanes (the write-ahead log), votes, column segments and the manifest.
//!
//! This crate knows no Raft and no network, and it blocks: callers bring their own threads. Bytes on disk are described
//! in `docs/FORMATS.md`.
//!
//! * Everything goes through [`Io`] and [`File`], so that a simulated disk can stand in for the real one.
//! * L1: a position of a [`Lane`] is acknowledged only after its bytes are on the medium.
//! * S2: a [`Manifest`] takes a seal only on the row frontier that the seal was built on.
//! * S3: what [`SegmentMeta`] says of times and offsets is computed from the rows of the segment, and exact.
//! * L5: bytes that fail a checksum are an error that names file and offset; they are truncated away only where the log
//!   itself proves that nobody was promised them.

pub mod col;
mod io;
mod lane;
mod manifest;
mod segment;

pub use io::{File, Io, OpenMode, PooledDisk, RealDisk, write_durably};
pub use lane::{
    Done, Frame, FrameKind, Lane, LaneError, LaneOptions, LanePos, LaneStats, RecoveredFrame, Recovery, TornTail, Votes,
};
pub use manifest::{Manifest, SealRejected, TopicManifest};
pub use segment::{OffsetRange, SegmentHandle, SegmentKind, SegmentMeta};
