use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::LaneError;
use super::format::SECTOR;
use crate::Space;

/// Of a small device, no more than this part is kept free.
const RESERVE_PART: u64 = 16;

/// Sizes and times of a lane.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// The size of a new file, in bytes: a multiple of 512 between 4 KiB and 1 GiB. A frame has to fit one file.
    pub file_bytes: u64,
    /// A flush group is closed once it has this many bytes.
    pub group_bytes: u64,
    /// After this much quiet the flush thread records, in the log itself, that all of it is durable.
    pub mark_after: Duration,
    /// The log does not grow while that would leave less than this on its device, in bytes: what makes room again needs
    /// some itself. Of a device below 16 times this, a sixteenth is kept.
    pub reserve_bytes: u64,
    /// Told of each group that became durable.
    pub observer: Option<Arc<dyn LaneObserver>>,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self {
            file_bytes: 128 << 20,
            group_bytes: 8 << 20,
            mark_after: Duration::from_millis(100),
            reserve_bytes: 256 << 20,
            observer: None,
        }
    }
}

impl LaneOptions {
    /// Refuses sizes that no lane can have.
    pub(super) fn check(&self) -> Result<(), LaneError> {
        let bytes = self.file_bytes;
        if !(4096..=1 << 30).contains(&bytes) || !bytes.is_multiple_of(SECTOR) {
            let message = format!("file_bytes is a multiple of 512 between 4 KiB and 1 GiB, not {bytes}");
            return Err(LaneError::Options(message));
        }
        Ok(())
    }
}

/// What is kept free of a device when `reserve_bytes` are asked for.
pub(super) fn reserve_of(space: Space, reserve_bytes: u64) -> u64 {
    reserve_bytes.min(space.total / RESERVE_PART)
}

/// Is told of each group of frames that a lane made durable.
pub trait LaneObserver: Debug + Send + Sync {
    /// Called on the flush thread, before the group is acknowledged: it must neither block nor panic.
    fn group(&self, times: &GroupTimes);
}

/// How long a group took, and how large it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupTimes {
    /// From the append of its first frame until its write began.
    pub queued: Duration,
    /// Encoding and writing it.
    pub write: Duration,
    /// Making it durable.
    pub sync: Duration,
    /// Bytes in it, headers and padding included.
    pub bytes: u64,
    /// Frames in it, at least one.
    pub frames: usize,
}

/// What a lane has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Flush groups written, each with one sync.
    pub groups: u64,
    /// Frames in them.
    pub frames: u64,
    /// Bytes in them, headers and padding included.
    pub bytes: u64,
    /// Time spent in syncs, in nanoseconds.
    pub sync_ns: u64,
    /// Zeroes written into files ahead of the log, in bytes.
    pub zeroed_bytes: u64,
    /// Files that were made of the space of one that was released.
    pub recycled_files: u64,
}

/// The files that a lane needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneUsage {
    /// The lowest file that was not released.
    pub first_file: u64,
    /// The file that the log goes on in.
    pub last_file: u64,
    /// The size of the files from the first to the last, in bytes.
    pub bytes: u64,
}
