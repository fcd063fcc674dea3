//! Building the segments of one seal.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use stratalog_index::{ANALYZER_VERSION, IndexError, TextIndexWriter};
use stratalog_proto::{Code, Error, SegmentId, ShardId, TopicId};
use stratalog_query::TailChunk;
use stratalog_storage::col::{ColSpec, write_segment};
use stratalog_storage::{Io, SegmentMeta};

use super::group::{Group, group};
use crate::rows::parse::system_fields;
use crate::rows::unify::{parts, unify};

/// What to build, and where.
pub(in crate::rows) struct Job {
    pub(in crate::rows) io: Arc<dyn Io>,
    pub(in crate::rows) dir: PathBuf,
    pub(in crate::rows) shard: ShardId,
    pub(in crate::rows) topic: TopicId,
    pub(in crate::rows) bucket_ns: u64,
    pub(in crate::rows) index_budget_bytes: usize,
    pub(in crate::rows) chunks: Vec<Arc<TailChunk>>,
}

/// A build that failed, with the files that it had finished.
pub(in crate::rows) struct BuildFailed {
    pub(in crate::rows) error: Error,
    pub(in crate::rows) written: Vec<SegmentMeta>,
}

/// Writes the segments of all rows, durably: each row into exactly one (S1), and each segment in one time bucket or
/// marked as mixed (S3). Blocks on the disk.
///
/// # Errors
/// What the index or the disk reports. Nothing counts until a Seal names it.
pub(in crate::rows) fn build(job: &Job) -> Result<Vec<SegmentMeta>, BuildFailed> {
    let batches: Vec<&RecordBatch> = job.chunks.iter().map(|chunk| &chunk.rows).collect();
    let mut written = Vec::new();
    for part in parts(&batches).into_iter().filter(|part| !part.is_empty()) {
        if let Err(error) = write_part(job, part, &mut written) {
            return Err(BuildFailed { error, written });
        }
    }
    let sealed: u64 = written.iter().map(|meta| meta.rows).sum();
    let taken: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(sealed, taken as u64, "S1: every row of the tail is in one segment");
    Ok(written)
}

fn write_part(job: &Job, part: &[&RecordBatch], written: &mut Vec<SegmentMeta>) -> Result<(), Error> {
    let (schema, batches) = unify(part);
    let bucket_ns = i64::try_from(job.bucket_ns).unwrap_or(i64::MAX).max(1);
    for group in group(&batches, bucket_ns) {
        written.push(write(job, &schema, &batches, &group)?);
    }
    Ok(())
}

fn write(job: &Job, schema: &SchemaRef, batches: &[RecordBatch], group: &Group) -> Result<SegmentMeta, Error> {
    let rows = gather(schema, batches, group).map_err(|error| failed(job, &error.to_string()))?;
    let text = text_index(job, &rows)?;
    let spec = ColSpec {
        id: SegmentId::new(),
        shard: job.shard,
        topic: job.topic,
        kind: group.kind,
        bucket: group.bucket,
        analyzer_version: if text.is_some() { ANALYZER_VERSION } else { 0 },
    };
    write_segment(&*job.io, &job.dir, &spec, &rows, text.as_deref()).map_err(Error::from)
}

/// The rows of a group, in its order, without user columns that have no value in it.
fn gather(schema: &Schema, batches: &[RecordBatch], group: &Group) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut fields: Vec<Arc<Field>> = Vec::with_capacity(schema.fields().len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (at, field) in schema.fields().iter().enumerate() {
        let sources: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(at).as_ref()).collect();
        let column = interleave(&sources, &group.rows)?;
        if at < system_fields().len() || column.null_count() < column.len() {
            fields.push(field.clone());
            columns.push(column);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// The text index over all user columns of text; `None` if there are none, or too many words for the budget. Its
/// document ids are row numbers.
fn text_index(job: &Job, rows: &RecordBatch) -> Result<Option<Vec<u8>>, Error> {
    let (names, columns): (Vec<String>, Vec<&StringArray>) = user_text_columns(rows).unzip();
    if names.is_empty() {
        return Ok(None);
    }
    let mut writer = TextIndexWriter::new(&names, job.index_budget_bytes)?;
    for row in 0..rows.num_rows() {
        let texts = columns.iter().enumerate().filter(|(_, column)| column.is_valid(row));
        let mut texts = texts.map(|(field, column)| (field, column.value(row)));
        match writer.add_row(&mut texts) {
            // The same rows would fail the same way for ever, and no row behind them could be sealed. Without an
            // index they are scanned.
            Err(error @ IndexError::Budget { .. }) => {
                tracing::warn!(topic = %job.topic, shard = %job.shard, %error, "sealing rows without a text index");
                return Ok(None);
            }
            added => added?,
        }
    }
    Ok(Some(writer.finish()?))
}

fn user_text_columns(rows: &RecordBatch) -> impl Iterator<Item = (String, &StringArray)> {
    let user = rows.schema_ref().fields().iter().zip(rows.columns()).skip(system_fields().len());
    let text = user.filter(|(field, _)| *field.data_type() == DataType::Utf8);
    text.map(|(field, column)| (field.name().clone(), column.as_string::<i32>()))
}

fn failed(job: &Job, why: &str) -> Error {
    let message = format!("cannot seal rows of topic {} in shard {}: {why}", job.topic, job.shard);
    Error::new(Code::Internal, message)
}
