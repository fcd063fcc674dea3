//! A chunk of the tail as rows of a scan. There is no index: leaves are tried on the text, unless it is known that the chunk
//! does not have their words.

use arrow::array::{Array, new_null_array};
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::ScanTable;
use super::filter::Filters;
use super::granule::{Bounds, Decoded, Stored};
use super::log_start::Seen;
use crate::catalog::{RawRecords, ShardSnapshot, TailChunk};
use crate::widen::widen;

/// A chunk, seen through the columns of a table.
pub(super) struct TailRows<'a> {
    pub(super) table: &'a ScanTable,
    pub(super) filters: &'a Filters,
    pub(super) shard: &'a ShardSnapshot,
    pub(super) chunk: &'a TailChunk,
}

impl TailRows<'_> {
    /// Whether a column of the table is text here already, or missing: what becomes text only in the table has words that the
    /// chunk does not know of.
    fn is_text(&self, column: usize) -> bool {
        let stored = self.chunk.rows.column_by_name(self.table.schema.field(column).name());
        stored.is_none_or(|stored| *stored.data_type() == DataType::Utf8)
    }
}

impl Stored for TailRows<'_> {
    fn rows(&self) -> usize {
        self.chunk.rows.num_rows()
    }

    fn read(&self, column: usize) -> Result<Decoded> {
        let field = self.table.schema.field(column);
        match self.chunk.rows.column_by_name(field.name()) {
            Some(stored) => {
                let bytes = stored.get_array_memory_size();
                Ok(Decoded { array: widen(stored.clone(), field.data_type())?, bytes })
            }
            None => Ok(Decoded { array: new_null_array(field.data_type(), self.rows()), bytes: 0 }),
        }
    }

    fn bounds(&self, leaf: usize) -> Bounds {
        let leaf = &self.filters.leaves[leaf];
        let is_excluded = self.chunk.excludes(&leaf.matcher) && leaf.columns.iter().all(|column| self.is_text(*column));
        if is_excluded { Bounds::Nothing } else { Bounds::Unknown }
    }

    fn seen(&self) -> Option<Seen<'_>> {
        Some(Seen::of(self.shard)).filter(|seen| !seen.is_all())
    }

    fn log(&self) -> &dyn RawRecords {
        &*self.shard.raw
    }
}
