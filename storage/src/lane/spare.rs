//! Has the next file of a lane made ahead of time, and gives up the files that nobody needs, on a thread of its own.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::LaneError;
use super::files::{LogFile, LogWriter};
use super::format::file_number;
use super::jobs::{Job, State, Step};
use super::maker::Maker;

/// How long to wait before a full device, a process without descriptors, or a reader of an old file is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// The next file of a lane, ready or on its way.
pub(super) struct Spare {
    shared: Arc<Shared>,
    /// `None` if whoever asks for the file makes it.
    thread: Option<JoinHandle<()>>,
}

/// Tells of an error of the disk that does not pass by itself.
pub(super) type Tell = Box<dyn Fn(LaneError) + Send + Sync>;

pub(super) struct Shared {
    pub(super) maker: Maker,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// The lane may be idle, and would learn of a failed disk only when it needs the next file.
    failed: Tell,
    /// Bytes that the log wrote so far.
    pub(super) logged: AtomicU64,
    /// Zeroes that were written into files ahead of the log.
    pub(super) zeroed: AtomicU64,
}

impl Spare {
    /// Watches over the next file and those after it, from this state on. `failed` is told of a disk that fails.
    pub(super) fn new(maker: Maker, state: State, failed: Tell) -> Self {
        let (logged, zeroed) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Shared { maker, state: Mutex::new(state), changed: Condvar::new(), failed, logged, zeroed };
        Self { shared: Arc::new(shared), thread: None }
    }

    /// Starts the thread.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let worker = self.shared.clone();
        self.thread = Some(thread::Builder::new().name("lane-spare".to_owned()).spawn(move || worker.run())?);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A handle to ask about the spare from elsewhere.
    pub(super) fn watch(&self) -> SpareWatch {
        SpareWatch(self.shared.clone())
    }

    /// Starts making the next file, if that has not begun. `urgent`: it is needed soon.
    pub(super) fn prepare(&self, urgent: bool) {
        let mut state = self.shared.state.lock();
        // With a thread, that tries again by itself, and not at once.
        let again = self.thread.is_none() && matches!(state.step, Step::Failed(_));
        let wanted = again || matches!(state.step, Step::Idle);
        let hurried = urgent && !state.urgent;
        if wanted {
            state.step = Step::Wanted;
        }
        state.urgent |= urgent;
        drop(state);
        if wanted || hurried {
            self.shared.changed.notify_all();
        }
    }

    /// Waits for the next file and takes it; `None` after an interruption. A full device, or a lack of descriptors, is
    /// waited for until the lane closes.
    ///
    /// # Errors
    /// Those of the disk. Without a thread also those that may pass: nothing is waited for then.
    pub(super) fn take(&self) -> Result<Option<LogWriter>, LaneError> {
        self.prepare(true);
        if self.thread.is_none() {
            self.work_off();
        }
        let mut state = self.shared.state.lock();
        loop {
            match mem::replace(&mut state.step, Step::Idle) {
                Step::Ready(next) => {
                    state.number += 1;
                    state.urgent = false;
                    return Ok(Some(next));
                }
                other => state.step = other,
            }
            if mem::take(&mut state.interrupted) {
                return Ok(None);
            }
            let gives_up = state.closing || self.thread.is_none();
            if let Step::Failed(error) = &state.step
                && (gives_up || !error.may_pass())
            {
                return Err(error.clone());
            }
            self.shared.changed.wait(&mut state);
        }
    }

    /// Does, on this thread, what waits to be done.
    pub(super) fn work_off(&self) {
        loop {
            let Some(job) = self.shared.state.lock().next_job(self.shared.maker.file_bytes) else { return };
            self.shared.work(job, false);
        }
    }

