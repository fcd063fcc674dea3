//! The flush thread: one write and one sync for everything that waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::encode::Encoder;
use super::files::LogWriter;
use super::format::{GroupHeader, Place};
use super::queue::Group;
use super::shared::Shared;
use super::spare::Spare;
use super::{Done, LaneError};

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
    /// Whether the last group holds frames, so that nothing in the log proves yet that they are durable.
    pub(super) unmarked: bool,
    pub(super) mark_after: Duration,
}

impl Flusher {
    /// Writes groups until the lane closes or the disk fails.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _alarm = Alarm(&shared);
        while let Some(group) = shared.next_group(self.unmarked.then_some(self.mark_after)) {
            match self.write(&group) {
                Ok(()) => call_all(group.dones, &Ok(())),
                Err(error) => {
                    tracing::error!(%error, "the lane stops: its disk failed");
                    let waiting = shared.stop(LaneError::Dead(Arc::new(error.clone())));
                    return call_all(group.dones.into_iter().chain(waiting), &Err(error));
                }
            }
        }
        shared.stop(LaneError::Closed);
    }

    /// Makes one group durable.
    fn write(&mut self, group: &Group) -> Result<(), LaneError> {
        if group.place.file != self.tail.log.header.number {
            self.roll_over(group.place.file)?;
        }
        let header = GroupHeader {
            lane: self.tail.log.header.lane,
            sequence: self.sequence + 1,
            place: group.place,
            durable: self.durable,
            len: u32::try_from(group.bytes()).expect("a file has at most 1 GiB"),
            frames: u32::try_from(group.frames.len()).expect("a frame has at least 48 bytes"),
            chain: self.chain,
        };
        let chain = self.encoder.encode(&header, group);
        self.tail.file.write_vectored_at(group.place.offset, &mut self.encoder.slices(group))?;
        let synced = Instant::now();
        self.tail.file.sync_data()?;

        self.durable = Place { offset: group.place.offset + group.bytes(), ..group.place };
        self.sequence = header.sequence;
        self.chain = chain;
        self.unmarked = !group.frames.is_empty();
        self.shared.flushed(self.durable, group.frames.len(), group.bytes(), synced.elapsed());
        self.look_ahead();
        Ok(())
    }

    fn roll_over(&mut self, number: u64) -> Result<(), LaneError> {
        self.tail = self.spare.take()?;
        assert_eq!(self.tail.log.header.number, number, "the queue and the spare count files alike");
        self.shared.add_file(self.tail.log.clone());
        Ok(())
    }

    /// Has the next file made from the middle of this one on, and soon once little is left.
    fn look_ahead(&self) {
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

/// Fails all waiters if the flush thread unwinds.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let waiting = self.0.stop(LaneError::Defect);
            call_all(waiting, &Err(LaneError::Defect));
        }
    }
}
