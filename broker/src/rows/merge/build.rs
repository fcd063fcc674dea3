//! Building the segments that take the place of others.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use stratalog_index::{ANALYZER_VERSION, IndexError, TextIndexWriter};
use stratalog_proto::{Code, Error, Offset, PartitionId, SegmentId, ShardId, TimeBucket, TopicId};
use stratalog_storage::col::{ColSpec, system, write_columns};
use stratalog_storage::{Io, SegmentHandle, SegmentKind, SegmentMeta};

use super::edit::{Edit, Filter, Offsets};
use super::input::Input;
use super::order::{Buckets, Ordered, order};
use super::output::{Output, outputs};
use super::pace::Pace;
use super::schema::merged;
use super::source::MergedRows;

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
    /// Whether it has to be done, be it for the price of a text index or of a column's type.
    pub(super) must: bool,
    pub(super) pace: Arc<Pace>,
}

/// What was built.
pub(super) struct Built {
    pub(super) segments: Vec<SegmentMeta>,
    pub(super) trimmed: u64,
    pub(super) erased: u64,
    pub(super) replaced: u64,
}

/// A build that failed, with the files that it had finished.
pub(super) struct BuildFailed {
    pub(super) error: Error,
    pub(super) written: Vec<SegmentMeta>,
}

impl From<Error> for BuildFailed {
    fn from(error: Error) -> Self {
        Self { error, written: Vec::new() }
    }
}

/// Writes the segments, durably; `None` if nothing would change. Blocks on the disk and on the pace.
///
/// # Errors
/// What the inputs, the index or the disk report; [`Code::Conflict`] for a replacement of a row that no input has;
/// [`Code::InvalidRequest`] for inputs that are better left apart. Nothing counts until a Merge names it.
pub(super) fn build(job: &Job) -> Result<Option<Built>, BuildFailed> {
    let (inputs, filter) = (open(job)?, filter(job)?);
    let ordered = order(&inputs, &filter, buckets(job), &job.pace)?;
    let Ordered { trimmed, erased, replaced, .. } = ordered;
    let outputs = outputs(&ordered);
    let is_split = outputs.len() > 1 || job.inputs[0].meta.kind == SegmentKind::Mixed;
    if job.inputs.len() == 1 && !is_split && trimmed + erased + replaced == 0 {
        return Ok(None);
    }
    let merged = merged(&inputs);
    if let Some(column) = merged.inexact.filter(|_| !job.must) {
        let message = format!("column `{column}` has integers in one segment and floats in another");
        return Err(Error::new(Code::InvalidRequest, message).into());
    }
    let mut segments = Vec::with_capacity(outputs.len());
    for output in &outputs {
        match write(job, &inputs, &merged.schema, &ordered, output) {
            Ok(meta) => segments.push(meta),
            Err(error) => return Err(BuildFailed { error, written: segments }),
        }
    }
    let built = Built { segments, trimmed, erased, replaced };
    check(job, &built);
    Ok(Some(built))
}

fn check(job: &Job, built: &Built) {
    let before: u64 = job.inputs.iter().map(|input| input.meta.rows).sum();
    let after: u64 = built.segments.iter().map(|meta| meta.rows).sum();
    assert_eq!(before, after + built.trimmed + built.erased, "S1: every row of a merge's inputs is accounted for");
}

fn open(job: &Job) -> Result<Vec<Input>, Error> {
    let segments = job.inputs.iter().map(|handle| Ok(Input::Segment(handle.reader()?)));
    segments.chain(job.edit.replace.iter().map(Input::of_rows)).collect()
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
    let mut rows = MergedRows::new(id, inputs, schema.clone(), output.places(ordered), &job.pace);
    let text = text_index(job, &mut rows, schema)?;
    let analyzer_version = if text.is_some() { ANALYZER_VERSION } else { 0 };
    let Output { kind, bucket, .. } = *output;
    let spec = ColSpec { id, shard: job.shard, topic: job.topic, kind, bucket, analyzer_version };
    Ok(write_columns(&*job.io, &job.dir, &spec, &mut rows, text.as_deref())?)
}

/// The text index over all user columns of text; `None` if there are none, or too many words for the budget.
///
/// # Errors
/// [`Code::InvalidRequest`] for too many words where the segments may as well stay apart: they have an index each.
fn text_index(job: &Job, rows: &mut MergedRows<'_>, schema: &SchemaRef) -> Result<Option<Vec<u8>>, Error> {
    let fields = schema.fields().iter().enumerate();
    let text = fields.filter(|(_, field)| *field.data_type() == DataType::Utf8 && !system::is_system(field.name()));
    let (columns, names): (Vec<usize>, Vec<String>) = text.map(|(at, field)| (at, field.name().clone())).unzip();
    if names.is_empty() {
        return Ok(None);
    }
    let mut writer = TextIndexWriter::new(&names, job.index_budget_bytes)?;
    for granule in 0..rows.granules() {
        let texts = columns.iter().map(|at| rows.read(*at, granule)).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<&StringArray> = texts.iter().map(|column| column.as_string::<i32>()).collect();
        match add_rows(&mut writer, &texts) {
            Err(error @ IndexError::Budget { .. }) if job.must => {
                tracing::warn!(topic = %job.topic, shard = %job.shard, %error, "rewriting rows without a text index");
                return Ok(None);
            }
            Err(error @ IndexError::Budget { .. }) => {
                return Err(Error::new(Code::InvalidRequest, format!("together they have too many words: {error}")));
            }
            added => added?,
        }
    }
    Ok(Some(writer.finish()?))
}

fn add_rows(writer: &mut TextIndexWriter, columns: &[&StringArray]) -> Result<(), IndexError> {
    let rows = columns.first().map_or(0, |column| column.len());
    for row in 0..rows {
        let texts = columns.iter().enumerate().filter(|(_, column)| column.is_valid(row));
        writer.add_row(&mut texts.map(|(field, column)| (field, column.value(row))))?;
    }
    Ok(())
}
