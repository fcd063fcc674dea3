//! One granule or tail chunk: filtered, then projected.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, StringBuilder,
};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use stratalog_proto::{Offset, PartitionId};

use super::counts::Counts;
use super::filter::{Conjunct, Filters};
use super::log_start::{self, Seen};
use super::selection::Selection;
use super::{ScanTable, external};
use crate::catalog::RawRecords;
use crate::matching::{may_match, row_matches};
use crate::schema::names;

/// Texts are tried row by row where no more than this part of the rows is left.
const FEW_ROWS_PART: usize = 16;

/// Rows that lie together: what a granule of a segment and a chunk of the tail have in common.
pub(super) trait Stored {
    /// How many rows.
    fn rows(&self) -> usize;

    /// A column of the table in the table's type, every row; null where the column is missing. Not for `_raw`.
    fn read(&self, column: usize) -> Result<Decoded>;

    /// What is known of a leaf without looking at text.
    fn bounds(&self, leaf: usize) -> Bounds;

    /// What is seen of the partitions, if that may not be all of the rows.
    fn seen(&self) -> Option<Seen<'_>>;

    /// Where `_raw` is.
    fn log(&self) -> &dyn RawRecords;
}

/// A column of a granule.
pub(super) struct Decoded {
    pub(super) array: ArrayRef,
    /// What was read for it, in bytes.
    pub(super) bytes: usize,
}

/// What is known of a leaf over the rows of a granule: sure ⊆ truth ⊆ maybe.
pub(super) enum Bounds {
    /// Nothing.
    Unknown,
    /// That no row matches.
    Nothing,
    /// A bit for every row.
    Bits { sure: BooleanBuffer, maybe: BooleanBuffer },
}

/// A granule under evaluation. Each column is decoded at most once.
pub(super) struct Granule<'a> {
    table: &'a ScanTable,
    filters: &'a Filters,
    counts: &'a Counts,
    stored: &'a dyn Stored,
    decoded: Vec<Option<ArrayRef>>,
    memory: usize,
}

impl<'a> Granule<'a> {
    pub(super) fn new(table: &'a ScanTable, filters: &'a Filters, counts: &'a Counts, stored: &'a dyn Stored) -> Self {
        counts.rows_scanned(stored.rows());
        Self { table, filters, counts, stored, decoded: vec![None; table.schema.fields().len()], memory: 0 }
    }

    /// Memory of the columns decoded so far, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// The rows that are seen and fulfil every filter. No filter is asked of a row that is hidden.
    pub(super) fn filter(&mut self) -> Result<Selection> {
        let mut selection = Selection::all(self.stored.rows());
        self.restrict_to_log(&mut selection)?;
        self.restrict_by_index(&mut selection);
        for conjunct in &self.filters.conjuncts {
            if selection.count() == 0 {
                break;
            }
            let truth = match conjunct.leaf {
                Some(leaf) => self.leaf(leaf, &selection)?,
                None => self.evaluate(conjunct, &selection)?,
            };
            selection.retain(&truth);
        }
        Ok(selection)
    }

    /// The selected rows of the columns, in the order of `projection`.
    pub(super) fn project(
        &mut self,
        selection: &Selection,
        projection: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch> {
        let columns = projection.iter().map(|column| self.column(*column, selection));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(selection.count()));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }

