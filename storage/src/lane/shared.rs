//! What appenders, readers and the flush thread share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::files::LogFile;
use super::format::Place;
use super::queue::{Group, Queue, Summed};
use super::{Done, LaneError, LanePos, LaneStats};

pub(super) struct Shared {
    state: Mutex<State>,
    /// Tells the flush thread that a group waits, or that the lane closes.
    wake: Condvar,
    files: RwLock<BTreeMap<u64, LogFile>>,
}

struct State {
    queue: Queue,
    /// Everything before this was synced.
    durable: Place,
    stats: LaneStats,
    closing: bool,
    /// Set once, when no frame will ever be accepted again.
    stopped: Option<LaneError>,
}

impl Shared {
    pub(super) fn new(queue: Queue, durable: Place, files: Vec<LogFile>) -> Self {
        let state = State { queue, durable, stats: LaneStats::default(), closing: false, stopped: None };
        let files = files.into_iter().map(|log| (log.header.number, log)).collect();
        Self { state: Mutex::new(state), wake: Condvar::new(), files: RwLock::new(files) }
    }

    pub(super) fn push(&self, frames: Vec<Summed>, done: Done) -> Result<Vec<LanePos>, LaneError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        if state.closing {
            return Err(LaneError::Closed);
        }
        let positions = state.queue.push(frames, done);
        drop(state);
        self.wake.notify_one();
        Ok(positions)
    }

    /// Waits for a group to write; `None` when the lane has closed and all is written. After `mark_after` of quiet, or
    /// before closing, the group is a mark; without `mark_after` no mark is due.
    pub(super) fn next_group(&self, mut mark_after: Option<Duration>) -> Option<Group> {
        let mut state = self.state.lock();
        let due = mark_after.map(|quiet| Instant::now() + quiet);
        loop {
            if let Some(group) = state.queue.pop() {
                return Some(group);
            }
            let timed_out = match due.filter(|_| mark_after.is_some() && !state.closing) {
                Some(due) => self.wake.wait_until(&mut state, due).timed_out(),
                None if state.closing => true,
                None => {
                    self.wake.wait(&mut state);
                    false
                }
            };
            if timed_out && mark_after.take().is_some() {
                state.queue.push_mark();
            } else if timed_out && state.closing {
                return None;
            }
        }
    }

    /// Records that a group was synced.
    pub(super) fn flushed(&self, durable: Place, frames: usize, bytes: u64, sync: Duration) {
        let mut state = self.state.lock();
        assert!(state.durable < durable, "L1: the durable position never goes back");
        state.durable = durable;
        state.stats.groups += 1;
        state.stats.frames += frames as u64;
        state.stats.bytes += bytes;
        state.stats.sync_ns += u64::try_from(sync.as_nanos()).unwrap_or(u64::MAX);
    }

    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// Refuses frames from now on; returns the `done`s of all that waited.
    pub(super) fn stop(&self, error: LaneError) -> Vec<Done> {
        let mut state = self.state.lock();
        state.stopped.get_or_insert(error);
        std::iter::from_fn(|| state.queue.pop()).flat_map(|group| group.dones).collect()
    }

    pub(super) fn add_file(&self, log: LogFile) {
        self.files.write().insert(log.header.number, log);
    }

    /// The file that holds the bytes from `pos` on, if `bytes` of them are durable.
    pub(super) fn durable_file(&self, pos: LanePos, bytes: u64) -> Result<LogFile, LaneError> {
        let end = pos.offset.saturating_add(bytes);
        let durable = self.state.lock().durable;
        let log = self.files.read().get(&pos.file).cloned();
        log.filter(|log| end <= log.header.file_bytes && Place { file: pos.file, offset: end } <= durable)
            .ok_or(LaneError::NotDurable(pos))
    }

    pub(super) fn stats(&self) -> LaneStats {
        self.state.lock().stats
    }

    /// The file where the log goes on, and the bytes left for frames in it.
    pub(super) fn room(&self) -> (u64, u64) {
        self.state.lock().queue.room()
    }
}
