//! What is exactly known of the columns of a snapshot without reading rows, while every row that is stored is seen.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use stratalog_storage::SegmentMeta;

use crate::catalog::TopicSnapshot;
use crate::schema::names;

/// The least and the greatest value of a column, which has no nulls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ends {
    /// It has to be read.
    Unknown,
    /// There is not one row.
    NoRows,
    Values(ScalarValue, ScalarValue),
}

impl Ends {
    /// Those of the rows of both.
    pub(crate) fn and(self, other: Self) -> Self {
        let (least, greatest, low, high) = match (self, other) {
            (Self::NoRows, known) | (known, Self::NoRows) => return known,
            (Self::Values(least, greatest), Self::Values(low, high)) => (least, greatest, low, high),
            _ => return Self::Unknown,
        };
        let least = if low < least { low } else { least };
        let greatest = if high > greatest { high } else { greatest };
        Self::Values(least, greatest)
    }
}

/// The ends of a column of a topic.
pub(crate) fn ends(snapshot: &TopicSnapshot, column: &str) -> Ends {
    match column {
        names::TIME => {
            let of_segment = |meta: &SegmentMeta| Some((meta.min_time_ns, meta.max_time_ns));
            let ends = of_snapshot(snapshot, of_segment, |chunk| of_chunk::<TimestampNanosecondType>(chunk, column));
            found(ends, |ns| ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into())))
        }
        names::PARTITION => {
            let ends = of_snapshot(snapshot, partitions, |chunk| of_chunk::<Int32Type>(chunk, column));
            found(ends, |partition| ScalarValue::Int32(Some(partition)))
        }
        names::OFFSET => {
            let ends = of_snapshot(snapshot, offsets, |chunk| of_chunk::<Int64Type>(chunk, column));
            found(ends, |offset| ScalarValue::Int64(Some(offset)))
        }
        _ => Ends::Unknown,
    }
}

/// One end of all segments and chunks: `Ok(None)` without rows, `Err` where a segment or chunk does not say.
type Found<T> = Result<Option<(T, T)>, Silent>;

/// Something has rows of which nothing is known.
struct Silent;

fn of_snapshot<T: Ord + Copy>(
    snapshot: &TopicSnapshot,
    of_segment: impl Fn(&SegmentMeta) -> Option<(T, T)>,
    of_chunk: impl Fn(&RecordBatch) -> Option<(T, T)>,
) -> Found<T> {
    let segments = snapshot.shards.iter().flat_map(|shard| &shard.segments);
    let chunks = snapshot.shards.iter().flat_map(|shard| &shard.tail).filter(|chunk| chunk.rows.num_rows() > 0);
    let sealed = segments.map(|segment| of_segment(&segment.meta).ok_or(Silent));
    let mut all = sealed.chain(chunks.map(|chunk| of_chunk(&chunk.rows).ok_or(Silent)));
    all.try_fold(None, |known: Option<(T, T)>, next| {
        let next = next?;
        Ok(Some(known.map_or(next, |known| (known.0.min(next.0), known.1.max(next.1)))))
    })
}

fn found<T>(found: Found<T>, scalar: impl Fn(T) -> ScalarValue) -> Ends {
    match found {
        Err(Silent) => Ends::Unknown,
        Ok(None) => Ends::NoRows,
        Ok(Some((min, max))) => Ends::Values(scalar(min), scalar(max)),
    }
}

/// The ranges of a segment are exact (S3).
fn partitions(meta: &SegmentMeta) -> Option<(i32, i32)> {
    let partitions = || meta.ranges.iter().map(|range| range.partition.0);
    Some((i32::try_from(partitions().min()?).ok()?, i32::try_from(partitions().max()?).ok()?))
}

fn offsets(meta: &SegmentMeta) -> Option<(i64, i64)> {
    let first = meta.ranges.iter().map(|range| range.first.0).min()?;
    let last = meta.ranges.iter().map(|range| range.next.0).max()?.checked_sub(1)?;
    Some((i64::try_from(first).ok()?, i64::try_from(last).ok()?))
}

fn of_chunk<T: ArrowPrimitiveType<Native: PartialOrd>>(
    rows: &RecordBatch,
    column: &str,
) -> Option<(T::Native, T::Native)> {
    let values: &ArrayRef = rows.column_by_name(column)?;
    let values = values.as_primitive_opt::<T>().filter(|values| values.null_count() == 0)?;
    Some((arrow::compute::min(values)?, arrow::compute::max(values)?))
}
