//! Searching the text index of one column segment.

mod column;
mod postings;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tantivy::index::{Index, SegmentReader};
use tantivy::schema::Field;

use crate::blob::{BlobDirectory, Container, Source, segment_id};
use crate::error::IndexError;
use crate::guard::guarded;
use crate::hits::Hits;
use crate::pattern::Pattern;
use crate::query::{Leaf, Query};
use crate::writer::{schema, settings};

/// The text index of one segment, open for searching. Cheap to share between threads; the dictionary of a column is
/// read when the column is first searched, and kept.
pub struct TextIndex {
    container: Arc<Container>,
    by_name: HashMap<String, Field>,
    reader: SegmentReader,
}

impl TextIndex {
    /// Opens an index: reads the header, and the directory of each file.
    ///
    /// # Errors
    /// [`IndexError::Corrupt`] when the bytes are not an index, [`IndexError::NewerVersion`], [`IndexError::Io`].
    pub fn open(source: Arc<dyn Source>) -> Result<Self, IndexError> {
        let container = Arc::new(Container::read(&*source)?);
        let directory = BlobDirectory::new(source, container.clone());
        let reader = guarded("opening it", IndexError::Corrupt, || {
            let index = Index::create(directory, schema(container.columns.len()), settings())?;
            let segment = index.segment(index.new_segment_meta(segment_id(), container.rows));
            Ok(SegmentReader::open(&segment)?)
        })?;
        let numbered = container.columns.iter().zip(0..);
        let by_name = numbered.map(|(name, id)| (name.clone(), Field::from_field_id(id))).collect();
        Ok(Self { container, by_name, reader })
    }

    /// Rows of the segment; row ids are below this.
    pub fn rows(&self) -> u32 {
        self.container.rows
    }

    /// Names of the indexed columns.
    pub fn fields(&self) -> &[String] {
        &self.container.columns
    }

    /// The version of the analyzer that it was written with.
    pub fn analyzer_version(&self) -> u32 {
        self.container.analyzer_version
    }

    /// Rows whose text matches a leaf: in the named column, or, with `None`, in any indexed column. Nothing is known
    /// about a column that is not indexed here.
    ///
    /// # Errors
    /// As [`open`](TextIndex::open).
    pub fn leaf(&self, field: Option<&str>, leaf: &Leaf) -> Result<Hits, IndexError> {
        let pattern = Pattern::new(leaf);
        let Some(name) = field else {
            let any = Hits::none();
            return self.by_name.values().try_fold(any, |any, &field| Ok(any.or(&self.in_column(field, &pattern)?)));
        };
        match self.by_name.get(name) {
            Some(&field) => self.in_column(field, &pattern),
            None => Ok(Hits::unknown(self.rows())),
        }
    }

    /// Rows that match a query. Comparisons and existence are not the index's to know: they leave every row possible.
    ///
    /// # Errors
    /// As [`open`](TextIndex::open).
    pub fn search(&self, query: &Query) -> Result<Hits, IndexError> {
        match query {
            Query::All => Ok(Hits::all(self.rows())),
            Query::Leaf { field, leaf } => self.leaf(field.as_deref(), leaf),
            Query::Compare { .. } | Query::Exists { .. } => Ok(Hits::unknown(self.rows())),
            Query::And(members) => {
                let mut all = Hits::all(self.rows());
                for member in members {
                    if all.maybe.is_empty() {
                        break;
                    }
                    all = all.and(&self.search(member)?);
                }
                Ok(all)
            }
            Query::Or(members) => {
                members.iter().try_fold(Hits::none(), |any, member| Ok(any.or(&self.search(member)?)))
            }
            Query::Not(inner) => Ok(self.search(inner)?.not(self.rows())),
        }
    }

    fn in_column(&self, field: Field, pattern: &Pattern) -> Result<Hits, IndexError> {
        guarded("searching it", IndexError::Corrupt, || {
            column::search(&*self.reader.inverted_index(field)?, self.rows(), pattern)
        })
    }
}

impl fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextIndex").field("container", &self.container).finish_non_exhaustive()
    }
}
