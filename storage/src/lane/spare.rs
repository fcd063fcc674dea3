//! Makes the next file of a lane ahead of time, on a thread of its own.
//!
//! Space that was written once syncs about twice as fast as space that was only reserved, so the file is filled with
//! zeroes for as long as nobody waits for it; under load there is no time for that, and groups are so large that it
//! matters less. Either way it reads as zeroes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::LaneError;
use super::files::LogWriter;
use super::format::{FIRST_GROUP, FileHeader};
use crate::Io;
use crate::io::temporary_name;

/// Zeroes are written and synced in steps of this size.
const STEP: &[u8] = &[0; 1 << 20];
/// Between two steps the thread rests this many times as long as the step took, to leave the disk to the log.
const REST: u32 = 3;
/// How long to wait before a full device, or a process without descriptors, is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// The next file of a lane, ready or on its way.
pub(super) struct Spare {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What makes new files.
pub(super) struct Maker {
    pub(super) io: Arc<dyn Io>,
    pub(super) dir: PathBuf,
    pub(super) lane: u64,
    pub(super) file_bytes: u64,
}

struct Shared {
    maker: Maker,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The number of the next file.
    number: u64,
    step: Step,
    /// Somebody waits, or soon will: no more zeroes.
    urgent: bool,
    /// The lane closes: room is not worth waiting for.
    closing: bool,
    stop: bool,
}

enum Step {
    Idle,
    Wanted,
    Ready(LogWriter),
    Failed(LaneError),
}

impl Spare {
    /// Starts the thread. The next file has this number; `ready` is that file, if it is there already.
    pub(super) fn start(maker: Maker, number: u64, ready: Option<LogWriter>) -> io::Result<Self> {
        let step = ready.map_or(Step::Idle, Step::Ready);
        let state = Mutex::new(State { number, step, urgent: false, closing: false, stop: false });
        let shared = Arc::new(Shared { maker, state, changed: Condvar::new() });
        let worker = shared.clone();
        let thread = thread::Builder::new().name("lane-spare".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A handle to ask about the spare from elsewhere.
    pub(super) fn watch(&self) -> SpareWatch {
        SpareWatch(self.shared.clone())
    }

    /// Starts making the next file, if that has not begun. `urgent`: it is needed soon.
    pub(super) fn prepare(&self, urgent: bool) {
        let mut state = self.shared.state.lock();
        if matches!(state.step, Step::Idle) {
            state.step = Step::Wanted;
        }
        state.urgent |= urgent;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits for the next file and takes it. A full device, or a lack of descriptors, is waited for until the lane closes.
    pub(super) fn take(&self) -> Result<LogWriter, LaneError> {
        self.prepare(true);
        let mut state = self.shared.state.lock();
        loop {
            match std::mem::replace(&mut state.step, Step::Idle) {
                Step::Ready(next) => {
                    state.number += 1;
                    state.urgent = false;
                    return Ok(next);
                }
                Step::Failed(error) if state.closing || !error.may_pass() => return Err(error),
                other => state.step = other,
            }
            self.shared.changed.wait(&mut state);
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic while it holds anything; and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// Asks about the spare file from outside the flush thread.
pub(super) struct SpareWatch(Arc<Shared>);

impl SpareWatch {
    /// Bytes that can be written behind a log that goes on in file `number` with `left` bytes of it. The log may have
    /// gone on into the next file before that was made, or was taken.
    pub(super) fn room_bytes(&self, number: u64, left: u64) -> u64 {
        let state = self.0.state.lock();
        match &state.step {
            Step::Ready(next) if number < state.number => left + next.log.header.file_bytes,
            Step::Ready(_) if number == state.number => left,
            _ if number < state.number => left,
            _ => 0,
        }
    }

    /// Says that the lane closes.
    pub(super) fn close(&self) {
        self.0.state.lock().closing = true;
        self.0.changed.notify_all();
    }
}

impl Maker {
    /// Makes a file whole and durable, now.
    pub(super) fn make(&self, number: u64) -> io::Result<LogWriter> {
        self.start(number)?.finish(&*self.io, &self.dir)
    }

    fn start(&self, number: u64) -> io::Result<LogWriter> {
        LogWriter::start(&*self.io, &self.dir, FileHeader { lane: self.lane, number, file_bytes: self.file_bytes })
    }

    /// Gives back the space of a file that could not be made.
    fn clean_up(&self, number: u64) {
        let path = temporary_name(&self.dir.join(super::format::file_name(number)));
        if let Err(error) = self.io.remove(&path) {
            tracing::debug!(%error, "a lane file that was not finished stays until the next start");
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut told = false;
        while let Some(number) = self.wanted() {
            let step = match self.make(number) {
                Ok(next) => {
                    told = false;
                    Step::Ready(next)
                }
                Err(error) => {
                    self.maker.clean_up(number);
                    if !told {
                        tracing::warn!(%error, "cannot make the next lane file; trying again");
                    }
                    told = true;
                    Step::Failed(error.into())
                }
            };
            self.state.lock().step = step;
            self.changed.notify_all();
        }
    }

    /// Waits until a file is wanted; `None` to stop. A file that failed is wanted again after a while.
    fn wanted(&self) -> Option<u64> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            match &state.step {
                Step::Wanted => return Some(state.number),
                Step::Failed(_) if !state.closing => {
                    if self.changed.wait_for(&mut state, RETRY).timed_out() && matches!(state.step, Step::Failed(_)) {
                        state.step = Step::Wanted;
                    }
                }
                _ => self.changed.wait(&mut state),
            }
        }
    }

    fn make(&self, number: u64) -> io::Result<LogWriter> {
        let next = self.maker.start(number)?;
        self.fill(&next)?;
        next.finish(&*self.maker.io, &self.maker.dir)
    }

    /// Writes zeroes, step by step, until the end or until somebody waits.
    fn fill(&self, next: &LogWriter) -> io::Result<()> {
        let mut at = FIRST_GROUP;
        while at < next.log.header.file_bytes {
            let started = Instant::now();
            let bytes = (next.log.header.file_bytes - at).min(STEP.len() as u64);
            if self.leave(Duration::ZERO) {
                break;
            }
            next.file.write_at(at, &STEP[..bytes as usize])?;
            next.file.sync_data()?;
            at += bytes;
            if self.leave(started.elapsed() * REST) {
                break;
            }
        }
        Ok(())
    }

    /// Rests; whether there is no more time for zeroes.
    fn leave(&self, rest: Duration) -> bool {
        let hurried = |state: &State| state.urgent || state.stop || state.closing;
        let mut state = self.state.lock();
        if !hurried(&state) && !rest.is_zero() {
            self.changed.wait_for(&mut state, rest);
        }
        hurried(&state)
    }
}
