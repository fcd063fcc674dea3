//! The flush thread: one write and one sync for everything that waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::encode::Encoder;
use super::files::LogWriter;
use super::format::{GroupHeader, Place};
use super::queue::Group;
use super::shared::{Shared, Work};
use super::spare::Spare;
use super::{Done, Failed, GroupTimes, LaneError, LaneObserver};
use crate::sabotage::{Bug, planted};

pub(super) struct Flusher {
    pub(super) shared: Arc<Shared>,
    pub(super) spare: Spare,
    pub(super) encoder: Encoder,
    /// The file that the log goes on in.
    pub(super) tail: LogWriter,
    /// The end of the last group.
    pub(super) durable: Place,
    /// The number of the last group.
    pub(super) sequence: u64,
    /// The checksum that the next frame chains to.
    pub(super) chain: u32,
    /// The lowest file that is needed, as a durable header says.
    pub(super) floor: u64,
    /// Whether the last group holds frames, so that nothing in the log proves yet that they are durable.
    pub(super) unmarked: bool,
    pub(super) mark_after: Duration,
    pub(super) observer: Option<Arc<dyn LaneObserver>>,
}

impl Flusher {
    /// Does what there is to do until the lane closes or the disk fails.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _alarm = Alarm(&shared);
        while let Some(work) = shared.next_work(self.unmarked.then_some(self.mark_after)) {
            let reached = self.reach(&work);
            if !self.finish(work, reached) {
                return;
            }
        }
        shared.stop(LaneError::Closed);
    }

    /// Goes on to the file that the work is in. Blocks until that file is there, if the spare has a thread to make it.
    pub(super) fn reach(&mut self, work: &Work) -> Result<(), LaneError> {
        let Work::Group(group) = work else { return Ok(()) };
        while group.place.file != self.tail.log.header.number {
            match self.spare.take()? {
                Some(next) => self.go_on_in(next, group.place.file),
                // The file may be waiting for space that was released.
                None => self.write_floor_alone()?,
            }
        }
        Ok(())
    }

    /// Makes it durable, and tells those who wait how that went. `false` if the lane is dead now.
    pub(super) fn finish(&mut self, work: Work, reached: Result<(), LaneError>) -> bool {
        let result = reached.and_then(|()| match &work {
            Work::Group(group) => self.write(group),
            Work::Floor => self.write_floor_alone(),
            Work::Fail(error) => Err(error.clone()),
        });
        let dones = if let Work::Group(group) = work { group.dones } else { Vec::new() };
        let Err(error) = result else {
            call_all(dones, &Ok(()));
            return true;
        };
        tracing::error!(%error, "the lane stops: its disk failed");
        let (waiting, watching) = self.shared.stop(LaneError::Dead(Arc::new(error.clone())));
        call_all(dones.into_iter().chain(waiting), &Err(error.clone()));
        tell_all(watching, &error);
        false
    }

    /// Makes one group durable, and with the same sync the floor, if it has risen.
    fn write(&mut self, group: &Group) -> Result<(), LaneError> {
        let started = Instant::now();
        let floor = self.write_floor()?;
        let header = self.header_of(group);
        let chain = self.encoder.encode(&header, group);
        self.tail.file.write_vectored_at(group.place.offset, &mut self.encoder.slices(group))?;
        let written = Instant::now();
        self.sync()?;
        let (write, sync) = (written - started, written.elapsed());

        self.durable = Place { offset: group.place.offset + group.bytes(), ..group.place };
        self.sequence = header.sequence;
        self.chain = chain;
        self.unmarked = !group.frames.is_empty();
        self.shared.flushed(self.durable, group.frames.len(), group.bytes(), sync);
        self.floor_is_durable(floor);
        self.look_ahead(group.bytes());
        if let Some(observer) = self.observer.as_deref().filter(|_| self.unmarked) {
            let queued = started.saturating_duration_since(group.since);
            observer.group(&GroupTimes { queued, write, sync, bytes: group.bytes(), frames: group.frames.len() });
        }
        Ok(())
    }

    fn header_of(&self, group: &Group) -> GroupHeader {
        GroupHeader {
            lane: self.tail.log.header.lane,
            sequence: self.sequence + 1,
            place: group.place,
            durable: self.durable,
            len: u32::try_from(group.bytes()).expect("a file has at most 1 GiB"),
            frames: u32::try_from(group.frames.len()).expect("a frame has at least 48 bytes"),
            chain: self.chain,
        }
    }

    fn go_on_in(&mut self, next: LogWriter, number: u64) {
        assert_eq!(next.log.header.number, number, "the queue and the spare count files alike");
        self.tail = next;
        self.shared.add_file(self.tail.log.clone());
    }

    fn sync(&self) -> Result<(), LaneError> {
        if planted(Bug::AckBeforeFsync) {
            return Ok(());
        }
        Ok(self.tail.file.sync_data()?)
    }

    /// Writes the floor into the header of the file that the log goes on in, if it has risen. Returns what the header says.
    fn write_floor(&mut self) -> Result<u64, LaneError> {
        let needed = self.shared.needed();
        if needed > self.floor {
            self.tail.raise_floor(needed)?;
        }
        Ok(needed)
    }

    fn write_floor_alone(&mut self) -> Result<(), LaneError> {
        let floor = self.write_floor()?;
        if floor > self.floor {
            self.sync()?;
            self.floor_is_durable(floor);
        }
        Ok(())
    }

    fn floor_is_durable(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.shared.floor_raised(floor);
            self.spare.raise_floor(floor);
        }
    }

    /// Has the next file made from the middle of this one on, and soon once little is left.
    fn look_ahead(&self, written: u64) {
        self.spare.logged(written);
        let (at, bytes) = (self.durable.offset, self.tail.log.header.file_bytes);
        if at >= bytes / 2 {
            self.spare.prepare(at >= bytes / 8 * 7);
        }
    }
}

fn call_all(dones: impl IntoIterator<Item = Done>, result: &Result<(), LaneError>) {
    for done in dones {
        // One waiter's defect must not keep the others waiting for ever.
        if catch_unwind(AssertUnwindSafe(|| done(result.clone()))).is_err() {
            tracing::error!("a waiter of the lane panicked");
        }
    }
}

fn tell_all(watching: Vec<Failed>, error: &LaneError) {
    for failed in watching {
        if catch_unwind(AssertUnwindSafe(|| failed(error.clone()))).is_err() {
            tracing::error!("who watches for failures of the lane panicked");
        }
    }
}

/// Fails all waiters if the flush thread unwinds.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let (waiting, watching) = self.0.stop(LaneError::Defect);
            call_all(waiting, &Err(LaneError::Defect));
            tell_all(watching, &LaneError::Defect);
        }
    }
}
