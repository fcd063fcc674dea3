//! Arrow batches out of the chunks in which they come.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

/// Reads an Arrow IPC stream. What comes is a server's, which may lie (X1): a panic of the decoder is an error.
#[derive(Debug, Default)]
pub(super) struct Batches {
    stream: StreamDecoder,
    read: VecDeque<RecordBatch>,
}

impl Batches {
    /// The columns, once they have come.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.stream.schema()
    }

    /// Takes in a chunk.
    ///
    /// # Errors
    /// [`ArrowError`] for bytes that are no Arrow IPC stream.
    pub(super) fn push(&mut self, chunk: Bytes) -> Result<(), ArrowError> {
        let mut buffer = Buffer::from(chunk);
        while !buffer.is_empty() {
            let decoded = checked(|| self.stream.decode(&mut buffer))?;
            self.read.extend(decoded);
        }
        Ok(())
    }

    /// The next rows that have come.
    pub(super) fn pop(&mut self) -> Option<RecordBatch> {
        self.read.pop_front()
    }

    /// Says that no chunk is missing.
    ///
    /// # Errors
    /// [`ArrowError`] for a stream that ends early.
    pub(super) fn finish(&mut self) -> Result<(), ArrowError> {
        checked(|| self.stream.finish())
    }
}

fn checked<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ArrowError::IpcError("the bytes are no Arrow IPC stream".to_owned())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
    use arrow::ipc::writer::StreamWriter;
    use stratalog_mutation::Decoder;

    use super::*;

    /// The length of a chunk in tens of bytes (u8), and a stream.
    const ANSWER: Decoder =
        Decoder { name: "sdk_answer", samples: answers, run: read_answer, words: &[], memory_bytes: 4 << 20 };

    fn columns(rows: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new((0..rows).map(|n| (n % 7 != 0).then_some(n)).collect::<Int64Array>());
        let floats: ArrayRef = Arc::new((0..rows).map(|n| Some(n as f64 / 8.0)).collect::<Float64Array>());
        let truths: ArrayRef = Arc::new((0..rows).map(|n| Some(n % 2 == 0)).collect::<BooleanArray>());
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("text {n}"))));
        let columns = [("n", numbers, true), ("f", floats, true), ("b", truths, true), ("t", texts, true)];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn stream(chunk: u8, batches: &[RecordBatch]) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(vec![chunk], &batches[0].schema()).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    fn answers() -> Vec<Vec<u8>> {
        vec![stream(255, &[columns(20)]), stream(1, &[columns(3), columns(0), columns(5)])]
    }

    fn read_answer(bytes: &[u8]) -> bool {
        let Some((chunk, stream)) = bytes.split_first() else { return false };
        let mut batches = Batches::default();
        for chunk in stream.chunks(10 * usize::from(*chunk).max(1)) {
            if batches.push(Bytes::copy_from_slice(chunk)).is_err() {
                return false;
            }
        }
        let is_whole = batches.finish().is_ok();
        while let Some(batch) = batches.pop() {
            batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
        }
        is_whole
    }

    #[test]
    fn batches_come_back_whatever_the_chunks() {
        let (sent, mut batches) = (columns(50), Batches::default());
        stream(0, std::slice::from_ref(&sent))[1..]
            .chunks(7)
            .for_each(|chunk| batches.push(chunk.to_vec().into()).unwrap());
        batches.finish().unwrap();
        assert_eq!((batches.schema(), batches.pop(), batches.pop()), (Some(sent.schema()), Some(sent), None));
    }

    #[test]
    fn x1_answers_that_lie() {
        ANSWER.check();
    }
}
