//! Reads a lane for inspection: all of it that can be read, also behind damage. Nothing is changed, and no more than a
//! window of a file is held.
//!
//! It judges as recovery does, but where recovery stops, it goes on at the next group that it finds.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::files::{LogFile, Window};
use super::format::{
    FIRST_GROUP, FRAME_HEADER_BYTES, FrameHeader, GROUP_END, GROUP_HEADER_BYTES, GroupHeader, Place, SECTOR, file_name,
    file_number, frame_bytes,
};
use super::{LaneDoubt, LaneError, RecoveredFrame, SetAside, aside, damage};
use crate::Io;

/// Payloads are read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;
/// Groups above this are not looked at for lost sectors: no write that is not acknowledged is that large.
const MAX_TORN_BYTES: u32 = 64 << 20;

/// What a walk meets, in the order of the log.
pub(crate) enum LaneEvent<'a> {
    /// A file whose header is whole.
    File { bytes: u64 },
    /// A whole group, a mark if it has no frames; its frames follow.
    Group,
    /// A whole frame.
    Frame(WholeFrame<'a>),
    /// The write at the end of the log that a crash cut short; the next start of the node discards it.
    Torn { path: PathBuf, offset: u64, bytes: u64 },
    /// Bytes that are not what was written, a file that is missing, or one that cannot be read.
    Broken(LaneError),
    /// Files that a start has set aside, because the log was damaged.
    Aside(SetAside),
    /// A file that is no part of the log.
    Stray { path: PathBuf },
}

/// A frame whose checksums match.
pub(crate) struct WholeFrame<'a> {
    pub(crate) frame: RecoveredFrame,
    log: &'a LogFile,
}

impl WholeFrame<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.log.path
    }

    /// Its payload.
    pub(crate) fn payload(&self) -> io::Result<Bytes> {
        let start = self.frame.pos.offset + FRAME_HEADER_BYTES as u64;
        self.log.file.view(start..start + u64::from(self.frame.pos.len))
    }
}

/// Who is told; it may end the walk.
pub(crate) type Tell<'a> = &'a mut dyn FnMut(LaneEvent<'_>) -> ControlFlow<()>;

/// Walks all files of the lane in `dir`.
///
/// # Errors
/// If the directory cannot be listed; whatever is wrong with a file is an event.
pub(crate) fn walk(io: &dyn Io, dir: &Path, tell: Tell<'_>) -> io::Result<()> {
    let names = io.list(dir)?;
    let numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
    let mut walk = Walk { io, dir, tell, lane: None, sequence: None, chain: None, end: None, open: None };
    // Who is told may have ended the walk: that is no error.
    let _ = walk.all(&numbers, &names);
    Ok(())
}

/// How far a walk has come, and what the next group has to say.
struct Walk<'a> {
    io: &'a dyn Io,
    dir: &'a Path,
    tell: Tell<'a>,
    /// The number of the lane, once a file has told it.
    lane: Option<u64>,
    /// Of the last group; unknown at the start and behind damage.
    sequence: Option<u64>,
    /// What the next frame chains to; unknown as above.
    chain: Option<u32>,
    /// The end of the last group.
    end: Option<Place>,
    /// Where the log broke off: damage if it goes on later.
    open: Option<OpenEnd>,
}

/// A place behind which no whole group was found yet.
struct OpenEnd {
    path: PathBuf,
    /// Where the bytes start that cannot be read, and where what is wrong with them is.
    start: u64,
    bad: u64,
    what: &'static str,
    used_bytes: u64,
    /// Whether a write that was cut short explains it.
    explained: bool,
}

impl OpenEnd {
    /// What it is if nothing whole lies behind.
    fn at_the_end(self) -> LaneEvent<'static> {
        if self.explained {
            return LaneEvent::Torn { path: self.path, offset: self.start, bytes: self.used_bytes };
        }
        let what = format!("{}, and no write that was cut short leaves such bytes", self.what);
        LaneEvent::Broken(LaneError::Corrupt { path: self.path, offset: self.bad, what })
    }
}

/// Either an event could not be told any more, or the file could not be read.
enum Stop {
    Told,
    Failed(LaneError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error.into())
    }
}

impl From<LaneError> for Stop {
    fn from(error: LaneError) -> Self {
        Stop::Failed(error)
    }
}

