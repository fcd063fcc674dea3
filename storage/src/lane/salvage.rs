//! What is whole of a lane that is damaged in what was durable: the groups before the damage. Looking changes nothing.
//!
//! What lies behind the damage is not taken: its groups may be whole, but entries of the same logs are missing before them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::aside::{Cut, SetAside, next_directory};
use super::files::{LogFile, missing};
use super::format::{FRAME_HEADER_BYTES, Place, file_number};
use super::recovery::{Found, read_whole};
use super::{LaneError, LaneOptions, RecoveredFrame, new_lane_id};
use crate::Io;

/// A lane that cannot be opened because of damage, and what of it is whole.
pub struct DamagedLane {
    io: Arc<dyn Io>,
    dir: PathBuf,
    error: LaneError,
    frames: Vec<RecoveredFrame>,
    end: Place,
    files: Vec<LogFile>,
    cut: Cut,
}

impl DamagedLane {
    /// Reads a lane as far as it is whole. `None` if all of it is, or there is none. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk; [`LaneError::NewerVersion`].
    pub fn look(io: &Arc<dyn Io>, dir: &Path, options: &LaneOptions) -> Result<Option<Self>, LaneError> {
        let there = There::list(&**io, dir)?;
        let (Some(first), Some(last)) = (there.numbers.first(), there.numbers.last()) else { return Ok(None) };
        let (found, read) = read_whole(&there.whole);
        let error = match (read, there.error) {
            (Ok(()), None) => return Ok(None),
            (Ok(()), Some(error)) | (Err(error @ LaneError::Corrupt { .. }), _) => error,
            (Err(error), _) => return Err(error),
        };
        let cut = Cut {
            directory: next_directory(&**io, dir)?,
            lane: there.lane.unwrap_or_else(new_lane_id),
            floor: *first,
            ..cut_of(&found, &there.whole, (*first, *last), options.file_bytes)
        };
        let (io, dir) = (Arc::clone(io), dir.to_owned());
        Ok(Some(Self { io, dir, error, frames: found.frames, end: found.end, files: there.whole, cut }))
    }

    /// What is wrong, and where.
    pub fn error(&self) -> &LaneError {
        &self.error
    }

    /// Where the last whole group before the damage ends: the number of its file, and the offset in it.
    pub fn end(&self) -> (u64, u64) {
        (self.end.file, self.end.offset)
    }

    /// The frames before the damage, of all shards, in the order of the log.
    pub fn frames(&self) -> &[RecoveredFrame] {
        &self.frames
    }

    /// The payload of one of these frames. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn payload(&self, frame: &RecoveredFrame) -> Result<Bytes, LaneError> {
        let log = self.files.iter().find(|log| log.header.number == frame.pos.file);
        let log = log.ok_or(LaneError::NotDurable(frame.pos))?;
        let start = frame.pos.offset + FRAME_HEADER_BYTES as u64;
        Ok(log.file.view(start..start + u64::from(frame.pos.len))?)
    }

    /// Has the lane end before the damage. The files from there on are kept in a directory of their own, as they are; the
    /// whole groups of the first of them are copied. Cut short, this is brought to its end by the next start.
    ///
    /// The caller has made durable before that the replicas of this node lack what they may have acknowledged. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn set_aside(self) -> Result<SetAside, LaneError> {
        let Self { io, dir, cut, files, .. } = self;
        // They must not be open under names that they lose.
        drop(files);
        cut.begin(&*io, &dir)?;
        Ok(cut.carry_out(&*io, &dir)?)
    }
}

impl fmt::Debug for DamagedLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, error, cut, .. } = self;
        f.debug_struct("DamagedLane").field("dir", dir).field("error", error).field("cut", cut).finish_non_exhaustive()
    }
}

/// The files of a lane, as far as their headers are whole.
struct There {
    /// Those that are needed, whole or not, as far as that can be told.
    numbers: Vec<u64>,
    /// The first of them that follow each other and can be opened.
    whole: Vec<LogFile>,
    /// What is wrong with the one behind these, or before them.
    error: Option<LaneError>,
    lane: Option<u64>,
}

impl There {
    /// Reads the headers of all files.
    fn list(io: &dyn Io, dir: &Path) -> Result<Self, LaneError> {
        let mut numbers: Vec<u64> = io.list(dir)?.iter().filter_map(|name| file_number(name)).collect();
        let mut opened = Vec::with_capacity(numbers.len());
        for number in &numbers {
            match LogFile::open(io, dir, *number) {
                found @ (Ok(_) | Err(LaneError::Corrupt { .. })) => opened.push(found),
                Err(error) => return Err(error),
            }
        }
        let headers = opened.iter().filter_map(|found| found.as_ref().ok()).map(|log| log.header);
        let (floor, lane) =
            headers.fold((1, None), |(floor, lane), header| (floor.max(header.floor), lane.or(Some(header.lane))));
        let unneeded = numbers.partition_point(|number| *number < floor);
        numbers.drain(..unneeded);
        opened.drain(..unneeded);
        let lowest = numbers.first().copied();
        let mut there = Self { numbers, whole: Vec::new(), error: None, lane };
        for found in opened {
            let follows = |log: LogFile| match there.whole.last() {
                Some(below) => log.check_next_below(below, dir).map(|()| log),
                None => Ok(log),
            };
            match found.and_then(follows) {
                Ok(log) => there.whole.push(log),
                Err(error) => {
                    there.error = Some(error);
                    break;
                }
            }
        }
        if let Some(lowest) = lowest.filter(|lowest| *lowest > floor) {
            there.error.get_or_insert_with(|| missing(dir, floor, lowest));
        }
        Ok(there)
    }
}

/// Where a lane with these whole files is cut, if `found` is what is whole in them; `first` and `last` are the lowest and
/// the highest file that there are.
fn cut_of(found: &Found, whole: &[LogFile], (first, last): (u64, u64), file_bytes: u64) -> Cut {
    let file = |number: u64| whole.iter().find(|log| log.header.number == number);
    let bytes = |number: u64| file(number).map_or(file_bytes, |log| log.header.file_bytes);
    let nothing = Cut { first, last, file_bytes: bytes(first), ..Cut::default() };
    if found.last_group.is_none() {
        return nothing;
    }
    let Place { file: number, offset } = found.end;
    if file(number).is_none() {
        return nothing;
    }
    Cut { first: number, last, keep: offset, file_bytes: bytes(number), ..Cut::default() }
}
