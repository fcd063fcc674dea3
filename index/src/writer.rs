//! Building the text index of one column segment.

mod row;

use std::sync::Arc;

use tantivy::directory::{Directory, RamDirectory};
use tantivy::index::{Index, SegmentComponent};
use tantivy::schema::{Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::store::Compressor;
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};
use tantivy::{IndexSettings, SingleSegmentIndexWriter};

use crate::analyzer::{TOKENIZER, V1};
use crate::blob::{self, Component};
use crate::error::IndexError;
use crate::guard::guarded;
use row::{Row, RowText};

/// Room for what an empty writer takes (about 10 MiB: a page of each of its arenas, and the table of terms) and some rows.
/// Smaller budgets are raised to this.
pub const MIN_BUDGET_BYTES: usize = 16 << 20;

/// The table of terms starts with a third of this and grows; it is not sized for a whole budget that few rows may use.
const INITIAL_BUDGET_BYTES: usize = 4 << 20;

/// Memory is asked for after this many bytes of text or rows; asking visits every column.
const CHECK_BYTES: usize = 1 << 20;
const CHECK_ROWS: u32 = 256;

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
    columns: Vec<String>,
    directory: RamDirectory,
    /// `None` after an error, since what was built is then incomplete.
    writer: Option<SingleSegmentIndexWriter<Row>>,
    /// Reused from row to row.
    row: Arc<RowText>,
    rows: u32,
    budget_bytes: usize,
    unchecked_bytes: usize,
}

impl TextIndexWriter {
    /// A writer for these columns, which takes at most about `budget_bytes` of memory (raised to
    /// [`MIN_BUDGET_BYTES`]).
    ///
    /// # Errors
    /// [`IndexError::Internal`] when Tantivy refuses.
    pub fn new(fields: &[String], budget_bytes: usize) -> Result<Self, IndexError> {
        let directory = RamDirectory::create();
        let writer = Index::builder()
            .schema(schema(fields.len()))
            .tokenizers(tokenizers())
            .settings(settings())
            .single_segment_index_writer(directory.clone(), INITIAL_BUDGET_BYTES)
            .map_err(internal)?;
        Ok(Self {
            columns: fields.to_vec(),
            directory,
            writer: Some(writer),
            row: Arc::default(),
            rows: 0,
            budget_bytes: budget_bytes.max(MIN_BUDGET_BYTES),
            unchecked_bytes: 0,
        })
    }

    /// Adds the next row: pairs of column number (its place in `fields`) and text. Row ids ascend from 0; a row without
    /// text counts too.
    ///
    /// # Errors
    /// [`IndexError::Budget`] when memory runs out. After an error nothing can be added or finished.
    pub fn add_row(&mut self, values: &mut dyn Iterator<Item = (usize, &str)>) -> Result<(), IndexError> {
        let mut writer = self.writer.take().ok_or_else(given_up)?;
        let row = Arc::get_mut(&mut self.row).expect("Tantivy lets go of a document when it has indexed it");
        row.clear();
        for (column, text) in values {
            if column >= self.columns.len() {
                return Err(IndexError::Internal(format!("column {column} of {} does not exist", self.columns.len())));
            }
            row.push(Field::from_field_id(column as u32), text);
        }
        self.unchecked_bytes += row.bytes();
        guarded("adding a row", IndexError::Internal, || writer.add_document(Row(self.row.clone())).map_err(internal))?;
        self.rows += 1;
        self.check_budget(&writer)?;
        self.writer = Some(writer);
        Ok(())
    }

    /// Rows added so far.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Memory in use, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, SingleSegmentIndexWriter::mem_usage)
    }

    /// The finished index, for [`TextIndex::open`](crate::TextIndex::open). The same rows give the same bytes.
    ///
    /// # Errors
    /// When an earlier call failed, or building does.
    pub fn finish(mut self) -> Result<Vec<u8>, IndexError> {
        let writer = self.writer.take().ok_or_else(given_up)?;
        let index = guarded("finishing it", IndexError::Internal, || writer.finalize().map_err(internal))?;
        let segments = index.searchable_segment_metas().map_err(internal)?;
        let [segment] = segments.as_slice() else {
            return Err(IndexError::Internal(format!("{} segments were written, not one", segments.len())));
        };
        let mut files = Vec::with_capacity(Component::ALL.len());
        for component in Component::ALL {
            let path = segment.relative_path(segment_component(component));
            files.push(self.directory.open_read(&path).map_err(internal)?.read_bytes()?);
        }
        let files = std::array::from_fn(|i| files[i].as_slice());
        Ok(blob::write(self.rows, &self.columns, &files))
    }

    fn check_budget(&mut self, writer: &SingleSegmentIndexWriter<Row>) -> Result<(), IndexError> {
        if self.unchecked_bytes < CHECK_BYTES && !self.rows.is_multiple_of(CHECK_ROWS) {
            return Ok(());
        }
        self.unchecked_bytes = 0;
        let used_bytes = writer.mem_usage();
        match used_bytes > self.budget_bytes {
            true => Err(IndexError::Budget { rows: self.rows, used_bytes, budget_bytes: self.budget_bytes }),
            false => Ok(()),
        }
    }
}

/// One field per column, named by number: the container keeps the real names, which Tantivy would restrict.
///
/// A field costs little: all share one arena and one table of terms, and each gets a dictionary of its own, so that a
/// search reads only the dictionaries of the columns that it names.
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

fn tokenizers() -> TokenizerManager {
    let tokenizers = TokenizerManager::new();
    tokenizers.register(TOKENIZER, TextAnalyzer::builder(V1::default()).build());
    tokenizers
}

fn segment_component(component: Component) -> SegmentComponent {
    match component {
        Component::Terms => SegmentComponent::Terms,
        Component::Postings => SegmentComponent::Postings,
        Component::Positions => SegmentComponent::Positions,
        Component::FastFields => SegmentComponent::FastFields,
        Component::FieldNorms => SegmentComponent::FieldNorms,
    }
}

fn given_up() -> IndexError {
    IndexError::Internal("an earlier row failed, so the index would be incomplete".to_owned())
}

fn internal(error: impl std::fmt::Display) -> IndexError {
    IndexError::Internal(error.to_string())
}
