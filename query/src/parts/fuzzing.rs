//! Answers between nodes, for tests that mutate them.

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use stratalog_mutation::piece;

use super::ipc::{Decoder, Encoder, decode_schema, encode_schema};

/// A schema, with its length in front, and the frames of batches.
pub(crate) fn written(schema: &Schema, batches: &[RecordBatch]) -> Vec<u8> {
    let mut encoder = Encoder::new(schema).unwrap();
    let mut frames: Vec<Bytes> = batches.iter().flat_map(|batch| encoder.frames(batch).unwrap()).collect();
    frames.push(encoder.finish().unwrap());
    [piece(&encode_schema(schema)), frames.concat()].concat()
}

/// The schema that a peer says its rows have.
pub(crate) fn read_schema(bytes: &[u8]) -> Option<SchemaRef> {
    decode_schema(bytes).ok()
}

/// Whether a frame is one of batches of that schema.
pub(crate) fn read_batches(schema: SchemaRef, frame: Bytes) -> bool {
    let Ok(batches) = Decoder::new(schema).batches(frame) else { return false };
    batches
        .iter()
        .for_each(|batch| batch.columns().iter().for_each(|column| column.to_data().validate_full().unwrap()));
    true
}
