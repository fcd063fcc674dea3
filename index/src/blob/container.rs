//! Writing and reading the container.
//!
//! ```text
//! magic "SLTEXT\r\n" | version u16 | files u16 | analyzer version u32 | rows u32 | columns u32 | directory length u32
//!   | crc32 of the header's other fields and the directory u32 | directory | files
//! directory := columns × (length u32, name) , files × (kind u32, offset u64, length u64)
//! ```
//! Integers are little-endian; offsets count from the start of the container.

use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};

use super::Source;
use crate::{ANALYZER_VERSION, IndexError};

const MAGIC: &[u8; 8] = b"SLTEXT\r\n";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 8 + 2 + 2 + 4 + 4 + 4 + 4 + 4;
const CRC_AT: usize = HEADER_BYTES - 4;
/// Bound on the memory that opening takes before the checksum has vouched for anything.
const MAX_DIRECTORY_BYTES: u32 = 64 << 20;

/// A file of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Component {
    /// Term dictionaries.
    Terms = 1,
    /// Lists of documents.
    Postings = 2,
    /// Empty, but the reader looks at it.
    Positions = 3,
    /// Empty, but the reader looks at it.
    FastFields = 4,
    /// Empty, but the reader looks at it.
    FieldNorms = 5,
}

impl Component {
    pub(crate) const ALL: [Component; 5] =
        [Self::Terms, Self::Postings, Self::Positions, Self::FastFields, Self::FieldNorms];
}

/// The header and directory of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) analyzer_version: u32,
    pub(crate) rows: u32,
    pub(crate) columns: Vec<String>,
    files: [Range<u64>; Component::ALL.len()],
}

