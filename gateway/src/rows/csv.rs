//! Rows as CSV (RFC 4180): a header line, a null is an empty field, timestamps as in JSON.

use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use stratalog_proto::v1::QueryStats;
use stratalog_proto::{Code, Error};

use super::encoder::{RowEncoder, unwritable};
use super::schema::{is_nested, type_name};

const NAIVE_TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// A CSV body. A failed answer has no mark of its own: the body is cut off.
#[derive(Debug, Default)]
pub(crate) struct Csv;

impl Csv {
    fn write(batch: &RecordBatch, header: bool, out: &mut Vec<u8>) -> Result<(), Error> {
        let builder = WriterBuilder::new().with_header(header).with_timestamp_format(NAIVE_TIMESTAMP.to_owned());
        builder.build(out).write(batch).map_err(unwritable)
    }
}

impl RowEncoder for Csv {
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(field) = schema.fields().iter().find(|field| is_nested(field.data_type())) {
            let (name, kind) = (field.name(), type_name(field.data_type()));
            let message = format!("CSV cannot hold column `{name}`, which is a {kind}; ask for application/json");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        Self::write(&RecordBatch::new_empty(schema.clone()), true, out)
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        Self::write(batch, false, out)
    }

    fn finish(&mut self, _stats: &QueryStats, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }
}
