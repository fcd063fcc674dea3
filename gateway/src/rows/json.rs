//! Rows as JSON: the one writer behind JSON and NDJSON answers of SQL and search.
//!
//! Timestamps are RFC 3339 with `Z` and as many digits of a second as they need (none, 3, 6 or 9); a timestamp without a
//! time zone is UTC. Integers are JSON numbers, NaN and infinities are null, binary is hex, a null is there as null.

use std::io::{self, Write};

use arrow::datatypes::SchemaRef;
use arrow::json::WriterBuilder;
use arrow::json::writer::{JsonFormat, LineDelimited, Writer};
use arrow::record_batch::RecordBatch;
use serde_json::json;
use stratalog_proto::Error;
use stratalog_proto::v1::QueryStats;

use super::encoder::{RowEncoder, unwritable};
use super::schema::{type_name, unique_names};
use super::stats::stats_json;

/// RFC 3339 for timestamps that carry no time zone.
const NAIVE_TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.fZ";

/// Writes record batches of one schema as JSON objects, a key for each column in its order.
#[derive(Debug)]
pub struct JsonRows {
    schema: SchemaRef,
}

impl JsonRows {
    /// A writer for batches of `schema`; columns of the same name are told apart by [`unique_names`].
    pub fn new(schema: &SchemaRef) -> Self {
        Self { schema: unique_names(schema) }
    }

    /// The schema with the names as they are written.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Appends each row as one line.
    ///
    /// # Errors
    /// `Internal` if a column has a type that JSON cannot hold.
    pub fn write_lines(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write::<LineDelimited>(batch, out)
    }

    /// Appends the rows as elements of an array, with commas between them.
    ///
    /// # Errors
    /// As [`JsonRows::write_lines`].
    pub fn write_elements(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write::<Elements>(batch, out)
    }

    fn write<F: JsonFormat>(&self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        let named = RecordBatch::try_new_with_options(
            self.schema.clone(),
            batch.columns().to_vec(),
            &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
        )
        .map_err(unwritable)?;
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_timestamp_format(NAIVE_TIMESTAMP.to_owned());
        let mut writer: Writer<&mut Vec<u8>, F> = builder.build(out);
        writer.write(&named).map_err(unwritable)
    }
}

/// Array elements, each on its own line, without the brackets.
#[derive(Debug, Default)]
struct Elements;

impl JsonFormat for Elements {
    fn start_row<W: Write>(&self, writer: &mut W, is_first_row: bool) -> Result<(), arrow::error::ArrowError> {
        let separator: &[u8] = if is_first_row { b"" } else { b",\n" };
        writer.write_all(separator).map_err(|error: io::Error| error.into())
    }
}

/// `{"columns":[…],"rows":[…],"stats":{…}}`; a failed one has `error` in the place of `stats`.
#[derive(Debug, Default)]
pub(crate) struct JsonBody {
    rows: Option<JsonRows>,
    has_rows: bool,
}

impl RowEncoder for JsonBody {
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), Error> {
        let rows = JsonRows::new(schema);
        let columns: Vec<_> = rows
            .schema()
            .fields()
            .iter()
            .map(|field| json!({"name": field.name(), "type": type_name(field.data_type())}))
            .collect();
        out.extend_from_slice(format!("{{\"columns\":{},\n\"rows\":[\n", json!(columns)).as_bytes());
        self.rows = Some(rows);
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.has_rows {
            out.extend_from_slice(b",\n");
        }
        self.has_rows = true;
        self.rows.as_ref().expect("start comes before rows").write_elements(batch, out)
    }

    fn finish(&mut self, stats: &QueryStats, out: &mut Vec<u8>) -> Result<(), Error> {
        self.close(&format!("\"stats\":{}", stats_json(stats)), out);
        Ok(())
    }

    fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        self.close(&format!("\"error\":{}", crate::http::error_value(error)), out);
    }
}

impl JsonBody {
    fn close(&self, last_member: &str, out: &mut Vec<u8>) {
        if self.has_rows {
            out.push(b'\n');
        }
        out.extend_from_slice(format!("],\n{last_member}}}\n").as_bytes());
    }
}

/// One JSON object a line; a failed answer ends with the line `{"error":{…}}`.
#[derive(Debug, Default)]
pub(crate) struct NdjsonBody {
    rows: Option<JsonRows>,
}

impl RowEncoder for NdjsonBody {
    fn start(&mut self, schema: &SchemaRef, _out: &mut Vec<u8>) -> Result<(), Error> {
        self.rows = Some(JsonRows::new(schema));
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        self.rows.as_ref().expect("start comes before rows").write_lines(batch, out)
    }

    fn finish(&mut self, _stats: &QueryStats, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    fn fail(&mut self, error: &Error, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{}\n", json!({"error": crate::http::error_value(error)})).as_bytes());
    }
}
