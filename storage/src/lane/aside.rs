//! Has a lane end before damage, and keeps what is behind: nothing of it is deleted, or written over.
//!
//! What is to be done is durable before it is begun, so that a start after a kill goes on with it: a lane half of whose
//! damaged files are gone already would look as one whose last write was cut short.

use std::io;
use std::path::{Path, PathBuf};

use super::LaneError;
use super::files::LogWriter;
use super::format::{FIRST_GROUP, FileHeader, GROUP_END, GroupHeader, Place, SECTOR, file_name, file_number};
use crate::{Io, OpenMode, write_durably};

/// The directory beside the files of a lane in which those are that were set aside, each time in one of its own.
const DIRECTORY: &str = "damaged";
/// Says what is being done, as long as it is.
const NAME: &str = "cut";
/// `SLG-CUT\n`: its first bytes.
const MAGIC: [u8; 8] = *b"SLG-CUT\n";
const VERSION: u32 = 1;
const BYTES: usize = 72;
/// How much is copied at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// Where a lane is to end, and what becomes of the files from there on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// The number of the directory that they come to.
    pub(super) directory: u64,
    /// The first and the last of them.
    pub(super) first: u64,
    pub(super) last: u64,
    /// So many bytes of the first file are whole, 0 if none is, and a new one of this size begins with them. It is set aside
    /// even if all of it is whole: what is written behind those bytes from now on does not come before the files behind it.
    pub(super) keep: u64,
    pub(super) file_bytes: u64,
    /// What the new file says of the lane.
    pub(super) lane: u64,
    pub(super) floor: u64,
}

/// What was set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is.
    pub dir: PathBuf,
    /// Files.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
}

impl Cut {
    /// Makes durable what is to be done.
    pub(super) fn begin(&self, io: &dyn Io, dir: &Path) -> io::Result<()> {
        write_durably(io, &dir.join(NAME), &[&self.encode()])
    }

    /// The one that was begun and has not ended.
    ///
    /// # Errors
    /// [`LaneError::Corrupt`], [`LaneError::NewerVersion`]; those of the disk.
    pub(super) fn find(io: &dyn Io, dir: &Path) -> Result<Option<Self>, LaneError> {
        let path = dir.join(NAME);
        if !io.exists(&path)? {
            return Ok(None);
        }
        let file = io.open(&path, OpenMode::Read)?;
        let len = file.len()?;
        let bytes = file.view(0..len.min(BYTES as u64))?;
        let corrupt = |what: &str| LaneError::Corrupt { path: path.clone(), offset: 0, what: what.to_owned() };
        match <&[u8; BYTES]>::try_from(bytes.as_ref()) {
            Ok(bytes) if len == BYTES as u64 => match Self::decode(bytes) {
                Err(Some(version)) => Err(LaneError::NewerVersion { path, version }),
                decoded => decoded.map(Some).map_err(|_| corrupt("it does not say where the log was to be cut")),
            },
            _ => Err(corrupt("it has not the length of its kind")),
        }
    }

    /// Does it, as often as it takes.
    pub(super) fn carry_out(&self, io: &dyn Io, dir: &Path) -> io::Result<SetAside> {
        let aside = dir.join(DIRECTORY).join(self.directory.to_string());
        io.create_dir_all(&aside)?;
        let numbers = io.list(dir)?.into_iter().filter_map(|name| file_number(&name));
        for name in numbers.filter(|number| (self.first..=self.last).contains(number)).map(file_name) {
            io.rename(&dir.join(&name), &free_name(io, &aside, &name)?)?;
        }
        // The new names first: no crash leaves a file without any.
        io.sync_dir(&aside)?;
        io.sync_dir(dir)?;
        self.begin_anew(io, dir, &aside)?;
        io.remove(&dir.join(NAME))?;
        io.sync_dir(dir)?;
        let (files, bytes) = sizes(io, &aside)?;
        Ok(SetAside { dir: aside, files, bytes })
    }

    /// Makes the file that the lane goes on in, of the whole groups of the first one that was set aside.
    fn begin_anew(&self, io: &dyn Io, dir: &Path, aside: &Path) -> io::Result<()> {
        let Self { lane, first: number, file_bytes, floor, .. } = *self;
        let new = LogWriter::start(io, dir, FileHeader { lane, number, file_bytes, floor })?;
        if self.keep > FIRST_GROUP {
            let old = io.open(&aside.join(file_name(number)), OpenMode::Read)?;
            let mut at = FIRST_GROUP;
            while at < self.keep {
                let end = self.keep.min(at + PIECE_BYTES);
                new.file.write_at(at, &old.view(at..end)?)?;
                at = end;
            }
        } else if number > Place::ORIGIN.file {
            new.file.write_at(FIRST_GROUP, &self.first_mark())?;
        }
        new.finish(io, dir).map(|_| ())
    }