    /// Rows that are hidden are nobody's business, whatever the filters are.
    fn restrict_to_log(&mut self, selection: &mut Selection) -> Result<()> {
        let Some(seen) = self.stored.seen() else { return Ok(()) };
        let (partitions, offsets) = (self.system(names::PARTITION)?, self.system(names::OFFSET)?);
        let (partitions, offsets) = (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
        selection.restrict(&log_start::visible(seen, partitions, offsets)?);
        Ok(())
    }

    /// Rows that a text index excludes need no other look, whatever the order of the conjuncts.
    fn restrict_by_index(&self, selection: &mut Selection) {
        for leaf in self.filters.conjuncts.iter().filter_map(|conjunct| conjunct.leaf) {
            match self.stored.bounds(leaf) {
                Bounds::Unknown => {}
                Bounds::Nothing => selection.restrict(&BooleanBuffer::new_unset(self.stored.rows())),
                Bounds::Bits { maybe, .. } => selection.restrict(&maybe),
            }
        }
    }

    fn evaluate(&mut self, conjunct: &Conjunct, selection: &Selection) -> Result<BooleanArray> {
        let mut columns = Vec::with_capacity(conjunct.columns.len());
        for &column in &conjunct.columns {
            columns.push(match self.filters.leaf_of(column) {
                Some(leaf) => Arc::new(self.leaf(leaf, selection)?) as ArrayRef,
                None => self.column(column, selection)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(selection.count()));
        conjunct.evaluate(&RecordBatch::try_new_with_options(conjunct.schema().clone(), columns, &options)?)
    }

    /// The selected rows of a column of the table.
    fn column(&mut self, column: usize, selection: &Selection) -> Result<ArrayRef> {
        if self.table.schema.field(column).name() == names::RAW {
            return self.raw(selection);
        }
        selection.take(&self.decode(column)?)
    }

    /// Every row of a column of the table.
    fn decode(&mut self, column: usize) -> Result<ArrayRef> {
        if let Some(array) = &self.decoded[column] {
            return Ok(array.clone());
        }
        let Decoded { array, bytes } = self.stored.read(column)?;
        self.counts.bytes_scanned(bytes);
        self.memory += array.get_array_memory_size();
        self.decoded[column] = Some(array.clone());
        Ok(array)
    }

    /// Where a leaf is true among the selected rows: by the index where it is sure, by the text else.
    fn leaf(&mut self, leaf: usize, selection: &Selection) -> Result<BooleanArray> {
        let bounds = self.stored.bounds(leaf);
        let known = |row: usize| match &bounds {
            Bounds::Unknown => None,
            Bounds::Nothing => Some(false),
            Bounds::Bits { sure, maybe } => match (sure.value(row), maybe.value(row)) {
                (true, _) => Some(true),
                (false, true) => None,
                (false, false) => Some(false),
            },
        };
        if selection.row_numbers().all(|row| known(row).is_some()) {
            return Ok(selection.row_numbers().map(known).collect());
        }
        let filters = self.filters;
        let leaf = &filters.leaves[leaf];
        let columns = leaf.columns.iter().map(|column| self.decode(*column)).collect::<Result<Vec<_>>>()?;
        let texts = columns.iter().map(text).collect::<Result<Vec<_>>>()?;
        let (rows, few) = (self.stored.rows(), self.stored.rows() / FEW_ROWS_PART);
        let look_at_all = matches!(bounds, Bounds::Unknown) && selection.count() > few;
        let may = look_at_all.then(|| may_match(&leaf.matcher, &texts, rows));
        let tried = |row| may.as_ref().is_none_or(|may| may.value(row)) && row_matches(&leaf.matcher, &texts, row);
        let truth = |row| known(row).unwrap_or_else(|| tried(row));
        Ok(selection.row_numbers().map(|row| Some(truth(row))).collect())
    }

    /// The values of the selected records, as text.
    fn raw(&mut self, selection: &Selection) -> Result<ArrayRef> {
        let (partitions, offsets) = (self.system(names::PARTITION)?, self.system(names::OFFSET)?);
        let (partitions, offsets) = (partitions.as_primitive::<Int32Type>(), offsets.as_primitive::<Int64Type>());
        let position = |row: usize| {
            let partition = u32::try_from(partitions.value(row)).ok()?;
            Some((PartitionId(partition), Offset(u64::try_from(offsets.value(row)).ok()?)))
        };
        let positions = selection.row_numbers().map(position).collect::<Option<Vec<_>>>();
        let positions = positions.ok_or_else(|| exec_datafusion_err!("a row has a negative partition or offset"))?;
        let values = self.stored.log().raw(&positions).map_err(external)?;
        let mut text = StringBuilder::new();
        for value in &values {
            text.append_option(value.as_deref().map(String::from_utf8_lossy));
        }
        let text = text.finish();
        self.counts.bytes_scanned(text.value_data().len());
        self.memory += text.get_array_memory_size();
        Ok(Arc::new(text))
    }

    /// A column that every table has.
    fn system(&mut self, name: &str) -> Result<ArrayRef> {
        self.decode(self.table.schema.index_of(name)?)
    }
}

fn text(array: &ArrayRef) -> Result<&StringArray> {
    let what = || internal_datafusion_err!("a text leaf is over a column of type {}", array.data_type());
    array.as_string_opt::<i32>().ok_or_else(what)
}
