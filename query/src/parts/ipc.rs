//! Schemas and batches as Arrow IPC, within bounds. What arrives comes from a peer, which may lie (X1): whatever the decoder
//! makes of it, arrays are validated, and a panic of the decoder is an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions, StreamEncoder};
use bytes::Bytes;

/// What one frame holds, more or less; a batch with more is cut into several.
const FRAME_BYTES: usize = 2 << 20;
/// The most bytes of one frame: a single row may have that many.
const MAX_FRAME_BYTES: usize = 48 << 20;

/// Whether columns of these types travel. Dictionaries would need messages of their own; no column of a topic has one.
pub(super) fn travels(schema: &Schema) -> bool {
    fn flat(data_type: &DataType) -> bool {
        match data_type {
            DataType::Dictionary(..) | DataType::RunEndEncoded(..) | DataType::Union(..) => false,
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _)
            | DataType::Map(field, _) => flat(field.data_type()),
            DataType::Struct(fields) => fields.iter().all(|field| flat(field.data_type())),
            _ => true,
        }
    }
    schema.fields().iter().all(|field| flat(field.data_type()))
}

/// A schema as an IPC message.
pub(super) fn encode_schema(schema: &Schema) -> Bytes {
    let mut dictionaries = DictionaryTracker::new(false);
    let options = IpcWriteOptions::default();
    let encoded =
        IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(schema, &mut dictionaries, &options);
    encoded.ipc_message.into()
}

/// The schema in an IPC message.
///
/// # Errors
/// [`ArrowError`] for bytes that are none.
pub(super) fn decode_schema(message: &[u8]) -> Result<SchemaRef, ArrowError> {
    checked(|| arrow::ipc::convert::try_schema_from_flatbuffer_bytes(message).map(Arc::new))
}

/// Writes batches as an IPC stream that is cut into frames.
pub(super) struct Encoder {
    stream: StreamEncoder,
}

impl Encoder {
    /// # Errors
    /// [`ArrowError`] for a schema that cannot be written.
    pub(super) fn new(schema: &Schema) -> Result<Self, ArrowError> {
        Ok(Self { stream: StreamEncoder::try_new(schema)? })
    }

    /// The frames of a batch, each of about [`FRAME_BYTES`] or of one row.
    ///
    /// # Errors
    /// [`ArrowError::MemoryError`] for a row that no frame can hold.
    pub(super) fn frames(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
        let rows_a_frame = rows_a_frame(batch);
        let mut frames = Vec::new();
        let mut next = 0;
        while next < batch.num_rows() {
            let rows = rows_a_frame.min(batch.num_rows() - next);
            self.push(&batch.slice(next, rows), &mut frames)?;
            next += rows;
        }
        Ok(frames)
    }

    fn push(&mut self, batch: &RecordBatch, frames: &mut Vec<Bytes>) -> Result<(), ArrowError> {
        // Rows may be of very different sizes.
        let rows = batch.num_rows();
        if rows > 1 && bytes(batch) > 4 * FRAME_BYTES {
            self.push(&batch.slice(0, rows / 2), frames)?;
            return self.push(&batch.slice(rows / 2, rows - rows / 2), frames);
        }
        let buffers = self.stream.encode(&compact(batch)?)?;
        let length = buffers.iter().map(Buffer::len).sum::<usize>();
        if length > MAX_FRAME_BYTES {
            let message = format!("a row of {length} bytes is more than the {MAX_FRAME_BYTES} that travel at once");
            return Err(ArrowError::MemoryError(message));
        }
        frames.push(joined(&buffers));
        Ok(())
    }

    /// The end of the stream, without which the last batch may not be read.
    ///
    /// # Errors
    /// None but defects.
    pub(super) fn finish(self) -> Result<Bytes, ArrowError> {
        Ok(joined(&self.stream.finish()?))
    }
}

fn joined(buffers: &[Buffer]) -> Bytes {
    let mut frame = Vec::with_capacity(buffers.iter().map(Buffer::len).sum());
    buffers.iter().for_each(|buffer| frame.extend_from_slice(buffer));
    frame.into()
}

