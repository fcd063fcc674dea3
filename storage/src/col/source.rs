//! Where the rows of a new segment come from: any column, granule by granule, so that a segment can be written of rows
//! that do not fit into memory.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat;
use arrow::datatypes::{Schema, SchemaRef};

use super::error::ColError;
use super::format::GRANULE_ROWS;
use super::system;

/// Rows to be written, already sorted. A column is asked for twice at most, each time from its first granule to its last.
pub trait ColumnSource {
    /// The columns, system columns first.
    fn schema(&self) -> SchemaRef;

    /// How many rows there are.
    fn rows(&self) -> usize;

    /// Column `col` of a granule: [`GRANULE_ROWS`](super::GRANULE_ROWS) values of the column's type, and what is left in
    /// the last.
    ///
    /// # Errors
    /// What reading it reports; [`ColError::Source`] for what is no column segment's error.
    fn granule(&mut self, col: usize, granule: usize) -> Result<ArrayRef, ColError>;
}

/// Rows in memory.
impl ColumnSource for &RecordBatch {
    fn schema(&self) -> SchemaRef {
        RecordBatch::schema(self)
    }

    fn rows(&self) -> usize {
        self.num_rows()
    }

    fn granule(&mut self, col: usize, granule: usize) -> Result<ArrayRef, ColError> {
        let first = granule * GRANULE_ROWS as usize;
        let rows = (self.num_rows() - first).min(GRANULE_ROWS as usize);
        Ok(self.column(col).slice(first, rows))
    }
}

/// How many granules there are.
pub(super) fn granules(rows: usize) -> usize {
    rows.div_ceil(GRANULE_ROWS as usize)
}

/// What a segment's meta is computed from: the system columns that every segment has, whole, and how many rows are dead.
/// Columns that are missing are left out.
pub(super) fn system_columns(source: &mut impl ColumnSource) -> Result<(RecordBatch, u64), ColError> {
    let schema = source.schema();
    let wanted = [system::TIME, system::INGESTED_AT, system::PARTITION, system::OFFSET];
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for at in wanted.into_iter().filter_map(|name| schema.index_of(name).ok()) {
        let parts =
            (0..granules(source.rows())).map(|granule| source.granule(at, granule)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&dyn Array> = parts.iter().map(|part| &**part).collect();
        if !parts.is_empty() {
            fields.push(schema.field(at).clone());
            columns.push(concat(&parts).expect("the granules of a column have one type"));
        }
    }
    let mut dead = 0;
    if let Ok(at) = schema.index_of(system::DEAD) {
        for granule in 0..granules(source.rows()) {
            let reasons = source.granule(at, granule)?;
            dead += (reasons.len() - reasons.null_count()) as u64;
        }
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(source.rows()));
    let nullable = fields.into_iter().map(|field| field.with_nullable(true)).collect::<Vec<_>>();
    let rows = RecordBatch::try_new_with_options(Schema::new(nullable).into(), columns, &options);
    Ok((rows.expect("the columns are as long as the source says"), dead))
}
