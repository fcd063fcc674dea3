//! Building the segments that take the place of others.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, SchemaRef};
use stratalog_index::{ANALYZER_VERSION, IndexError, TextIndexWriter};
use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, ShardId, TimeBucket, TopicId};
use stratalog_storage::col::{ColSpec, GRANULE_ROWS, max_columns, system, write_columns};
use stratalog_storage::{Io, SegmentHandle, SegmentKind, SegmentMeta};

use super::blame::Blame;
use super::edit::{Edit, Filter, Offsets};
use super::input::Input;
use super::order::{Buckets, Ordered, order};
use super::output::{Output, outputs};
use super::room::Room;
use super::schema::{families, merged, minority};
use super::source::MergedRows;
use crate::pace::Pace;

/// What to build, and where.
pub(super) struct Job {
    pub(super) io: Arc<dyn Io>,
    pub(super) dir: PathBuf,
    pub(super) shard: ShardId,
    pub(super) topic: TopicId,
    pub(super) bucket_ns: u64,
    pub(super) index_budget_bytes: usize,
    /// The segments to be replaced; they keep their files in place.
    pub(super) inputs: Vec<Arc<SegmentHandle>>,
    /// The log start of partitions when this was asked for.
    pub(super) log_starts: Vec<(PartitionId, Offset)>,
    pub(super) edit: Edit,
    /// Whether it has to be done, be it for the price of a text index, or of inputs that get segments of their own.
    pub(super) must: bool,
    pub(super) pace: Arc<Pace>,
    pub(super) room: Arc<Room>,
}

/// What was built.
pub(in crate::rows) struct Built {
    pub(in crate::rows) segments: Vec<SegmentMeta>,
    pub(in crate::rows) trimmed: u64,
    pub(in crate::rows) erased: u64,
    pub(in crate::rows) replaced: u64,
}

/// A build that failed, with the files that it had finished.
pub(super) struct BuildFailed {
    pub(super) error: Error,
    pub(super) blame: Blame,
    pub(super) written: Vec<SegmentMeta>,
}

/// Writes the segments, durably; `None` if nothing would change. Blocks on the disk and on the pace.
///
/// # Errors
/// What the inputs, the index or the disk report; [`Code::Conflict`] for a replacement of a row that no input has;
/// [`Code::InvalidRequest`] for inputs that are better left apart. Nothing counts until a Merge names it.
pub(super) fn build(job: &Job) -> Result<Option<Built>, BuildFailed> {
    let inputs = open(job)?;
    let mut written = Vec::new();
    build_of(job, &inputs, &mut written).map_err(|error| {
        let numbers = inputs.iter().enumerate().filter(|(_, input)| input.is_unreadable());
        let mut blame = Blame::of(&error, numbers.map(|(number, _)| number).collect());
        if let (Blame::Together, Some(column)) = (&blame, merged(&inputs).inexact) {
            blame = Blame::Inputs(minority(&inputs, &column));
        }
        BuildFailed { error, blame, written }
    })
}

