//! What appenders, readers and the flush thread share.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use super::files::LogFile;
use super::format::Place;
use super::queue::{Group, Queue, Summed};
use super::{Done, Failed, LaneError, LanePos, LaneStats, LaneUsage};

pub(super) struct Shared {
    state: Mutex<State>,
    /// Tells the flush thread that there is work, or that the lane closes.
    wake: Condvar,
    /// The files that are needed, by number. Who reads one holds it; it is not given up before.
    files: RwLock<BTreeMap<u64, Arc<LogFile>>>,
}

struct State {
    queue: Queue,
    /// Everything before this was synced.
    durable: Place,
    /// The lowest file that is needed.
    needed: u64,
    /// The same, as a durable header says.
    floor: u64,
    stats: LaneStats,
    closing: bool,
    /// Set once, when no frame will ever be accepted again.
    stopped: Option<LaneError>,
    /// An error that another thread met: the flush thread is to stop the lane.
    failed: Option<LaneError>,
    watchers: Vec<Failed>,
}

/// What there is to do for the flush thread.
pub(super) enum Work {
    /// Make this group durable.
    Group(Group),
    /// Make it durable that files below are not needed.
    Floor,
    /// Stop: the disk failed elsewhere.
    Fail(LaneError),
}

impl Shared {
    /// Of a log that ends at `durable`; `files` are those that are needed, as a durable header says.
    pub(super) fn new(queue: Queue, durable: Place, floor: u64, files: Vec<LogFile>) -> Self {
        let state = State {
            queue,
            durable,
            needed: floor,
            floor,
            stats: LaneStats::default(),
            closing: false,
            stopped: None,
            failed: None,
            watchers: Vec::new(),
        };
        let files = files.into_iter().map(|log| (log.header.number, Arc::new(log))).collect();
        Self { state: Mutex::new(state), wake: Condvar::new(), files: RwLock::new(files) }
    }

    pub(super) fn push(&self, frames: Vec<Summed>, done: Done) -> Result<Vec<LanePos>, LaneError> {
        self.queue(|queue| queue.push(frames, done, Instant::now()))
    }

    /// See [`Queue::rotate`].
    pub(super) fn rotate(&self, done: Done) -> Result<u64, LaneError> {
        self.queue(|queue| queue.rotate(done, Instant::now()))
    }

    /// Queues something for the flush thread.
    fn queue<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> Result<R, LaneError> {
        let mut state = self.state.lock();
        if let Some(error) = &state.stopped {
            return Err(error.clone());
        }
        if state.closing {
            return Err(LaneError::Closed);
        }
        let queued = change(&mut state.queue);
        drop(state);
        self.wake.notify_one();
        Ok(queued)
    }

    /// Waits for work; `None` when the lane has closed and all is done. After `mark_after` of quiet, or before closing,
    /// the work is to write a mark; without `mark_after` no mark is due.
    pub(super) fn next_work(&self, mut mark_after: Option<Duration>) -> Option<Work> {
        let mut state = self.state.lock();
        let due = mark_after.map(|quiet| Instant::now() + quiet);
        loop {
            if let Some(work) = state.work() {
                return Some(work);
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
                state.queue.push_mark(Instant::now());
            } else if timed_out && state.closing {
                return None;
            }
        }
    }

    /// The work that there is now, if any.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn work(&self) -> Option<Work> {
        let mut state = self.state.lock();
        if state.stopped.is_some() { None } else { state.work() }
    }

    /// Queues a mark, unless something waits already.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn push_mark(&self) {
        self.state.lock().queue.push_mark(Instant::now());
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

    /// Refuses frames from now on; returns the `done`s of all that waited, and who watches for failures.
    pub(super) fn stop(&self, error: LaneError) -> (Vec<Done>, Vec<Failed>) {
        let mut state = self.state.lock();
        state.stopped.get_or_insert(error);
        let dones = std::iter::from_fn(|| state.queue.pop()).flat_map(|group| group.dones).collect();
        (dones, mem::take(&mut state.watchers))
    }

    /// Has the flush thread stop the lane, as if it had met this error itself.
    pub(super) fn fail(&self, error: LaneError) {
        self.state.lock().failed.get_or_insert(error);
        self.wake.notify_one();
    }

    /// Keeps `failed` until the lane fails; gives it back, with the error, if it has.
    pub(super) fn watch(&self, failed: Failed) -> Option<(Failed, LaneError)> {
        let state = &mut *self.state.lock();
        match &state.stopped {
            None => state.watchers.push(failed),
            Some(LaneError::Closed) => {}
            Some(error) => return Some((failed, error.clone())),
        }
        None
    }

    pub(super) fn add_file(&self, log: LogFile) {
        self.files.write().insert(log.header.number, Arc::new(log));
    }

    /// Forgets the files below `first_needed` and returns them; the file that the durable log ends in is always kept.
    pub(super) fn release(&self, first_needed: u64) -> Vec<Arc<LogFile>> {
        let mut state = self.state.lock();
        let needed = first_needed.min(state.durable.file);
        if needed <= state.needed {
            return Vec::new();
        }
        state.needed = needed;
        drop(state);
        self.wake.notify_one();
        let mut files = self.files.write();
        let kept = files.split_off(&needed);
        mem::replace(&mut *files, kept).into_values().collect()
    }

    /// The lowest file that is needed.
    pub(super) fn needed(&self) -> u64 {
        self.state.lock().needed
    }

    /// Records that a durable header has this floor.
    pub(super) fn floor_raised(&self, floor: u64) {
        let mut state = self.state.lock();
        assert!(state.floor < floor && floor <= state.needed, "L4: a file goes only after it was released");
        state.floor = floor;
    }

    /// The file that holds the bytes from `pos` on, if `bytes` of them are durable. It stays for as long as it is held.
    pub(super) fn durable_file(&self, pos: LanePos, bytes: u64) -> Result<Arc<LogFile>, LaneError> {
        let end = pos.offset.saturating_add(bytes);
        let state = self.state.lock();
        let (durable, needed) = (state.durable, state.needed);
        drop(state);
        if pos.file < needed {
            return Err(LaneError::Released(pos));
        }
        let log = self.files.read().get(&pos.file).cloned();
        log.filter(|log| end <= log.header.file_bytes && Place { file: pos.file, offset: end } <= durable)
            .ok_or(LaneError::NotDurable(pos))
    }

    pub(super) fn stats(&self) -> LaneStats {
        self.state.lock().stats
    }

    pub(super) fn usage(&self) -> LaneUsage {
        let files = self.files.read();
        let number = |log: Option<(&u64, &Arc<LogFile>)>| log.map_or(0, |(number, _)| *number);
        LaneUsage {
            first_file: number(files.first_key_value()),
            last_file: number(files.last_key_value()),
            bytes: files.values().map(|log| log.header.file_bytes).sum(),
        }
    }

    /// The file where the log goes on, and the bytes left for frames in it.
    pub(super) fn room(&self) -> (u64, u64) {
        self.state.lock().queue.room()
    }
}

impl State {
    fn work(&mut self) -> Option<Work> {
        if let Some(error) = self.failed.take() {
            return Some(Work::Fail(error));
        }
        let group = self.queue.pop().map(Work::Group);
        group.or_else(|| (self.needed > self.floor).then_some(Work::Floor))
    }
}
