//! A file back to rows: any column of any granule.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Schema, SchemaRef};

use super::blocks::{BlockReader, view};
use super::cursor::Malformed;
use super::directory::ColumnEntry;
use super::encoding::{self, Dictionary};
use super::error::ColError;
use super::footer::Footer;
use super::format::{BLOCK_BYTES, FORMAT_VERSION, GRANULE_ROWS, HEADER_BYTES, TRAILER_BYTES, Trailer};
use super::section::Section;
use crate::io::{File, Io, OpenMode};
use crate::segment::{Lease, SegmentMeta};

/// A column segment, open. All calls block on the disk; many threads may read at the same time.
#[derive(Debug)]
pub struct ColReader {
    blocks: Arc<BlockReader>,
    footer: Footer,
    trailer: Trailer,
    schema: SchemaRef,
    /// Of each column, once it was needed.
    dictionaries: Box<[OnceLock<Dictionary>]>,
}

impl ColReader {
    /// Opens a file. Reads its footer only.
    ///
    /// # Errors
    /// [`ColError::Io`], [`ColError::Corrupt`] for a file that does not end in an intact footer, and
    /// [`ColError::NewerVersion`].
    pub fn open(io: Arc<dyn Io>, path: &Path) -> Result<Self, ColError> {
        Self::open_file(Arc::new(Lease::new(io, path.to_owned())))
    }

    /// Opens the file that a manifest means by `meta`, and checks that it is that one.
    pub(crate) fn open_leased(lease: Arc<Lease>, meta: &SegmentMeta) -> Result<Self, ColError> {
        let reader = Self::open_file(lease)?;
        let found = SegmentMeta { bytes: reader.len(), blake3: meta.blake3, ..reader.footer.meta.clone() };
        if found != *meta {
            let range = reader.trailer.footer_start..reader.trailer_start();
            return Err(ColError::corrupt(
                reader.path(),
                range,
                "S3: its footer is not the one that the manifest means",
            ));
        }
        Ok(reader)
    }

    fn open_file(lease: Arc<Lease>) -> Result<Self, ColError> {
        let path = &lease.path;
        let file = lease.io.open(path, OpenMode::Read).map_err(|error| ColError::io("open", path, error))?;
        let len = file.len().map_err(|error| ColError::io("open", path, error))?;
        let (trailer, mut footer) = read_ends(&*file, path, len)?;
        let checksums = std::mem::take(&mut footer.checksums);
        let schema = Arc::new(Schema::new(footer.columns.iter().map(ColumnEntry::field).collect::<Vec<_>>()));
        let dictionaries = footer.columns.iter().map(|_| OnceLock::new()).collect();
        let blocks = Arc::new(BlockReader::new(file, lease.clone(), trailer.footer_start, checksums));
        Ok(Self { blocks, footer, trailer, schema, dictionaries })
    }

