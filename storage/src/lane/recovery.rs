//! Reads a lane back: which frames it holds, where it ends, and whether damage at its end is a write that a crash cut
//! short or the loss of something that was acknowledged.
//!
//! The writer syncs each group before it writes the next one. So a group whose header can be read proves that all before it
//! was durable, and at most one group, the last, may be there in part. That one is a *torn tail* if a write that the
//! medium lost in part explains what is there (see [`super::damage`]); it was never acknowledged, and is discarded whole.
//! All other damage is corruption and changes nothing on disk (L5).
//!
//! Once files were released, the log starts with a file that is not the first. Only the file that held the durable end of
//! the log, or one before it, can have become that, so its first group was durable; its sequence, chain and durable
//! position are taken as they are.

use bytes::Bytes;

use super::damage;
use super::files::{LogFile, Window};
use super::format::{
    FIRST_GROUP, FRAME_HEADER_BYTES, FrameHeader, GROUP_END, GROUP_HEADER_BYTES, GroupHeader, Place, SECTOR,
    frame_bytes,
};
use super::{LaneError, RecoveredFrame, TornTail};
use crate::Io;
use crate::sabotage::{Bug, planted};

/// What is in the files.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) frames: Vec<RecoveredFrame>,
    /// Where the last whole group ends.
    pub(super) end: Place,
    /// The number of the last whole group; 0 if there is none.
    pub(super) sequence: u64,
    /// The checksum that the next frame chains to.
    pub(super) chain: u32,
    /// The last whole group. It is not known to be durable: only a group behind it would prove that.
    pub(super) last_group: Option<GroupHeader>,
    pub(super) torn: Option<TornTail>,
}

/// Why reading a file stopped.
enum Stop {
    /// At the end of the file.
    End,
    /// There is no group header here.
    NoGroup(u64),
    /// This group holds a frame that is not whole, `frame` bytes from the group's start.
    BadFrame { group: GroupHeader, bytes: Bytes, frame: usize, what: &'static str },
}

/// Reads the files of a lane, all that are needed and in order. Changes nothing.
///
/// # Errors
/// [`LaneError::Corrupt`], naming file and offset.
pub(super) fn recover(files: &[LogFile]) -> Result<Found, LaneError> {
    let (found, read) = read_whole(files);
    read.map(|()| found)
}

/// The same as far as the files are whole, and why it goes no further. Changes nothing.
pub(super) fn read_whole(files: &[LogFile]) -> (Found, Result<(), LaneError>) {
    let found = Found { frames: Vec::new(), end: Place::ORIGIN, sequence: 0, chain: 0, last_group: None, torn: None };
    let mut walk = Walk { files, found };
    let read = files.iter().enumerate().try_for_each(|(number, log)| {
        let stop = walk.file(log)?;
        walk.stopped(number, stop)
    });
    (walk.found, read)
}

struct Walk<'a> {
    files: &'a [LogFile],
    found: Found,
}

