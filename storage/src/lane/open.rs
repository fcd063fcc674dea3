//! From a directory to a lane that can be written.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::aside::Cut;
use super::doubt::LaneDoubt;
use super::encode::Encoder;
use super::files::{self, Files, LogFile, LogWriter};
use super::flush::Flusher;
use super::format::Place;
use super::jobs::State;
use super::maker::Maker;
use super::queue::Queue;
use super::recovery::recover;
use super::shared::Shared;
use super::spare::Spare;
use super::{LaneError, LaneOptions, Recovery};
use crate::Io;

/// Reads the lane in `dir` back, or makes it, and prepares its flusher, whose spare has no thread yet. A lane that is
/// made gets the number `new_lane`.
pub(super) fn open(
    io: Arc<dyn Io>,
    dir: &Path,
    options: &LaneOptions,
    new_lane: impl FnOnce() -> u64,
) -> Result<(Flusher, Recovery), LaneError> {
    options.check()?;
    io.create_dir_all(dir)?;
    if let Some(cut) = Cut::find(&*io, dir)? {
        cut.carry_out(&*io, dir)?;
    }
    let Files { mut needed, unneeded, floor } = files::open_all(&*io, dir)?;
    let maker = Maker {
        io,
        dir: dir.to_owned(),
        lane: needed.first().map_or_else(new_lane, |first| first.header.lane),
        file_bytes: options.file_bytes,
        reserve_bytes: options.reserve_bytes,
        recycled: AtomicU64::new(0),
    };
    if needed.is_empty() {
        needed.push(maker.make(Place::ORIGIN.file, Place::ORIGIN.file, None)?.log);
    }
    let found = recover(&needed)?;
    // A kill may have come between a file's rename and the sync of its name, and what is appended next may go there.
    maker.io.sync_dir(dir)?;
    if found.torn.is_some() {
        LaneDoubt::begin(&*maker.io, dir)?;
    }
    found.settle(&*maker.io, &needed, floor)?;
    let doubt = LaneDoubt::find(&maker.io, dir)?;

    let spare = split_spare(&maker, &mut needed, found.end.file)?;
    let tail = needed.last().expect("there is at least one").writer(&*maker.io)?;
    let queue = Queue::new(found.end, tail.log.header.file_bytes, options.file_bytes, options.group_bytes);
    let shared = Arc::new(Shared::new(queue, found.end, floor, needed));
    let alarm = Arc::clone(&shared);
    let failed = Box::new(move |error| alarm.fail(error));
    let state = State::new(found.end.file + 1, spare, floor, unneeded);
    let flusher = Flusher {
        shared,
        spare: Spare::new(maker, state, failed),
        encoder: Encoder::default(),
        tail,
        durable: found.end,
        sequence: found.sequence,
        chain: found.chain,
        floor,
        unmarked: found.last_group.is_some_and(|group| group.frames > 0),
        mark_after: options.mark_after,
        observer: options.observer.clone(),
    };
    Ok((flusher, Recovery { frames: found.frames, torn_tail: found.torn, doubt }))
}

/// Takes the files behind the end of the log off `files`: the next one, if it has the right size, is the spare; others are
/// removed. They hold nothing.
fn split_spare(maker: &Maker, files: &mut Vec<LogFile>, end: u64) -> Result<Option<LogWriter>, LaneError> {
    let mut spare = None;
    let extra = files.split_off(files.partition_point(|log| log.header.number <= end));
    for log in extra.into_iter().rev() {
        if log.header.number == end + 1 && log.header.file_bytes == maker.file_bytes {
            spare = Some(log.writer(&*maker.io)?);
        } else {
            maker.io.remove(&log.path)?;
            maker.io.sync_dir(&maker.dir)?;
        }
    }
    Ok(spare)
}
