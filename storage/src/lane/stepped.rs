use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::flush::Flusher;
use super::open::open;
use super::shared::Work;
use super::{Lane, LaneError, LaneOptions, Recovery};
use crate::Io;

/// The number of every lane that is made here, so that the bytes of a run depend on what is appended alone.
const LANE: u64 = 0x7374_6570_7065_6421;

/// A lane without threads: what its flush thread and its maker of files would do is done step by step, when it is asked
/// for. So a scheduler decides what happens before what, and the same decisions give the same bytes.
///
/// What was appended waits until [`SteppedLane::flush`]. `done`s are called by that.
pub struct SteppedLane {
    lane: Arc<Lane>,
    flusher: Flusher,
    /// Work that could not be done because there is no room for the next file.
    waiting: Option<Work>,
}

impl SteppedLane {
    /// As [`Lane::open`].
    ///
    /// # Errors
    /// As [`Lane::open`].
    pub fn open(io: Arc<dyn Io>, dir: &Path, options: LaneOptions) -> Result<(Self, Recovery), LaneError> {
        let (flusher, recovery) = open(io, dir, &options, || LANE)?;
        let lane = Arc::new(Lane::over(&flusher, &options));
        Ok((Self { lane, flusher, waiting: None }, recovery))
    }

    /// The lane, for all but the steps. Closing it ends appends; nothing is flushed by that.
    pub fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Makes the next group durable, or, if none waits, a floor that has risen. `false` if there was nothing to do, or
    /// the device has no room for the file that the group belongs in: it waits then.
    ///
    /// An error of the disk is told to all that wait, and the lane is dead.
    pub fn flush(&mut self) -> bool {
        let Some(work) = self.waiting.take().or_else(|| self.lane.shared.work()) else { return false };
        let reached = self.flusher.reach(&work);
        if reached.as_ref().is_err_and(LaneError::may_pass) {
            self.waiting = Some(work);
            return false;
        }
        self.flusher.finish(work, reached)
    }

    /// Gives up the files that nobody needs, and makes the next file; whether that is there now.
    pub fn make_spare(&mut self) -> bool {
        self.flusher.spare.prepare(true);
        self.flusher.spare.work_off();
        self.flusher.spare.is_ready()
    }

    /// Records in the log that all of it is durable, as quiet does. `false` if something waits, or it is recorded already.
    pub fn mark(&mut self) -> bool {
        if !self.flusher.unmarked || self.waiting.is_some() {
            return false;
        }
        self.lane.shared.push_mark();
        self.flush()
    }
}

impl fmt::Debug for SteppedLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedLane").field("lane", &self.lane).finish_non_exhaustive()
    }
}