impl Walk<'_> {
    /// Reads groups from the start of a file for as long as they are whole.
    fn file(&mut self, log: &LogFile) -> Result<Stop, LaneError> {
        let mut window = Window::new(log);
        let mut at = FIRST_GROUP;
        while at + SECTOR <= log.header.file_bytes {
            let Some(group) = GroupHeader::decode(&window.get(at..at + SECTOR)?) else {
                return Ok(Stop::NoGroup(at));
            };
            self.start_with(log, &group)?;
            self.check_group(log, at, &group)?;
            let bytes = window.get(at..at + u64::from(group.len))?;
            if let Err((frame, what)) = self.group(&group, &bytes) {
                return Ok(Stop::BadFrame { group, bytes, frame, what });
            }
            at += u64::from(group.len);
        }
        Ok(Stop::End)
    }

    /// Takes the first group of a log whose first files were released as one that follows what was in them.
    fn start_with(&mut self, log: &LogFile, group: &GroupHeader) -> Result<(), LaneError> {
        if !self.lacks_start() {
            return Ok(());
        }
        if group.durable.file + 1 != log.header.number || group.sequence < 2 {
            return Err(log.corrupt(FIRST_GROUP, "the group does not follow one of the file before"));
        }
        self.found.end = group.durable;
        self.found.sequence = group.sequence - 1;
        self.found.chain = group.chain;
        Ok(())
    }

    /// Whether nothing was found yet of a log whose first files were released.
    fn lacks_start(&self) -> bool {
        self.found.last_group.is_none() && self.files[0].header.number > Place::ORIGIN.file
    }

    /// Checks that a header, whole by itself, is the one that has to come here.
    fn check_group(&self, log: &LogFile, at: u64, group: &GroupHeader) -> Result<(), LaneError> {
        let found = &self.found;
        if group.lane != log.header.lane || group.place != log.place(at) {
            return Err(log.corrupt(at, "the group belongs to another place"));
        }
        if group.sequence > found.sequence + 1 || group.durable > found.end {
            return Err(self.lost(found.end.file, found.end.offset, "groups are missing", group));
        }
        if (group.sequence, group.durable, group.chain) != (found.sequence + 1, found.end, found.chain) {
            return Err(log.corrupt(at, format!("group {} does not follow group {}", group.sequence, found.sequence)));
        }
        let len = u64::from(group.len);
        if len < SECTOR || !len.is_multiple_of(SECTOR) || len > log.header.file_bytes - at {
            return Err(log.corrupt(at, format!("a group cannot have {len} bytes here")));
        }
        Ok(())
    }

    /// Reads the frames of one group; keeps all of them or none. The error names a frame's place in the group.
    fn group(&mut self, group: &GroupHeader, bytes: &Bytes) -> Result<(), (usize, &'static str)> {
        let kept = self.found.frames.len();
        let mut chain = group.chain;
        let mut at = GROUP_HEADER_BYTES;
        for _ in 0..group.frames {
            match whole_frame(bytes, at, chain) {
                Ok(frame) => {
                    let place = Place { offset: group.place.offset + at as u64, ..group.place };
                    self.found.frames.push(frame.at(place));
                    chain = frame.crc;
                    at += frame_bytes(frame.len as usize) as usize;
                }
                Err(what) => {
                    self.found.frames.truncate(kept);
                    return Err((at, what));
                }
            }
        }
        self.found.chain = chain;
        self.found.sequence = group.sequence;
        self.found.end = Place { offset: group.place.offset + u64::from(group.len), ..group.place };
        self.found.last_group = Some(*group);
        Ok(())
    }

    /// Judges why reading stopped: the file's end, a torn tail, or corruption.
    fn stopped(&mut self, file: usize, stop: Stop) -> Result<(), LaneError> {
        let log = &self.files[file];
        let (at, bad, what) = match &stop {
            Stop::End => return Ok(()),
            Stop::NoGroup(at) => (*at, *at, "there is no whole group header"),
            Stop::BadFrame { group, frame, what, .. } => {
                (group.place.offset, group.place.offset + *frame as u64, *what)
            }
        };
        if self.lacks_start() {
            return Err(log.corrupt(bad, format!("{what}, but it was durable: files before this one were given up")));
        }
        let used_end = log.used_end(at)?;
        if used_end == at {
            return Ok(());
        }
        if let Some(group) = self.later_group(file, at + SECTOR)?.filter(|_| !planted(Bug::TruncateOnBadChecksum)) {
            return Err(self.lost(log.header.number, bad, what, &group));
        }
        let explained = match &stop {
            _ if planted(Bug::TruncateOnBadChecksum) => true,
            Stop::End => true,
            Stop::NoGroup(_) => damage::explains_header(&log.file.view(at..at + SECTOR)?, used_end - at),
            Stop::BadFrame { bytes, frame, .. } => {
                used_end <= at + bytes.len() as u64 && damage::explains_frame(bytes, *frame)
            }
        };
        if !explained || self.found.torn.is_some() {
            return Err(log.corrupt(bad, format!("{what}, and no write that was cut short leaves such bytes")));
        }
        self.found.torn = Some(TornTail { file: log.header.number, offset: at, bytes: used_end - at });
        Ok(())
    }

    /// The first whole group header behind a place, if there is one.
    fn later_group(&self, file: usize, from: u64) -> Result<Option<GroupHeader>, LaneError> {
        let mut from = from;
        for log in &self.files[file..] {
            let mut window = Window::new(log);
            for at in (from..log.header.file_bytes).step_by(SECTOR as usize) {
                let header = GroupHeader::decode(&window.get(at..at + SECTOR)?);
                let ours = |group: &GroupHeader| group.lane == log.header.lane && group.place == log.place(at);
                if let Some(group) = header.filter(ours) {
                    return Ok(Some(group));
                }
            }
            from = FIRST_GROUP;
        }
        Ok(None)
    }

    /// Damage at a place that a later group proves to have been durable.
    fn lost(&self, file: u64, offset: u64, what: &str, later: &GroupHeader) -> LaneError {
        let log = self.files.iter().find(|log| log.header.number == file).expect("a file that was read");
        let Place { file, offset: at } = later.place;
        log.corrupt(offset, format!("{what}, but it was durable: the log goes on at offset {at} of lane file {file}"))
    }
}