/// Views keep the buffers of all rows that ever were beside theirs.
fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let compact = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column.clone(),
        }
    };
    if batch.num_columns() == 0 {
        return Ok(batch.clone());
    }
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(compact).collect())
}

fn rows_a_frame(batch: &RecordBatch) -> usize {
    let a_row = bytes(batch).div_ceil(batch.num_rows().max(1)).max(1);
    (FRAME_BYTES / a_row).max(1)
}

/// Bytes of the rows of a batch.
pub(super) fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(bytes_of).sum()
}

fn bytes_of(column: &ArrayRef) -> usize {
    // The low half of a view is the length of its text.
    let texts = |views: &[u128]| views.iter().map(|view| 16 + *view as u32 as usize).sum();
    match column.data_type() {
        DataType::Utf8View => texts(column.as_string_view().views()),
        DataType::BinaryView => texts(column.as_binary_view().views()),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    }
}

/// Reads the batches of frames.
pub(super) struct Decoder {
    stream: StreamDecoder,
    schema: SchemaRef,
}

impl Decoder {
    /// For batches of `schema`.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { stream: StreamDecoder::new(), schema }
    }

    /// The batches of the next frame.
    ///
    /// # Errors
    /// [`ArrowError`] for bytes that are no batches of the schema.
    pub(super) fn batches(&mut self, frame: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut buffer = Buffer::from(frame);
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            let (stream, buffer) = (&mut self.stream, &mut buffer);
            if let Some(batch) = checked(AssertUnwindSafe(|| stream.decode(buffer)))? {
                batches.push(self.expected(&batch)?);
            }
        }
        Ok(batches)
    }

    /// The batch, if it has the columns that were asked for.
    fn expected(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), batch.columns().to_vec(), &options)
    }
}

fn checked<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(ArrowError::IpcError("the bytes are no Arrow IPC stream".to_owned())))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: usize, width: usize) -> RecordBatch {
        let numbers: ArrayRef = Arc::new((0..rows as i64).map(|n| (n % 7 != 0).then_some(n)).collect::<Int64Array>());
        let text = |row: usize| format!("{row:0width$}");
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(text)));
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..rows).map(text)));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("t", texts, true), ("v", views, true)])
            .unwrap()
    }

    #[test]
    fn batches_come_back_in_frames_of_a_bounded_size() {
        let whole = batch(8_000, 2_000);
        let mut encoder = Encoder::new(&whole.schema()).unwrap();
        let frames = encoder.frames(&whole.slice(10, 7_000)).unwrap();
        assert!(frames.len() > 5 && frames.iter().all(|frame| frame.len() < 4 * FRAME_BYTES), "{}", frames.len());
        let mut decoder = Decoder::new(whole.schema());
        let back: Vec<_> = frames.into_iter().flat_map(|frame| decoder.batches(frame).unwrap()).collect();
        assert_eq!(arrow::compute::concat_batches(&whole.schema(), &back).unwrap(), whole.slice(10, 7_000));
    }

    #[test]
    fn rows_without_columns_travel_too() {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(5));
        let schema = Arc::new(Schema::empty());
        let rows = RecordBatch::try_new_with_options(schema.clone(), vec![], &options).unwrap();
        let mut encoder = Encoder::new(&schema).unwrap();
        let frames = encoder.frames(&rows).unwrap().into_iter().chain([encoder.finish().unwrap()]);
        let mut decoder = Decoder::new(schema);
        let back: Vec<_> = frames.flat_map(|frame| decoder.batches(frame).unwrap()).collect();
        assert_eq!(back, [rows]);
    }

    #[test]
    fn a_schema_comes_back() {
        let schema = batch(1, 1).schema();
        assert_eq!(decode_schema(&encode_schema(&schema)).unwrap(), schema);
        assert!(decode_schema(b"no schema").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn x1_bytes_that_lie_are_an_error_or_a_batch(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
            let whole = batch(50, 9);
            let frames = Encoder::new(&whole.schema()).unwrap().frames(&whole).unwrap();
            let mut frame = frames[0].to_vec();
            for (at, byte) in changes {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
            let _ = Decoder::new(whole.schema()).batches(frame.into());
        }
    }
}
