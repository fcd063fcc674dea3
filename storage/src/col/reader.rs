//! A file back to rows: any column of any granule.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Schema, SchemaRef};

use super::directory::ColumnEntry;
use super::encoding::{self, Dictionary};
use super::error::ColError;
use super::footer::Footer;
use super::format::{GRANULE_ROWS, KIND};
use super::section::Section;
use crate::container::{BlockFile, Malformed};
use crate::io::Io;
use crate::segment::{Lease, SegmentMeta};

/// A column segment, open. All calls block on the disk; many threads may read at the same time.
#[derive(Debug)]
pub struct ColReader {
    file: Arc<BlockFile>,
    footer: Footer,
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
            let what = "S3: its footer is not the one that the manifest means";
            return Err(ColError::corrupt(reader.path(), reader.file.footer(), what));
        }
        Ok(reader)
    }

    fn open_file(lease: Arc<Lease>) -> Result<Self, ColError> {
        let (file, footer) = BlockFile::open(lease, &KIND, Footer::decode)?;
        let schema = Arc::new(Schema::new(footer.columns.iter().map(ColumnEntry::field).collect::<Vec<_>>()));
        let dictionaries = footer.columns.iter().map(|_| OnceLock::new()).collect();
        Ok(Self { file: Arc::new(file), footer, schema, dictionaries })
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
        let bytes = self.file.view(range.clone())?;
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
        Some(Section::new(self.file.clone(), range))
    }

    /// Reads the whole file again and compares it with the checksum of each block and the BLAKE3 in its trailer.
    ///
    /// # Errors
    /// [`ColError::Io`], and [`ColError::Corrupt`] with file and block.
    pub fn verify(&self) -> Result<(), ColError> {
        Ok(self.file.verify().map(|_| ())?)
    }

    /// [`ColReader::verify`], and compares the BLAKE3 of the whole file with what a manifest says.
    ///
    /// # Errors
    /// As [`ColReader::verify`].
    pub fn verify_against(&self, blake3: &[u8; 32]) -> Result<(), ColError> {
        Ok(self.file.verify_against(blake3)?)
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file's length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> u64 {
        self.file.len()
    }

    /// The dictionary of a column, read when it is first needed.
    fn dictionary(&self, col: usize) -> Result<Option<&Dictionary>, ColError> {
        let column = &self.footer.columns[col];
        let Some(entry) = &column.dictionary else { return Ok(None) };
        if let Some(known) = self.dictionaries[col].get() {
            return Ok(Some(known));
        }
        let bytes = self.file.view(entry.range.clone())?;
        let read = Dictionary::decode(&bytes, entry.values as usize);
        let read = read.map_err(|error| self.malformed(&column.name, entry.range.clone(), error))?;
        Ok(Some(self.dictionaries[col].get_or_init(|| read)))
    }

    /// Bytes whose checksum is right and that are not of the format all the same: a fault of the writer, or of memory.
    fn malformed(&self, column: &str, range: Range<u64>, error: Malformed) -> ColError {
        ColError::corrupt(self.path(), range, format!("column `{column}` does not decode: {}", error.0))
    }
}
