//! The seam between answers and media types.

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use stratalog_proto::v1::QueryStats;
use stratalog_proto::{Code, Error};

/// Turns one answer into the bytes of one body: `start`, then `rows` for each batch, then `finish` or `fail`.
///
/// Each call appends to `out`, which the caller sends on and empties between calls.
pub(crate) trait RowEncoder: Send {
    /// What precedes the first row.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if the media type cannot hold a column of this schema.
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), Error>;

    /// The rows of one batch.
    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error>;

    /// What follows the last row of a whole answer.
    fn finish(&mut self, stats: &QueryStats, out: &mut Vec<u8>) -> Result<(), Error>;

    /// What a reader sees before a body is cut off because the query failed half way.
    fn fail(&mut self, _error: &Error, _out: &mut Vec<u8>) {}
}

/// An answer that Arrow itself cannot write is a defect of ours: schemas are checked in `start`.
pub(super) fn unwritable(error: ArrowError) -> Error {
    Error::new(Code::Internal, format!("the rows of the answer could not be written: {error}"))
}