/// Puts a container together; `files` in the order of [`Component::ALL`].
pub(crate) fn write(rows: u32, columns: &[String], files: &[&[u8]; Component::ALL.len()]) -> Vec<u8> {
    let names: usize = columns.iter().map(|name| 4 + name.len()).sum();
    let directory_len = names + files.len() * 20;
    let payload: usize = files.iter().map(|file| file.len()).sum();
    let mut out = Vec::with_capacity(HEADER_BYTES + directory_len + payload);
    out.put_slice(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(files.len() as u16);
    out.put_u32_le(ANALYZER_VERSION);
    out.put_u32_le(rows);
    out.put_u32_le(columns.len() as u32);
    out.put_u32_le(directory_len as u32);
    out.put_u32_le(0);
    for name in columns {
        out.put_u32_le(name.len() as u32);
        out.put_slice(name.as_bytes());
    }
    let mut offset = (HEADER_BYTES + directory_len) as u64;
    for (component, file) in Component::ALL.iter().zip(files) {
        out.put_u32_le(*component as u32);
        out.put_u64_le(offset);
        out.put_u64_le(file.len() as u64);
        offset += file.len() as u64;
    }
    let crc = crc_of(&out[..CRC_AT], &out[HEADER_BYTES..]);
    out[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    for file in files {
        out.put_slice(file);
    }
    out
}

impl Container {
    /// Reads and verifies the header and the directory.
    ///
    /// # Errors
    /// [`IndexError::Corrupt`] for anything that a writer would not have written, [`IndexError::NewerVersion`] for a
    /// later format.
    pub(crate) fn read(source: &dyn Source) -> Result<Container, IndexError> {
        if source.len() < HEADER_BYTES as u64 {
            return Err(corrupt(format!("{} bytes are too few for a header", source.len())));
        }
        let header = exactly(source, 0..HEADER_BYTES as u64)?;
        let mut fields = header.clone();
        if fields.split_to(MAGIC.len()) != MAGIC[..] {
            return Err(corrupt("it does not start with the magic bytes"));
        }
        let version = fields.get_u16_le();
        if version > VERSION {
            return Err(IndexError::NewerVersion { found: version.into(), known: VERSION.into() });
        }
        let files = fields.get_u16_le();
        let (analyzer_version, rows) = (fields.get_u32_le(), fields.get_u32_le());
        let (columns, directory_len, crc) = (fields.get_u32_le(), fields.get_u32_le(), fields.get_u32_le());
        let directory_end = HEADER_BYTES as u64 + u64::from(directory_len);
        if directory_len > MAX_DIRECTORY_BYTES || directory_end > source.len() {
            return Err(corrupt(format!("its directory of {directory_len} bytes does not fit")));
        }
        let directory = exactly(source, HEADER_BYTES as u64..directory_end)?;
        if crc_of(&header[..CRC_AT], &directory) != crc {
            return Err(corrupt("the checksum of its header does not hold"));
        }
        if version != VERSION || usize::from(files) != Component::ALL.len() || rows > i32::MAX as u32 {
            return Err(corrupt(format!("version {version} with {files} files and {rows} rows does not exist")));
        }
        if analyzer_version > ANALYZER_VERSION {
            return Err(IndexError::NewerVersion { found: analyzer_version, known: ANALYZER_VERSION });
        }
        let mut entries = directory;
        let columns = read_columns(&mut entries, columns)?;
        let files = read_files(&mut entries, directory_end..source.len())?;
        match entries.is_empty() {
            true => Ok(Container { analyzer_version, rows, columns, files }),
            false => Err(corrupt("its directory has bytes left over")),
        }
    }

    /// Where a file's bytes are.
    pub(crate) fn file(&self, component: Component) -> Range<u64> {
        self.files[component as usize - 1].clone()
    }
}

fn read_columns(entries: &mut Bytes, count: u32) -> Result<Vec<String>, IndexError> {
    let mut columns = Vec::new();
    for _ in 0..count {
        let length = entries.try_get_u32_le().map_err(|_| corrupt("its directory ends within a column"))?;
        if entries.len() < length as usize {
            return Err(corrupt("a column name is longer than the directory"));
        }
        let name = entries.split_to(length as usize);
        let name = std::str::from_utf8(&name).map_err(|_| corrupt("a column name is not UTF-8"))?;
        columns.push(name.to_owned());
    }
    Ok(columns)
}

fn read_files(entries: &mut Bytes, room: Range<u64>) -> Result<[Range<u64>; Component::ALL.len()], IndexError> {
    let mut files = [const { 0..0 }; Component::ALL.len()];
    for (component, file) in Component::ALL.iter().zip(&mut files) {
        if entries.len() < 20 {
            return Err(corrupt("its directory ends within a file"));
        }
        let (kind, offset, length) = (entries.get_u32_le(), entries.get_u64_le(), entries.get_u64_le());
        let end = offset.checked_add(length).filter(|&end| room.start <= offset && end <= room.end);
        match end {
            Some(end) if kind == *component as u32 => *file = offset..end,
            _ => return Err(corrupt(format!("file {kind} at {offset} of {length} bytes does not fit"))),
        }
    }
    Ok(files)
}

/// A view that is as long as it was asked for.
pub(super) fn exactly(source: &dyn Source, range: Range<u64>) -> Result<Bytes, IndexError> {
    let bytes = source.view(range.clone())?;
    match bytes.len() as u64 == range.end - range.start {
        true => Ok(bytes),
        false => Err(corrupt(format!("{} bytes were read of {range:?}", bytes.len()))),
    }
}

fn crc_of(header: &[u8], directory: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(directory);
    crc.finalize()
}

/// The same bytes, with a checksum that is right for header and directory as long as it says that is: so that a fuzzer gets
/// behind it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn with_right_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(len) = bytes.get(24..CRC_AT).and_then(|len| Some(u32::from_le_bytes(len.try_into().ok()?))) else {
        return bytes;
    };
    let Some(directory) = bytes.get(HEADER_BYTES..).and_then(|behind| behind.get(..len as usize)) else { return bytes };
    let crc = crc_of(&bytes[..CRC_AT], directory);
    bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn corrupt(what: impl Into<String>) -> IndexError {
    IndexError::Corrupt(what.into())
}