impl Found {
    /// Makes what was found durable, the floor included, and discards the torn tail: after this the log is whole up to its end, and zero
    /// behind it.
    ///
    /// The last group is written once more before it is synced. If the process stopped at a failed sync, its pages are in
    /// memory and marked clean, so a sync alone would write nothing and report success. The same goes for the floor.
    pub(super) fn settle(&self, io: &dyn Io, files: &[LogFile], floor: u64) -> Result<(), LaneError> {
        let log_of = |number: u64| files.iter().find(|log| log.header.number == number).expect("a file that was read");
        if let Some(torn) = self.torn {
            tracing::warn!(?torn, "discarding a write that a crash cut short; it was never acknowledged");
            let end = (torn.offset + torn.bytes).next_multiple_of(SECTOR);
            log_of(torn.file).writer(io)?.erase(torn.offset..end)?;
        }
        if let Some(group) = self.last_group {
            let log = log_of(group.place.file);
            let end = group.place.offset + u64::from(group.len);
            let mut bytes = log.file.view(group.place.offset..end)?.to_vec();
            let content = bytes.len() - GROUP_END.len();
            bytes[content..].copy_from_slice(&GROUP_END);
            let writer = log.writer(io)?;
            writer.file.write_at(group.place.offset, &bytes)?;
            writer.file.sync_data()?;
        }
        if let Some(log) = files.iter().find(|log| log.header.floor == floor && floor > Place::ORIGIN.file) {
            let mut writer = log.writer(io)?;
            writer.raise_floor(floor)?;
            writer.file.sync_data()?;
        }
        Ok(())
    }
}

/// Reads and verifies the frame at `at` of a group.
fn whole_frame(group: &Bytes, at: usize, chain: u32) -> Result<FrameHeader, &'static str> {
    let end = group.len() - GROUP_END.len();
    let rest = group.get(at..end).ok_or("the frame lies beyond its group")?;
    let frame = FrameHeader::decode(rest)?;
    if frame.chain != chain {
        return Err("the frame does not follow the one before it");
    }
    check_payload(&frame, rest)?;
    Ok(frame)
}

/// Verifies a payload against its header; `frame` starts with the header. Returns where the payload ends.
pub(super) fn check_payload(header: &FrameHeader, frame: &[u8]) -> Result<usize, &'static str> {
    let end = FRAME_HEADER_BYTES + header.len as usize;
    let payload = frame.get(FRAME_HEADER_BYTES..end).ok_or("the payload is cut short")?;
    if crc32fast::hash(payload) != header.payload_crc {
        return Err("the payload fails its checksum");
    }
    Ok(end)
}
