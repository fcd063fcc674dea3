//! What a node keeps on its disks: lanes (the write-ahead log), votes, replay segments, column segments and the
//! manifest.
//!
//! This crate knows no Raft and no network, and it blocks: callers bring their own threads. Bytes on disk are described
//! in `docs/FORMATS.md`.
//!
//! * Everything goes through [`Io`] and [`File`], so that a simulated disk can stand in for the real one.
//! * L1: a position of a [`Lane`] is acknowledged only after its bytes are on the medium.
//! * L4: what a replay segment holds was checked batch by batch when it was written, and can be checked again.
//! * S2: a [`Manifest`] takes a seal or a roll only on the frontier that it was built on.
//! * S3: what [`SegmentMeta`] says of times and offsets is computed from the rows of the segment, and exact.
//! * L5: bytes that fail a checksum are an error that names file and offset; they are truncated away only where the log
//!   itself proves that nobody was promised them.

pub mod col;
mod container;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
mod io;
mod lane;
mod manifest;
mod rec;
pub mod sabotage;
mod segment;
mod state;

pub use io::{File, Io, OpenMode, PooledDisk, RealDisk, Space, write_durably};
pub use lane::{
    DamagedLane, Done, Failed, Frame, FrameKind, GroupTimes, Lane, LaneDoubt, LaneError, LaneObserver, LaneOptions,
    LanePos, LaneStats, LaneUsage, RecoveredFrame, Recovery, SetAside, TornTail, Votes,
};
pub use manifest::{Manifest, MergeRejected, RollRejected, RowCounts, SealRejected, TopicManifest};
pub use rec::{
    ErasedOffsets, RecBatch, RecBatchRef, RecCursor, RecEpoch, RecError, RecHandle, RecMeta, RecRange, RecReader,
    RecSlice, RecSpec, RecTopicMeta, rec_file_name, repack, write_rec,
};
pub use segment::{FileInUse, OffsetRange, SegmentHandle, SegmentKind, SegmentMeta};
pub use state::{LogPoint, StateError, StateFiles, StateImage};

/// What tests of other rooms run a node on: a disk in memory with a seed, one that stands before another, and a lane that does
/// what it is told.
#[cfg(any(test, feature = "simulation"))]
pub mod simulation {
    pub use crate::io::hooked::{HookedDisk, Hooks};
    pub use crate::io::sim::{Dice, FaultRates, Op, Rot, SimDisk};
    pub use crate::lane::SteppedLane;
}