fn build_of(job: &Job, inputs: &[Input], written: &mut Vec<SegmentMeta>) -> Result<Option<Built>, Error> {
    let filter = filter(job)?;
    let ordered = order(inputs, &filter, buckets(job), &job.pace)?;
    let Ordered { trimmed, erased, replaced, .. } = ordered;
    let is_split = outputs(&ordered).len() > 1 || job.inputs[0].meta.kind == SegmentKind::Mixed;
    if job.inputs.len() == 1 && !is_split && trimmed + erased + replaced == 0 {
        return Ok(None);
    }
    if let Some(column) = merged(inputs).inexact.filter(|_| !job.must) {
        let message = format!("column `{column}` has integers in one segment and floats in another");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    let families = families(inputs);
    let parts = match families.len() {
        1 => vec![ordered],
        _ => families.iter().map(|family| ordered.only(&family.members)).collect(),
    };
    for (family, rows) in families.iter().zip(&parts) {
        for output in outputs(rows) {
            written.push(write(job, inputs, &family.schema, rows, &output)?);
        }
    }
    let built = Built { segments: std::mem::take(written), trimmed, erased, replaced };
    check(job, &built);
    Ok(Some(built))
}

fn check(job: &Job, built: &Built) {
    let before: u64 = job.inputs.iter().map(|input| input.meta.rows).sum();
    let after: u64 = built.segments.iter().map(|meta| meta.rows).sum();
    assert_eq!(before, after + built.trimmed + built.erased, "S1: every row of a merge's inputs is accounted for");
}

fn open(job: &Job) -> Result<Vec<Input>, BuildFailed> {
    let failed = |error: Error, at| BuildFailed { blame: Blame::of(&error, at), error, written: Vec::new() };
    let segments = job.inputs.iter().enumerate().map(|(number, handle)| {
        let reader = handle.reader().map_err(|error| failed(error.into(), vec![number]))?;
        Ok(Input::of_segment(reader))
    });
    let rows = job.edit.replace.iter().map(|rows| Input::of_rows(rows).map_err(|error| failed(error, Vec::new())));
    segments.chain(rows).collect()
}

fn filter(job: &Job) -> Result<Filter, Error> {
    let mut replace = Offsets::new();
    for rows in &job.edit.replace {
        let twice = || Error::new(Code::Internal, "two rows stand for the same one");
        for (partition, offset) in positions(rows)? {
            let fresh = replace.entry(partition).or_default().insert(offset.0);
            fresh.then_some(()).ok_or_else(twice)?;
        }
    }
    let log_starts = job.log_starts.iter().copied().collect();
    Ok(Filter { log_starts, erase: job.edit.erase.clone(), replace })
}

fn positions(rows: &arrow::array::RecordBatch) -> Result<Vec<(PartitionId, Offset)>, Error> {
    use arrow::datatypes::{Int32Type, Int64Type};
    let missing = || Error::new(Code::Internal, "rows that stand for others have no partition or no offset");
    let column = |name| rows.column_by_name(name).ok_or_else(missing);
    let partitions = column(system::PARTITION)?.as_primitive_opt::<Int32Type>().ok_or_else(missing)?;
    let offsets = column(system::OFFSET)?.as_primitive_opt::<Int64Type>().ok_or_else(missing)?;
    let places = partitions.values().iter().zip(offsets.values());
    Ok(places.map(|(partition, offset)| (PartitionId(*partition as u32), Offset(*offset as u64))).collect())
}

fn buckets(job: &Job) -> Buckets {
    let mut buckets = job.inputs.iter().map(|input| match input.meta.kind {
        SegmentKind::Column => Some(input.meta.bucket),
        SegmentKind::Mixed => None,
    });
    let first: Option<TimeBucket> = buckets.next().flatten();
    let home = first.filter(|home| buckets.all(|bucket| bucket == Some(*home)));
    Buckets { home, width_ns: i64::try_from(job.bucket_ns).unwrap_or(i64::MAX).max(1) }
}

fn write(
    job: &Job,
    inputs: &[Input],
    schema: &SchemaRef,
    ordered: &Ordered,
    output: &Output,
) -> Result<SegmentMeta, Error> {
    let id = SegmentId::new();
    let is_bounded = !job.must && inputs.len() > 1;
    let mut rows = MergedRows::new(inputs, schema.clone(), output.places(ordered), &job.pace, &job.room, is_bounded);
    rows.drop_empty_columns()?;
    check_columns(&rows)?;
    let text = text_index(job, &mut rows)?;
    let analyzer_version = if text.is_some() { ANALYZER_VERSION } else { 0 };
    let Output { kind, bucket, .. } = *output;
    let spec = ColSpec { id, shard: job.shard, topic: job.topic, kind, bucket, analyzer_version };
    Ok(write_columns(&*job.io, &job.dir, &spec, &mut rows, text.as_deref())?)
}

/// Before the work of an index is spent on a segment that cannot be.
fn check_columns(rows: &MergedRows<'_>) -> Result<(), Error> {
    let (columns, limit) = (rows.schema().fields().len(), max_columns(rows.len()));
    if columns > limit {
        let message = format!("together they have {columns} columns; with so many rows a segment may have {limit}");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    Ok(())
}

/// The text index over all user columns of text; `None` if there are none, or too many words for the budget.
///
/// # Errors
/// [`Code::InvalidRequest`] for too many words where the segments may as well stay apart: they have an index each.
fn text_index(job: &Job, rows: &mut MergedRows<'_>) -> Result<Option<Vec<u8>>, Error> {
    let schema = rows.schema().clone();
    let fields = schema.fields().iter().enumerate();
    let text = fields.filter(|(_, field)| *field.data_type() == DataType::Utf8 && !system::is_system(field.name()));
    let (columns, names): (Vec<usize>, Vec<String>) = text.map(|(at, field)| (at, field.name().clone())).unzip();
    if names.is_empty() {
        return Ok(None);
    }
    let mut writer = TextIndexWriter::new(&names, job.index_budget_bytes)?;
    // One column after the other: values of a single one are held at once.
    for (number, column) in columns.into_iter().enumerate() {
        for granule in 0..rows.granules() {
            let texts = rows.read(column, granule)?;
            let first = granule as u32 * GRANULE_ROWS;
            match writer.add_texts(number, first, &mut texts.as_string::<i32>().iter()) {
                Err(error @ IndexError::Budget { .. }) if job.must => {
                    tracing::warn!(topic = %job.topic, shard = %job.shard, %error, "rewriting rows without a text index");
                    return Ok(None);
                }
                Err(error @ IndexError::Budget { .. }) => {
                    let message = format!("together they have too many words: {error}");
                    return Err(Error::new(Code::InvalidRequest, message));
                }
                added => added?,
            }
        }
    }
    Ok(Some(writer.finish()?))
}
