//! What the maker of files has to do next: a pure value, without threads or files.

use std::sync::Arc;

use super::LaneError;
use super::files::{LogFile, LogWriter};

/// The next file of a lane, and the files that were released.
pub(super) struct State {
    /// The number of the next file.
    pub(super) number: u64,
    pub(super) step: Step,
    /// Somebody waits, or soon will: no more zeroes.
    pub(super) urgent: bool,
    /// The lane closes: room is not worth waiting for.
    pub(super) closing: bool,
    pub(super) stop: bool,
    /// The flush thread has something else to do than to wait for the next file.
    pub(super) interrupted: bool,
    /// The lowest file that is needed, as a durable header says.
    pub(super) floor: u64,
    /// Files that were released. One goes once the floor has passed it and nobody reads it any more.
    pub(super) released: Vec<Arc<LogFile>>,
    /// One of those, to make the next file of.
    pub(super) kept: Option<Arc<LogFile>>,
    /// Files below this number are not kept: what is in them is to be gone soon.
    pub(super) keep_from: u64,
    /// A failure was logged, and nothing has succeeded since.
    pub(super) told: bool,
}

/// How far the next file is.
pub(super) enum Step {
    Idle,
    Wanted,
    Making,
    Ready(LogWriter),
    Failed(LaneError),
}

pub(super) enum Job {
    /// Make the file of this number, which says this floor, of a file that is not needed.
    Make {
        number: u64,
        floor: u64,
        old: Option<Arc<LogFile>>,
    },
    Remove(Vec<Arc<LogFile>>),
}

impl State {
    /// `number` is the next file, and `ready` that file, if it is there; `unneeded` are files below `floor`, which a
    /// durable header says.
    pub(super) fn new(number: u64, ready: Option<LogWriter>, floor: u64, unneeded: Vec<LogFile>) -> Self {
        Self {
            number,
            step: ready.map_or(Step::Idle, Step::Ready),
            urgent: false,
            closing: false,
            stop: false,
            interrupted: false,
            floor,
            released: unneeded.into_iter().map(Arc::new).collect(),
            kept: None,
            keep_from: 0,
            told: false,
        }
    }

    /// What is to be done first: space is given back before any is taken.
    pub(super) fn next_job(&mut self, file_bytes: u64) -> Option<Job> {
        let floor = self.floor;
        let goes = |log: &mut Arc<LogFile>| log.header.number < floor && Arc::get_mut(log).is_some();
        let mut gone: Vec<_> = self.released.extract_if(.., goes).collect();
        if self.kept.is_none() {
            let fits = |log: &Arc<LogFile>| log.header.file_bytes == file_bytes && log.header.number >= self.keep_from;
            let fitting = gone.iter().position(fits);
            self.kept = fitting.map(|at| gone.swap_remove(at));
        }
        gone.extend(self.kept.take_if(|kept| kept.header.number < self.keep_from));
        if !gone.is_empty() {
            return Some(Job::Remove(gone));
        }
        matches!(self.step, Step::Wanted).then(|| {
            self.step = Step::Making;
            Job::Make { number: self.number, floor, old: self.kept.take() }
        })
    }

    /// Whether something has to be looked at again although nobody says so.
    pub(super) fn retries(&self) -> bool {
        let failed = matches!(self.step, Step::Failed(_)) && !self.closing;
        failed || self.released.iter().any(|log| log.header.number < self.floor)
    }
}