    /// The columns, system columns first.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.footer.rows()
    }

    /// How many granules there are.
    pub fn granules(&self) -> usize {
        self.rows().div_ceil(GRANULE_ROWS) as usize
    }

    /// The rows of a granule.
    ///
    /// # Panics
    /// For a granule that is not there.
    pub fn granule_rows(&self, granule: usize) -> Range<u32> {
        assert!(granule < self.granules(), "granule {granule} of {}", self.granules());
        let first = granule as u32 * GRANULE_ROWS;
        first..self.rows().min(first + GRANULE_ROWS)
    }

    /// A value not above any of column `col`, for each granule; a null says nothing. Of the column's type.
    pub fn zone_min(&self, col: usize) -> ArrayRef {
        self.footer.columns[col].zones.min.clone()
    }

    /// A value not below any of column `col`, for each granule; a null says nothing. Of the column's type.
    pub fn zone_max(&self, col: usize) -> ArrayRef {
        self.footer.columns[col].zones.max.clone()
    }

    /// How many nulls column `col` has in each granule: UInt64.
    pub fn null_counts(&self, col: usize) -> ArrayRef {
        self.footer.columns[col].zones.null_counts.clone()
    }

    /// Bytes that the rows of column `col` take in `granule`, on disk and without a shared dictionary.
    pub fn stored_bytes(&self, col: usize, granule: usize) -> u64 {
        let chunk = self.footer.columns[col].chunk(granule);
        chunk.end - chunk.start
    }

    /// Reads column `col` of a granule: an array of the column's type, with [`ColReader::granule_rows`] values.
    ///
    /// # Errors
    /// [`ColError::Io`], and [`ColError::Corrupt`] with file and block.
    ///
    /// # Panics
    /// For a column or granule that is not there.
    pub fn read(&self, col: usize, granule: usize) -> Result<ArrayRef, ColError> {
        let column = &self.footer.columns[col];
        let range = column.chunk(granule);
        let bytes = self.blocks.view(range.clone())?;
        let dictionary = self.dictionary(col)?;
        let rows = self.granule_rows(granule);
        let array = encoding::decode(column.column, &bytes, rows.len(), dictionary);
        let array = array.map_err(|error| self.malformed(&column.name, range.clone(), error))?;
        if array.null_count() as u64 != column.null_count(granule) {
            let error = Malformed("it has another number of nulls than its zone map says");
            return Err(self.malformed(&column.name, range, error));
        }
        Ok(array)
    }

    /// The bytes of the text index, if there is one.
    pub fn text(&self) -> Option<Section> {
        let range = self.footer.text_section.clone()?;
        Some(Section::new(self.blocks.clone(), range))
    }

    /// Reads the whole file again and compares it with the checksum of each block and the BLAKE3 in its trailer.
    ///
    /// # Errors
    /// [`ColError::Io`], and [`ColError::Corrupt`] with file and block.
    pub fn verify(&self) -> Result<(), ColError> {
        self.hashes().map(|_| ())
    }

    /// [`ColReader::verify`], and compares the BLAKE3 of the whole file with what a manifest says.
    ///
    /// # Errors
    /// As [`ColReader::verify`].
    pub fn verify_against(&self, blake3: &[u8; 32]) -> Result<(), ColError> {
        let whole = self.hashes()?;
        if whole != *blake3 {
            let what = "the file's BLAKE3 is not the one in the manifest: it is another file";
            return Err(ColError::corrupt(self.path(), 0..self.len(), what));
        }
        Ok(())
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.blocks.path()
    }

    /// The file's length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> u64 {
        self.trailer_start() + TRAILER_BYTES as u64
    }

    fn trailer_start(&self) -> u64 {
        self.trailer.footer_start + u64::from(self.trailer.footer_len)
    }

    /// Checks all but the trailer against the hash in the trailer; gives the hash of the whole file.
    fn hashes(&self) -> Result<[u8; 32], ColError> {
        let end = self.trailer_start();
        let mut hasher = self.blocks.hash(end)?;
        if *hasher.finalize().as_bytes() != self.trailer.blake3 {
            let range = self.trailer.footer_start..end;
            return Err(ColError::corrupt(self.path(), range, "the file's BLAKE3 is not the one in its trailer"));
        }
        let trailer = view(&**self.blocks.file(), self.path(), end..self.len())?;
        if trailer[..] != self.trailer.encode() {
            return Err(ColError::corrupt(self.path(), end..self.len(), "the trailer has changed since it was opened"));
        }
        hasher.update(&trailer);
        Ok(*hasher.finalize().as_bytes())
    }

    /// The dictionary of a column, read when it is first needed.
    fn dictionary(&self, col: usize) -> Result<Option<&Dictionary>, ColError> {
        let column = &self.footer.columns[col];
        let Some(entry) = &column.dictionary else { return Ok(None) };
        if let Some(known) = self.dictionaries[col].get() {
            return Ok(Some(known));
        }
        let bytes = self.blocks.view(entry.range.clone())?;
        let read = Dictionary::decode(&bytes, entry.values as usize);
        let read = read.map_err(|error| self.malformed(&column.name, entry.range.clone(), error))?;
        Ok(Some(self.dictionaries[col].get_or_init(|| read)))
    }

    /// Bytes whose checksum is right and that are not of the format all the same: a fault of the writer, or of memory.
    fn malformed(&self, column: &str, range: Range<u64>, error: Malformed) -> ColError {
        ColError::corrupt(self.path(), range, format!("column `{column}` does not decode: {}", error.0))
    }
}

/// Reads trailer and footer: one view of the file's end, and a second one for a footer that is longer than a block.
fn read_ends(file: &dyn File, path: &Path, len: u64) -> Result<(Trailer, Footer), ColError> {
    let least = (HEADER_BYTES + TRAILER_BYTES) as u64;
    if len < least {
        let what = format!("it has {len} bytes, a column segment has at least {least}");
        return Err(ColError::corrupt(path, 0..len, what));
    }
    let end = view(file, path, len.saturating_sub(BLOCK_BYTES)..len)?;
    let (behind, trailer) = end.split_at(end.len() - TRAILER_BYTES);
    let trailer_start = len - TRAILER_BYTES as u64;
    let trailer = Trailer::decode(trailer).map_err(|error| ColError::corrupt(path, trailer_start..len, error.0))?;
    if trailer.version > FORMAT_VERSION {
        return Err(ColError::NewerVersion { path: path.to_owned(), version: trailer.version });
    }
    let range = trailer.footer_start..trailer_start;
    if trailer.footer_start.checked_add(trailer.footer_len.into()) != Some(trailer_start) {
        return Err(ColError::corrupt(path, trailer_start..len, "the footer does not end where the trailer starts"));
    }
    let footer_len = trailer.footer_len as usize;
    let footer = match behind.len().checked_sub(footer_len) {
        Some(start) => end.slice(start..start + footer_len),
        None => view(file, path, range.clone())?,
    };
    if crc32fast::hash(&footer) != trailer.footer_crc {
        return Err(ColError::corrupt(path, range, "the footer's checksum does not match"));
    }
    let decoded = Footer::decode(&footer, trailer.footer_start);
    let footer = decoded.map_err(|error| ColError::corrupt(path, range, format!("the footer: {}", error.0)))?;
    Ok((trailer, footer))
}