    /// A lane that does not begin with its first file begins with a group.
    fn first_mark(&self) -> [u8; SECTOR as usize] {
        let (place, durable) =
            (Place { file: self.first, offset: FIRST_GROUP }, Place { file: self.first - 1, offset: FIRST_GROUP });
        let group =
            GroupHeader { lane: self.lane, sequence: 2, place, durable, len: SECTOR as u32, frames: 0, chain: 0 };
        let mut sector = [0; SECTOR as usize];
        group.encode(&mut sector);
        sector[SECTOR as usize - GROUP_END.len()..].copy_from_slice(&GROUP_END);
        sector
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let Self { directory, first, last, keep, file_bytes, lane, floor } = *self;
        let fields = [directory, first, last, keep, file_bytes, lane, floor];
        for (place, field) in out[16..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The error has the version, if that is what is not known.
    fn decode(bytes: &[u8; BYTES]) -> Result<Self, Option<u32>> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let field = |n: usize| u64::from_le_bytes(bytes[16 + 8 * n..24 + 8 * n].try_into().expect("8 bytes"));
        if bytes[..8] != MAGIC {
            return Err(None);
        }
        if word(8) != VERSION {
            return Err(Some(word(8)));
        }
        let [directory, first, last, keep, file_bytes, lane, floor] = std::array::from_fn(field);
        let fits = first > 0 && keep <= file_bytes && floor <= first;
        if word(12) != crc32fast::hash(&bytes[16..]) || !fits {
            return Err(None);
        }
        Ok(Self { directory, first, last, keep, file_bytes, lane, floor })
    }
}

/// A path in a directory for a file of this name. Where there is one already, the other is the new file of a try that was cut
/// short, or a copy that somebody has put there meanwhile: it is kept, too.
fn free_name(io: &dyn Io, dir: &Path, name: &str) -> io::Result<PathBuf> {
    let mut path = dir.join(name);
    let mut number = 2;
    while io.exists(&path)? {
        path = dir.join(format!("{name}.{number}"));
        number += 1;
    }
    Ok(path)
}

/// Whether a file of this name says what is being done.
pub(super) fn is_name(name: &str) -> bool {
    name == NAME
}

/// Whether a directory of this name has what was set aside.
pub(super) fn is_directory(name: &str) -> bool {
    name == DIRECTORY
}

/// The number of the directory that comes to what is set aside next.
pub(super) fn next_directory(io: &dyn Io, dir: &Path) -> io::Result<u64> {
    Ok(directories(io, dir)?.into_iter().max().map_or(1, |last| last + 1))
}

/// What was set aside beside the lane in `dir`, and was not removed since.
pub(super) fn list(io: &dyn Io, dir: &Path) -> io::Result<Vec<SetAside>> {
    let mut all = Vec::new();
    for number in directories(io, dir)? {
        let dir = dir.join(DIRECTORY).join(number.to_string());
        let (files, bytes) = sizes(io, &dir)?;
        all.push(SetAside { dir, files, bytes });
    }
    Ok(all)
}

fn directories(io: &dyn Io, dir: &Path) -> io::Result<Vec<u64>> {
    let all = dir.join(DIRECTORY);
    let names = if io.exists(&all)? { io.list(&all)? } else { Vec::new() };
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// How many files a directory has, and bytes in them.
fn sizes(io: &dyn Io, dir: &Path) -> io::Result<(u64, u64)> {
    let names = io.list(dir)?;
    let bytes = names.iter().map(|name| io.open(&dir.join(name), OpenMode::Read)?.len()).sum::<io::Result<u64>>()?;
    Ok((names.len() as u64, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_round_trips_and_nothing_else_is_taken_for_it() {
        let cut = Cut { directory: 1, first: 4, last: 9, keep: 1024, file_bytes: 8192, lane: 7, floor: 3 };
        let bytes = cut.encode();
        assert_eq!(Cut::decode(&bytes), Ok(cut));
        for at in 0..BYTES {
            let mut hurt = bytes;
            hurt[at] ^= 1;
            assert!(Cut::decode(&hurt).is_err(), "byte {at}");
        }
    }
}
