//! Where the rows of a merge come from.

use std::cell::Cell;
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampNanosecondType, UInt64Type};
use stratalog_proto::{Code, Error};
use stratalog_storage::col::{ColReader, GRANULE_ROWS, system};

use crate::pace::Pace;

/// Rows in the order of [`Key`], cut into granules.
pub(super) enum Input {
    /// A live segment.
    Segment(Segment),
    /// Rows that stand for some of the segments'.
    Rows(RecordBatch),
}

/// A live segment, open.
pub(super) struct Segment {
    reader: Arc<ColReader>,
    /// Whether something of it could not be read.
    is_unreadable: Cell<bool>,
}

impl Deref for Segment {
    type Target = ColReader;

    fn deref(&self) -> &ColReader {
        &self.reader
    }
}

/// What rows are ordered by: time, partition, offset.
pub(super) type Key = (i64, i32, i64);

impl Input {
    pub(super) fn of_segment(reader: Arc<ColReader>) -> Self {
        Self::Segment(Segment { reader, is_unreadable: Cell::new(false) })
    }

    /// Whether something of it could not be read, or is not what it has to be.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Segment(segment) if segment.is_unreadable.get())
    }

    /// Remembers that it cannot be read.
    pub(super) fn blame(&self) {
        if let Self::Segment(segment) = self {
            segment.is_unreadable.set(true);
        }
    }

    /// Rows in memory, brought into order.
    ///
    /// # Errors
    /// [`Code::Internal`] for rows without the system columns.
    pub(super) fn of_rows(rows: &RecordBatch) -> Result<Self, Error> {
        let keys = Keys::of(rows)?;
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_unstable_by_key(|row| keys.get(*row as usize));
        let sorted = take_record_batch(rows, &UInt32Array::from(order));
        sorted.map(Self::Rows).map_err(|error| Error::new(Code::Internal, format!("cannot order rows: {error}")))
    }

    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Input::Segment(reader) => reader.schema().clone(),
            Input::Rows(rows) => rows.schema(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Input::Segment(reader) => reader.rows() as usize,
            Input::Rows(rows) => rows.num_rows(),
        }
    }

    pub(super) fn granules(&self) -> usize {
        self.rows().div_ceil(GRANULE_ROWS as usize)
    }

    pub(super) fn granule_rows(&self, granule: usize) -> Range<usize> {
        let first = granule * GRANULE_ROWS as usize;
        first..self.rows().min(first + GRANULE_ROWS as usize)
    }

    /// Whether it is rows that stand for others.
    pub(super) fn stands_in(&self) -> bool {
        matches!(self, Input::Rows(_))
    }

    /// Column `col` of a granule. Blocks on the disk, and on the pace.
    ///
    /// # Errors
    /// What reading reports; [`Code::Cancelled`] when the node stops.
    pub(super) fn read(&self, col: usize, granule: usize, pace: &Pace) -> Result<ArrayRef, Error> {
        match self {
            Input::Segment(reader) => {
                pace.spend(reader.stored_bytes(col, granule))?;
                Ok(reader.read(col, granule).inspect_err(|_| self.blame())?)
            }
            Input::Rows(rows) => {
                let range = self.granule_rows(granule);
                Ok(rows.column(col).slice(range.start, range.len()))
            }
        }
    }

    /// Nulls of column `col` in all rows.
    pub(super) fn null_count(&self, col: usize) -> usize {
        match self {
            Input::Segment(reader) => {
                reader.null_counts(col).as_primitive::<UInt64Type>().values().iter().sum::<u64>() as usize
            }
            Input::Rows(rows) => rows.column(col).null_count(),
        }
    }

    /// The keys of a granule.
    pub(super) fn keys(&self, granule: usize, pace: &Pace) -> Result<Keys, Error> {
        let schema = self.schema();
        let column = |name: &str| {
            let at = schema.index_of(name).map_err(|_| missing(name))?;
            self.read(at, granule, pace)
        };
        Keys::new(column(system::TIME)?, column(system::PARTITION)?, column(system::OFFSET)?)
    }
}

/// The keys of some rows.
pub(super) struct Keys {
    times: arrow::array::TimestampNanosecondArray,
    partitions: arrow::array::Int32Array,
    offsets: arrow::array::Int64Array,
}

impl Keys {
    fn of(rows: &RecordBatch) -> Result<Self, Error> {
        let column = |name: &str| rows.column_by_name(name).cloned().ok_or_else(|| missing(name));
        Self::new(column(system::TIME)?, column(system::PARTITION)?, column(system::OFFSET)?)
    }

    fn new(times: ArrayRef, partitions: ArrayRef, offsets: ArrayRef) -> Result<Self, Error> {
        let times = times.as_primitive_opt::<TimestampNanosecondType>().ok_or_else(|| missing(system::TIME))?;
        let partitions = partitions.as_primitive_opt::<Int32Type>().ok_or_else(|| missing(system::PARTITION))?;
        let offsets = offsets.as_primitive_opt::<Int64Type>().ok_or_else(|| missing(system::OFFSET))?;
        Ok(Self { times: times.clone(), partitions: partitions.clone(), offsets: offsets.clone() })
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn get(&self, row: usize) -> Key {
        (self.times.value(row), self.partitions.value(row), self.offsets.value(row))
    }
}

fn missing(column: &str) -> Error {
    Error::new(Code::Internal, format!("rows to be merged have no column {column}, or one of another type"))
}