impl Walk<'_> {
    fn tell(&mut self, event: LaneEvent<'_>) -> Result<(), Stop> {
        match (self.tell)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Told),
        }
    }

    fn all(&mut self, numbers: &[u64], names: &[String]) -> ControlFlow<()> {
        self.files(numbers)?;
        let is_ours = |name: &str| {
            file_number(name).is_some() || name == "votes" || LaneDoubt::is_name(name) || aside::is_name(name)
        };
        for name in names.iter().filter(|name| !is_ours(name) && !aside::is_directory(name)) {
            (self.tell)(LaneEvent::Stray { path: self.dir.join(name) })?;
        }
        match aside::list(self.io, self.dir) {
            Ok(all) => all.into_iter().try_for_each(|aside| (self.tell)(LaneEvent::Aside(aside))),
            Err(error) => (self.tell)(LaneEvent::Broken(error.into())),
        }
    }

    fn files(&mut self, numbers: &[u64]) -> ControlFlow<()> {
        let floor = self.floor(numbers);
        let mut expected = floor;
        for number in numbers.iter().filter(|number| **number >= floor) {
            for missing in (expected..*number).take(1) {
                let (path, what) =
                    (self.dir.join(file_name(missing)), format!("it is missing, file {number} is there"));
                (self.tell)(LaneEvent::Broken(LaneError::Corrupt { path, offset: 0, what }))?;
                self.lose_track();
            }
            expected = expected.max(number + 1);
            match self.file(*number) {
                Ok(()) => {}
                Err(Stop::Told) => return ControlFlow::Break(()),
                Err(Stop::Failed(error)) => {
                    self.lose_track();
                    (self.tell)(LaneEvent::Broken(error))?;
                }
            }
        }
        self.open.take().map_or(ControlFlow::Continue(()), |open| (self.tell)(open.at_the_end()))
    }

    /// The lowest file that is needed: the highest floor that a header says. What is below it may be gone, or hold
    /// anything. A header that cannot be read is told of in its turn.
    fn floor(&self, numbers: &[u64]) -> u64 {
        numbers.iter().rev().fold(1, |floor, number| {
            let log = if *number < floor { None } else { LogFile::open(self.io, self.dir, *number).ok() };
            log.map_or(floor, |log| floor.max(log.header.floor))
        })
    }

    fn file(&mut self, number: u64) -> Result<(), Stop> {
        let log = LogFile::open(self.io, self.dir, number)?;
        self.tell(LaneEvent::File { bytes: log.header.file_bytes })?;
        if let Some(lane) = self.lane.filter(|lane| *lane != log.header.lane) {
            let what = format!("it belongs to lane {:016x}, not {lane:016x}", log.header.lane);
            self.tell(LaneEvent::Broken(log.corrupt(0, what)))?;
            return Ok(());
        }
        self.lane = Some(log.header.lane);
        let mut window = Window::new(&log);
        let mut at = FIRST_GROUP;
        while at + SECTOR <= log.header.file_bytes {
            let Some(group) = group_at(&log, &mut window, at)? else {
                let Some(next) = self.behind(&log, at)? else { break };
                at = next;
                continue;
            };
            self.goes_on(group.place)?;
            at = self.group(&log, &mut window, &group)?;
        }
        Ok(())
    }

    /// Judges a place without a group. Returns where the next group of this file is.
    fn behind(&mut self, log: &LogFile, at: u64) -> Result<Option<u64>, Stop> {
        let used_end = log.used_end(at)?;
        if used_end == at {
            return Ok(None);
        }
        let sector = log.file.view(at..at + SECTOR)?;
        let open = OpenEnd {
            path: log.path.clone(),
            start: at,
            bad: at,
            what: "there is no whole group header",
            used_bytes: used_end - at,
            explained: self.open.is_none() && damage::explains_header(&sector, used_end - at),
        };
        self.breaks_off(open)?;
        let mut window = Window::new(log);
        for at in (at + SECTOR..log.header.file_bytes).step_by(SECTOR as usize) {
            if group_at(log, &mut window, at)?.is_some() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Notes that the log breaks off here; if it did before, that was damage.
    fn breaks_off(&mut self, open: OpenEnd) -> Result<(), Stop> {
        let before = self.open.replace(open);
        self.lose_track();
        before.map_or(Ok(()), |open| self.damaged(open, "there are more bytes behind"))
    }

    /// A whole group at a place proves that all before it was durable.
    fn goes_on(&mut self, place: Place) -> Result<(), Stop> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.damaged(
            open,
            &format!("it was durable: the log goes on at offset {} of lane file {}", place.offset, place.file),
        )
    }

    fn damaged(&mut self, open: OpenEnd, proof: &str) -> Result<(), Stop> {
        let what = format!("{}, but {proof}", open.what);
        self.tell(LaneEvent::Broken(LaneError::Corrupt { path: open.path, offset: open.bad, what }))
    }

    fn lose_track(&mut self) {
        (self.sequence, self.chain, self.end) = (None, None, None);
    }

    /// Reads a group; returns where the next one starts.
    fn group(&mut self, log: &LogFile, window: &mut Window<'_>, group: &GroupHeader) -> Result<u64, Stop> {
        let start = group.place.offset;
        let end = start + u64::from(group.len);
        if group.len == 0 || !u64::from(group.len).is_multiple_of(SECTOR) || end > log.header.file_bytes {
            self.tell(LaneEvent::Broken(log.corrupt(start, format!("the group claims {} bytes", group.len))))?;
            self.lose_track();
            return Ok(start + SECTOR);
        }
        if let Some(what) = self.misfit(group) {
            self.tell(LaneEvent::Broken(log.corrupt(start, what)))?;
        }
        let read = Frames::read(log, window, group)?;
        self.sequence = Some(group.sequence);
        self.chain = Some(read.chain);
        self.end = Some(log.place(end));
        if let Some((bad, what)) = read.bad {
            let used_end = log.used_end(start)?;
            let explained = used_end <= end && group.len <= MAX_TORN_BYTES && {
                damage::explains_frame(&log.file.view(start..end)?, (bad - start) as usize)
            };
            if explained {
                let path = log.path.clone();
                let open = OpenEnd { path, start, bad, what, used_bytes: used_end - start, explained };
                self.breaks_off(open)?;
                return Ok(end);
            }
            self.chain = None;
            self.tell(LaneEvent::Broken(log.corrupt(bad, what)))?;
        }
        self.tell(LaneEvent::Group)?;
        for frame in read.whole {
            self.tell(LaneEvent::Frame(WholeFrame { frame, log }))?;
        }
        Ok(end)
    }

    /// What a group says that does not fit those before it.
    fn misfit(&self, group: &GroupHeader) -> Option<String> {
        if let Some(last) = self.sequence.filter(|last| last + 1 != group.sequence) {
            return Some(format!("it is group {}, the one before is {last}", group.sequence));
        }
        if let Some(end) = self.end.filter(|end| *end != group.durable) {
            let (file, offset) = (group.durable.file, group.durable.offset);
            return Some(format!(
                "it says that the log was durable to offset {offset} of file {file}, the group before ends at offset {} of file {}",
                end.offset, end.file
            ));
        }
        let breaks = self.chain.is_some_and(|chain| chain != group.chain);
        breaks.then(|| "it does not chain to the frame before it".to_owned())
    }
}

