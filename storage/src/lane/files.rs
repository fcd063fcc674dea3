//! The files of a lane: how one is made, found and opened.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::LaneError;
use super::format::{BadFileHeader, FILE_HEADER_BYTES, FileHeader, Place, SECTOR, file_name, file_number};
use crate::io::temporary_name;
use crate::{File, Io, OpenMode};

/// How much is read at a time when a file is read from end to end.
const WINDOW_BYTES: u64 = 1 << 20;

/// A lane file whose header was verified, to be read.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub(super) header: FileHeader,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
}

/// A lane file that is written. Only the file that the log goes on in and the next one are: a lane may have more files
/// than the process descriptors, see [`crate::PooledDisk`].
#[derive(Debug)]
pub(super) struct LogWriter {
    pub(super) log: LogFile,
    pub(super) file: Arc<dyn File>,
}

impl LogWriter {
    /// Starts a new file under its temporary name, with its space taken and its header written. Nothing is durable yet.
    pub(super) fn start(io: &dyn Io, dir: &Path, header: FileHeader) -> io::Result<Self> {
        let path = dir.join(file_name(header.number));
        let file = io.open(&temporary_name(&path), OpenMode::CreateOrTruncate)?;
        file.allocate(header.file_bytes)?;
        file.write_at(0, &header.encode())?;
        Ok(Self { log: LogFile { header, path, file: file.clone() }, file })
    }

    /// The same in the space of a file of this size that nobody needs. [`io::ErrorKind::Unsupported`] where zeroes would
    /// have to be written for that; the old file is gone then, too.
    pub(super) fn recycle(io: &dyn Io, dir: &Path, header: FileHeader, old: &LogFile) -> io::Result<Self> {
        let path = dir.join(file_name(header.number));
        let temporary = temporary_name(&path);
        io.rename(&old.path, &temporary)?;
        // Not every file system renames at once: a crash may leave both names. The old one has to be gone for good before
        // the new one counts, else a start takes the same bytes for a leftover, and uses them again.
        io.sync_dir(dir)?;
        let file = io.open(&temporary, OpenMode::Write)?;
        file.zero_range(0..header.file_bytes)?;
        file.write_at(0, &header.encode())?;
        Ok(Self { log: LogFile { header, path, file: file.clone() }, file })
    }

    /// Makes a started file durable and gives it its name.
    pub(super) fn finish(mut self, io: &dyn Io, dir: &Path) -> io::Result<Self> {
        self.file.sync_all()?;
        io.rename(&temporary_name(&self.log.path), &self.log.path)?;
        io.sync_dir(dir)?;
        // Errors from here on name the file as it is called now.
        self.file = io.open(&self.log.path, OpenMode::Write)?;
        // Who reads it later must not keep the writer's descriptor.
        self.log.file = io.open(&self.log.path, OpenMode::Read)?;
        Ok(self)
    }

    /// Writes into the header that files below `floor` are not needed. The header has a sector of its own, so after a
    /// crash it says either this or what it said before; it is durable with the next sync of the file.
    pub(super) fn raise_floor(&mut self, floor: u64) -> io::Result<()> {
        let header = FileHeader { floor, ..self.log.header };
        self.file.write_at(0, &header.encode())?;
        self.log.header = header;
        Ok(())
    }

    /// Overwrites a range with zeroes and syncs it.
    pub(super) fn erase(&self, range: Range<u64>) -> io::Result<()> {
        let zeroes = vec![0; WINDOW_BYTES.min(range.end - range.start) as usize];
        let mut at = range.start;
        while at < range.end {
            let step = (range.end - at).min(zeroes.len() as u64);
            self.file.write_at(at, &zeroes[..step as usize])?;
            at += step;
        }
        self.file.sync_data()
    }
}

impl LogFile {
    /// Opens the file for writing too.
    pub(super) fn writer(&self, io: &dyn Io) -> io::Result<LogWriter> {
        Ok(LogWriter { log: self.clone(), file: io.open(&self.path, OpenMode::Write)? })
    }

    /// A file that nobody needs, so that it does not matter what is in it.
    fn open_unneeded(io: &dyn Io, dir: &Path, number: u64, lane: u64) -> io::Result<LogFile> {
        let path = dir.join(file_name(number));
        let file = io.open(&path, OpenMode::Read)?;
        Ok(LogFile { header: FileHeader { lane, number, file_bytes: file.len()?, floor: 1 }, path, file })
    }

    pub(super) fn open(io: &dyn Io, dir: &Path, number: u64) -> Result<LogFile, LaneError> {
        let path = dir.join(file_name(number));
        let corrupt = |offset, what: String| LaneError::Corrupt { path: path.clone(), offset, what };
        let file = io.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        if len < SECTOR {
            return Err(corrupt(len, format!("the file has only {len} bytes")));
        }
        let header = match FileHeader::decode(&file.view(0..FILE_HEADER_BYTES as u64)?) {
            Ok(header) => header,
            Err(BadFileHeader::Damaged(what)) => return Err(corrupt(0, what.to_owned())),
            Err(BadFileHeader::NewerVersion(version)) => return Err(LaneError::NewerVersion { path, version }),
        };
        if header.number != number {
            return Err(corrupt(0, format!("its header says that it is file {}", header.number)));
        }
        if header.file_bytes != len || !len.is_multiple_of(SECTOR) {
            return Err(corrupt(len.min(header.file_bytes), format!("it has {len} bytes, not {}", header.file_bytes)));
        }
        Ok(LogFile { header, path, file })
    }

