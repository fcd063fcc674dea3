//! What the rows of a segment say about it: the part of its [`SegmentMeta`] that its footer repeats.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampNanosecondType};
use stratalog_proto::{Offset, PartitionId};

use super::format::{MAX_RANGES, MAX_ROWS};
use super::system;
use super::writer::ColSpec;
use crate::segment::{OffsetRange, SegmentMeta};

/// Computes the meta of a segment of these rows, of which so many are dead; `bytes` and `blake3` are left 0 for the writer to fill in.
///
/// # Errors
/// Why the rows cannot be a segment: a system column that is missing or has nulls, too many rows, a row outside of the
/// bucket (S3), an offset that comes twice (S1).
pub(super) fn facts(spec: &ColSpec, rows: &RecordBatch, dead_rows: u64) -> Result<SegmentMeta, String> {
    if rows.num_rows() == 0 || rows.num_rows() > MAX_ROWS as usize {
        return Err(format!("it has {} rows; a segment has 1 to {MAX_ROWS}", rows.num_rows()));
    }
    let (min_time_ns, max_time_ns) = span(required::<TimestampNanosecondType>(rows, system::TIME)?);
    let (_, max_ingested_ns) = span(required::<TimestampNanosecondType>(rows, system::INGESTED_AT)?);
    let partitions = required::<Int32Type>(rows, system::PARTITION)?;
    let offsets = required::<Int64Type>(rows, system::OFFSET)?;
    let meta = SegmentMeta {
        id: spec.id,
        topic: spec.topic,
        kind: spec.kind,
        bucket: spec.bucket,
        min_time_ns,
        max_time_ns,
        max_ingested_ns,
        rows: rows.num_rows() as u64,
        dead_rows,
        bytes: 0,
        ranges: ranges(partitions, offsets)?,
        blake3: [0; 32],
        analyzer_version: spec.analyzer_version,
    };
    match meta.contradiction() {
        None => Ok(meta),
        Some(what) => Err(format!(
            "{what} (times {min_time_ns}..={max_time_ns}, bucket {}..{})",
            spec.bucket.start_ns, spec.bucket.end_ns
        )),
    }
}

/// A system column that every segment has, without nulls.
fn required<'a, T: ArrowPrimitiveType>(rows: &'a RecordBatch, name: &str) -> Result<&'a [T::Native], String> {
    let column = rows.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))?;
    let typed: &PrimitiveArray<T> = column
        .as_primitive_opt()
        .ok_or_else(|| format!("column {name} is {}, not {}", column.data_type(), T::DATA_TYPE))?;
    match typed.null_count() {
        0 => Ok(typed.values()),
        nulls => Err(format!("column {name} has {nulls} nulls; it may have none")),
    }
}

fn span(values: &[i64]) -> (i64, i64) {
    values.iter().fold((i64::MAX, i64::MIN), |(min, max), &value| (min.min(value), max.max(value)))
}

/// The exact bounds of each partition's offsets (S3), once no offset comes twice (S1).
fn ranges(partitions: &[i32], offsets: &[i64]) -> Result<Vec<OffsetRange>, String> {
    let mut by_partition: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (&partition, &offset) in partitions.iter().zip(offsets) {
        let outside = || format!("row of partition {partition} has offset {offset}; neither may be negative");
        let offset = u64::try_from(offset).map_err(|_| outside())?;
        by_partition.entry(u32::try_from(partition).map_err(|_| outside())?).or_default().push(offset);
    }
    if by_partition.len() > MAX_RANGES {
        return Err(format!("it has {} partitions; a segment has at most {MAX_RANGES}", by_partition.len()));
    }
    by_partition.into_iter().map(|(partition, offsets)| range(partition, offsets)).collect()
}

fn range(partition: u32, mut offsets: Vec<u64>) -> Result<OffsetRange, String> {
    offsets.sort_unstable();
    if let Some(pair) = offsets.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("S1: offset {} of partition {partition} is in it twice", pair[0]));
    }
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    Ok(OffsetRange { partition: PartitionId(partition), first: Offset(first), next: Offset(last + 1) })
}