/// The header of a group of this lane that was written for this place.
fn group_at(log: &LogFile, window: &mut Window<'_>, at: u64) -> io::Result<Option<GroupHeader>> {
    let header = GroupHeader::decode(&window.get(at..at + SECTOR)?);
    Ok(header.filter(|group| group.lane == log.header.lane && group.place == log.place(at)))
}

/// The frames of a group.
struct Frames {
    whole: Vec<RecoveredFrame>,
    /// Where the first frame that is not whole starts, and what is wrong with it.
    bad: Option<(u64, &'static str)>,
    chain: u32,
}

impl Frames {
    fn read(log: &LogFile, window: &mut Window<'_>, group: &GroupHeader) -> Result<Self, Stop> {
        let mut read = Frames { whole: Vec::new(), bad: None, chain: group.chain };
        let end = group.place.offset + u64::from(group.len) - GROUP_END.len() as u64;
        let mut at = group.place.offset + GROUP_HEADER_BYTES as u64;
        for _ in 0..group.frames {
            let header = match header_at(window, at, end, read.chain)? {
                Ok(header) => header,
                Err(what) => {
                    read.bad.get_or_insert((at, what));
                    break;
                }
            };
            read.chain = header.crc;
            if payload_crc(log, window, at, header.len)? == header.payload_crc {
                read.whole.push(header.at(log.place(at)));
            } else {
                read.bad.get_or_insert((at, "the payload fails its checksum"));
            }
            at += frame_bytes(header.len as usize);
        }
        Ok(read)
    }
}

fn header_at(window: &mut Window<'_>, at: u64, end: u64, chain: u32) -> io::Result<Result<FrameHeader, &'static str>> {
    if at + FRAME_HEADER_BYTES as u64 > end {
        return Ok(Err("the frame lies beyond its group"));
    }
    let header = FrameHeader::decode(&window.get(at..at + FRAME_HEADER_BYTES as u64)?);
    Ok(header.and_then(|header| match () {
        () if header.chain != chain => Err("the frame does not follow the one before it"),
        () if at + FRAME_HEADER_BYTES as u64 + u64::from(header.len) > end => Err("the payload is cut short"),
        () => Ok(header),
    }))
}

fn payload_crc(log: &LogFile, window: &mut Window<'_>, frame: u64, len: u32) -> io::Result<u32> {
    let start = frame + FRAME_HEADER_BYTES as u64;
    let end = start + u64::from(len);
    if u64::from(len) <= PIECE_BYTES {
        return Ok(crc32fast::hash(&window.get(start..end)?));
    }
    let mut crc = crc32fast::Hasher::new();
    for at in (start..end).step_by(PIECE_BYTES as usize) {
        crc.update(&log.file.view(at..end.min(at + PIECE_BYTES))?);
    }
    Ok(crc.finalize())
}
