//! Building the text index of one column segment: its words are collected here, and written in Tantivy's formats by Tantivy.

mod column;
mod files;
mod memo;
mod postings;
mod terms;

use tantivy::IndexSettings;
use tantivy::schema::{IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::store::Compressor;

use crate::analyzer::{TOKENIZER, V1};
use crate::blob;
use crate::error::IndexError;
use crate::guard::guarded;
use column::ColumnWriter;

/// Smaller budgets are raised to this: a few long rows need it.
pub const MIN_BUDGET_BYTES: usize = 16 << 20;

/// Larger budgets are cut to this: places are numbers of 32 bits, and one row adds less than as much again.
const MAX_BUDGET_BYTES: usize = 2 << 30;

/// Memory is asked for after this many bytes of text or rows; asking visits every column.
const CHECK_BYTES: usize = 1 << 20;
const CHECK_ROWS: u32 = 256;
/// What a text is taken to cost beside its bytes, where no rows are counted.
const TEXT_OVERHEAD_BYTES: usize = 16;

/// Builds the text index of one segment, row by row.
///
/// ```
/// use std::sync::Arc;
/// use stratalog_index::{Leaf, TextIndex, TextIndexWriter, MIN_BUDGET_BYTES};
///
/// let mut writer = TextIndexWriter::new(&["message".into()], MIN_BUDGET_BYTES)?;
/// writer.add_row(&mut [(0, "disk is full")].into_iter())?;
/// writer.add_row(&mut [(0, "all is well")].into_iter())?;
/// let index = TextIndex::open(Arc::new(bytes::Bytes::from(writer.finish()?)))?;
/// let hits = index.leaf(Some("message"), &Leaf::Term("full".into()))?;
/// assert_eq!(hits.sure.iter().collect::<Vec<_>>(), [0]);
/// # Ok::<(), stratalog_index::IndexError>(())
/// ```
pub struct TextIndexWriter {
    names: Vec<String>,
    columns: Vec<ColumnWriter>,
    analyzer: V1,
    rows: u32,
    budget_bytes: usize,
    unchecked_bytes: usize,
    /// Set by an error: what was built is then incomplete.
    failed: bool,
}

impl TextIndexWriter {
    /// A writer for these columns, which takes at most about `budget_bytes` of memory (raised to
    /// [`MIN_BUDGET_BYTES`], and cut to 2 GiB).
    ///
    /// # Errors
    /// [`IndexError::Internal`] for more columns than there are numbers.
    pub fn new(fields: &[String], budget_bytes: usize) -> Result<Self, IndexError> {
        if u32::try_from(fields.len()).is_err() {
            return Err(IndexError::Internal(format!("an index of {} columns cannot be", fields.len())));
        }
        Ok(Self {
            names: fields.to_vec(),
            columns: fields.iter().map(|_| ColumnWriter::default()).collect(),
            analyzer: V1::default(),
            rows: 0,
            budget_bytes: budget_bytes.clamp(MIN_BUDGET_BYTES, MAX_BUDGET_BYTES),
            unchecked_bytes: 0,
            failed: false,
        })
    }

    /// Adds the next row: pairs of column number (its place in `fields`) and text. Row ids ascend from 0; a row without
    /// text counts too.
    ///
    /// # Errors
    /// [`IndexError::Budget`] when memory runs out. After an error nothing can be added or finished.
    pub fn add_row(&mut self, values: &mut dyn Iterator<Item = (usize, &str)>) -> Result<(), IndexError> {
        self.check_whole()?;
        self.failed = true;
        for (column, text) in values {
            let Some(writer) = self.columns.get_mut(column) else {
                return Err(IndexError::Internal(format!("column {column} of {} does not exist", self.columns.len())));
            };
            writer.add(&mut self.analyzer, text, self.rows);
            self.unchecked_bytes += text.len();
        }
        self.rows += 1;
        self.check_budget()?;
        self.failed = false;
        Ok(())
    }

    /// Adds texts of one column in rows from `first` on, so that rows can come column by column. Within a column rows
    /// ascend; the index has the rows up to the last one that any column was given.
    ///
    /// # Errors
    /// As [`TextIndexWriter::add_row`].
    pub fn add_texts(
        &mut self,
        column: usize,
        first: u32,
        texts: &mut dyn Iterator<Item = Option<&str>>,
    ) -> Result<(), IndexError> {
        self.check_whole()?;
        self.failed = true;
        let columns = self.columns.len();
        for (row, text) in (first..).zip(texts) {
            self.rows = self.rows.max(row + 1);
            let Some(text) = text else { continue };
            let Some(writer) = self.columns.get_mut(column) else {
                return Err(IndexError::Internal(format!("column {column} of {columns} does not exist")));
            };
            writer.add(&mut self.analyzer, text, row);
            self.unchecked_bytes += text.len() + TEXT_OVERHEAD_BYTES;
            if self.unchecked_bytes >= CHECK_BYTES {
                self.check_memory()?;
            }
        }
        self.failed = false;
        Ok(())
    }

    /// Rows added so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Memory in use, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.columns.iter().map(ColumnWriter::used_bytes).sum()
    }

    /// The finished index, for [`TextIndex::open`](crate::TextIndex::open). The same rows give the same bytes.
    ///
    /// # Errors
    /// When an earlier call failed, or building does.
    pub fn finish(self) -> Result<Vec<u8>, IndexError> {
        self.check_whole()?;
        let write = || files::write(&self.columns, self.rows).map_err(|error| IndexError::Internal(error.to_string()));
        let files = guarded("finishing it", IndexError::Internal, write)?;
        Ok(blob::write(self.rows, &self.names, &std::array::from_fn(|i| files[i].as_slice())))
    }

    fn check_whole(&self) -> Result<(), IndexError> {
        match self.failed {
            true => Err(IndexError::Internal("an earlier row failed, so the index would be incomplete".to_owned())),
            false => Ok(()),
        }
    }

    fn check_budget(&mut self) -> Result<(), IndexError> {
        if self.unchecked_bytes < CHECK_BYTES && !self.rows.is_multiple_of(CHECK_ROWS) {
            return Ok(());
        }
        self.check_memory()
    }

    fn check_memory(&mut self) -> Result<(), IndexError> {
        self.unchecked_bytes = 0;
        let used_bytes = self.used_bytes();
        match used_bytes > self.budget_bytes {
            true => Err(IndexError::Budget { rows: self.rows, used_bytes, budget_bytes: self.budget_bytes }),
            false => Ok(()),
        }
    }
}

/// One field per column, named by number: the container keeps the real names, which Tantivy would restrict.
///
/// Each column has a dictionary of its own, so that a search reads only those of the columns that it names.
pub(crate) fn schema(columns: usize) -> Schema {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(TOKENIZER)
        .set_index_option(IndexRecordOption::Basic)
        .set_fieldnorms(false);
    let options = TextOptions::default().set_indexing_options(indexing);
    let mut schema = Schema::builder();
    for column in 0..columns {
        schema.add_text_field(&column.to_string(), options.clone());
    }
    schema.build()
}

/// Nothing is stored; by default Tantivy would start a thread to compress it.
pub(crate) fn settings() -> IndexSettings {
    IndexSettings {
        docstore_compression: Compressor::None,
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

#[cfg(test)]
mod tests;
