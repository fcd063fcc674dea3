//! Rows as one Arrow IPC stream, for HTTP and for the pieces of a gRPC answer.

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use stratalog_proto::Error;
use stratalog_proto::v1::QueryStats;

use super::encoder::{RowEncoder, unwritable};

/// An Arrow IPC stream. A failed answer lacks the end-of-stream marker.
#[derive(Default)]
pub(crate) struct ArrowStream {
    writer: Option<StreamWriter<Vec<u8>>>,
}

impl ArrowStream {
    fn writer(&mut self) -> &mut StreamWriter<Vec<u8>> {
        self.writer.as_mut().expect("start comes first")
    }

    /// Hands on what the writer has collected.
    fn drain(&mut self, out: &mut Vec<u8>) {
        let written = self.writer().get_mut();
        if out.is_empty() {
            std::mem::swap(out, written);
        } else {
            out.append(written);
        }
    }
}

impl RowEncoder for ArrowStream {
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), Error> {
        self.writer = Some(StreamWriter::try_new(Vec::new(), schema).map_err(unwritable)?);
        self.drain(out);
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Error> {
        self.writer().write(batch).map_err(unwritable)?;
        self.drain(out);
        Ok(())
    }

    fn finish(&mut self, _stats: &QueryStats, out: &mut Vec<u8>) -> Result<(), Error> {
        self.writer().finish().map_err(unwritable)?;
        self.drain(out);
        Ok(())
    }
}