    /// Whether the next file is there.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.shared.state.lock().step, Step::Ready(_))
    }

    /// Says how many bytes the log wrote.
    pub(super) fn logged(&self, bytes: u64) {
        self.shared.logged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that a durable header has this floor: files below it may go.
    pub(super) fn raise_floor(&self, floor: u64) {
        let mut state = self.shared.state.lock();
        state.floor = state.floor.max(floor);
        drop(state);
        self.shared.changed.notify_all();
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

    /// Bytes of the device that files may take which are not made yet.
    pub(super) fn growth_bytes(&self) -> io::Result<u64> {
        self.0.maker.growth_bytes()
    }

    /// Takes files that were released; the flush thread, if it waits for the next file, goes to raise the floor.
    pub(super) fn release(&self, files: Vec<Arc<LogFile>>) {
        let mut state = self.0.state.lock();
        state.released.extend(files);
        state.interrupted = true;
        drop(state);
        self.0.changed.notify_all();
    }

    /// Whether the file after `number` is there. If not, it is made now.
    pub(super) fn is_ready_after(&self, number: u64) -> bool {
        let mut state = self.0.state.lock();
        if matches!(state.step, Step::Ready(_)) && state.number == number + 1 {
            return true;
        }
        if matches!(state.step, Step::Idle) {
            state.step = Step::Wanted;
            drop(state);
            self.0.changed.notify_all();
        }
        false
    }

    /// Has released files below this number go, instead of keeping the space of one of them for the next file.
    pub(super) fn keep_none_below(&self, number: u64) {
        let mut state = self.0.state.lock();
        state.keep_from = state.keep_from.max(number);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Whether the directory has a file below this number, or one that is being made, maybe of the space of such a one.
    pub(super) fn has_below(&self, number: u64) -> io::Result<bool> {
        let names = self.0.maker.io.list(&self.0.maker.dir)?;
        let is_old =
            |name: &String| file_number(name).is_some_and(|found| found < number) || name.ends_with(".log.tmp");
        Ok(names.iter().any(is_old))
    }

    /// Zeroes written, in bytes, and files made of old ones.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.0.zeroed.load(Ordering::Relaxed), self.0.maker.recycled.load(Ordering::Relaxed))
    }

    /// Says that the lane closes.
    pub(super) fn close(&self) {
        self.0.state.lock().closing = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(job) = self.wanted() {
            self.work(job, true);
        }
    }

    /// Waits for something to do; `None` to stop.
    fn wanted(&self) -> Option<Job> {
        let mut state = self.state.lock();
        while !state.stop {
            if let Some(job) = state.next_job(self.maker.file_bytes) {
                return Some(job);
            }
            self.wait(&mut state);
        }
        None
    }

    /// Waits for a change. A file that failed is wanted again after a while.
    fn wait(&self, state: &mut MutexGuard<'_, State>) {
        if !state.retries() {
            self.changed.wait(state);
        } else if self.changed.wait_for(state, RETRY).timed_out() && matches!(state.step, Step::Failed(_)) {
            state.step = Step::Wanted;
        }
    }

    fn work(&self, job: Job, fill: bool) {
        match job {
            Job::Remove(files) => {
                if let Err(error) = self.maker.remove(&files) {
                    tracing::warn!(%error, "cannot remove a lane file that nobody needs; it stays until the next start");
                    self.tell(&error.into());
                }
            }
            Job::Make { number, floor, old } => {
                let made = self.make(number, floor, old.as_deref(), fill);
                self.made(number, made);
            }
        }
    }

    fn make(&self, number: u64, floor: u64, old: Option<&LogFile>, fill: bool) -> io::Result<LogWriter> {
        let next = self.maker.start(number, floor, old)?;
        if fill {
            self.fill(&next)?;
        }
        next.finish(&*self.maker.io, &self.maker.dir)
    }

    fn made(&self, number: u64, made: io::Result<LogWriter>) {
        if made.is_err() {
            self.maker.clean_up(number);
        }
        let mut state = self.state.lock();
        if let Err(error) = &made
            && !mem::replace(&mut state.told, true)
        {
            tracing::warn!(%error, "cannot make the next lane file; trying again");
        }
        state.told &= made.is_err();
        let made = made.map_err(LaneError::from);
        let failed = made.as_ref().err().cloned();
        state.step = made.map_or_else(Step::Failed, Step::Ready);
        drop(state);
        self.changed.notify_all();
        if let Some(error) = failed {
            self.tell(&error);
        }
    }

    /// Tells of an error if it says that the disk fails.
    fn tell(&self, error: &LaneError) {
        if error.is_of_the_device() {
            (self.failed)(error.clone());
        }
    }
}
