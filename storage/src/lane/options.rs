use std::time::Duration;

use super::LaneError;
use super::format::SECTOR;

/// Sizes and times of a lane.
#[derive(Clone, Debug)]
pub struct LaneOptions {
    /// The size of a new file, in bytes: a multiple of 512 between 4 KiB and 1 GiB. A frame has to fit one file.
    pub file_bytes: u64,
    /// A flush group is closed once it has this many bytes.
    pub group_bytes: u64,
    /// After this much quiet the flush thread records, in the log itself, that all of it is durable.
    pub mark_after: Duration,
}

impl Default for LaneOptions {
    fn default() -> Self {
        Self { file_bytes: 128 << 20, group_bytes: 8 << 20, mark_after: Duration::from_millis(100) }
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
}