    /// Checks that `below` is the file right before this one, of the same lane.
    pub(super) fn check_next_below(&self, below: &LogFile, dir: &Path) -> Result<(), LaneError> {
        let (ours, theirs) = (&self.header, &below.header);
        if theirs.number + 1 != ours.number {
            return Err(missing(dir, ours.number - 1, ours.number));
        }
        if theirs.lane != ours.lane {
            let what = format!("it belongs to lane {:016x}, not {:016x}", ours.lane, theirs.lane);
            return Err(self.corrupt(0, what));
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, offset: u64, what: impl Into<String>) -> LaneError {
        LaneError::Corrupt { path: self.path.clone(), offset, what: what.into() }
    }

    pub(super) fn place(&self, offset: u64) -> Place {
        Place { file: self.header.number, offset }
    }

    /// The end of the last byte at or above `from` that is not zero; `from` if there is none.
    pub(super) fn used_end(&self, from: u64) -> io::Result<u64> {
        let mut used = from;
        let mut at = from;
        while at < self.header.file_bytes {
            let end = (at + WINDOW_BYTES).min(self.header.file_bytes);
            let bytes = self.file.view(at..end)?;
            if let Some(last) = last_nonzero(&bytes) {
                used = at + last as u64 + 1;
            }
            at = end;
        }
        Ok(used)
    }
}

/// The files that a directory holds.
pub(super) struct Files {
    /// Those from the floor on, in order, without a gap. None for a new lane.
    pub(super) needed: Vec<LogFile>,
    /// Those below it: leftovers.
    pub(super) unneeded: Vec<LogFile>,
    /// The lowest file that is needed.
    pub(super) floor: u64,
}

/// Opens the files of a lane, and removes what a crash left of one that was not finished.
///
/// # Errors
/// [`LaneError::Corrupt`] if a file that is needed is missing, is cut short, or belongs elsewhere.
pub(super) fn open_all(io: &dyn Io, dir: &Path) -> Result<Files, LaneError> {
    let names = io.list(dir)?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| file_number(name)).collect();
    let mut needed: Vec<LogFile> = Vec::new();
    let mut floor = 1;
    // The newest first: they say how far down files are needed.
    while let Some(number) = numbers.pop_if(|number| *number >= floor) {
        let log = LogFile::open(io, dir, number)?;
        if let Some(above) = needed.last() {
            above.check_next_below(&log, dir)?;
        }
        floor = floor.max(log.header.floor);
        needed.push(log);
    }
    if let Some(lowest) = needed.last().filter(|lowest| lowest.header.number > floor) {
        return Err(missing(dir, floor, lowest.header.number));
    }
    needed.reverse();
    let lane = needed.first().map_or(0, |log| log.header.lane);
    let unneeded = numbers.iter().map(|number| LogFile::open_unneeded(io, dir, *number, lane));
    let unneeded = unneeded.collect::<io::Result<_>>()?;
    for name in names.iter().filter(|name| name.ends_with(".log.tmp")) {
        io.remove(&dir.join(name))?;
    }
    Ok(Files { needed, unneeded, floor })
}

pub(super) fn missing(dir: &Path, number: u64, there: u64) -> LaneError {
    let what = format!("it is missing, file {there} is there");
    LaneError::Corrupt { path: dir.join(file_name(number)), offset: 0, what }
}

/// Reads a file forwards through a buffer.
pub(super) struct Window<'a> {
    log: &'a LogFile,
    start: u64,
    bytes: Bytes,
}

impl<'a> Window<'a> {
    pub(super) fn new(log: &'a LogFile) -> Self {
        Self { log, start: 0, bytes: Bytes::new() }
    }

    /// The bytes of a range that lies in the file.
    pub(super) fn get(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start < self.start || range.end > self.start + self.bytes.len() as u64 {
            let end = range.end.max(range.start + WINDOW_BYTES).min(self.log.header.file_bytes);
            self.bytes = self.log.file.view(range.start..end)?;
            self.start = range.start;
        }
        Ok(self.bytes.slice((range.start - self.start) as usize..(range.end - self.start) as usize))
    }
}

/// The place of the last byte that is not zero.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    // Nearly all of a file's rest is zero, and megabytes of it are looked at: compare whole pages first.
    const ZEROES: [u8; 4096] = [0; 4096];
    let pages = bytes.chunks(ZEROES.len()).enumerate().rev();
    let mut used = pages.filter(|(_, page)| *page != &ZEROES[..page.len()]);
    used.next().and_then(|(n, page)| Some(n * ZEROES.len() + page.iter().rposition(|byte| *byte != 0)?))
}
