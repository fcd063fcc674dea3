//! Which rows go into which segment, and in which order.

use std::ops::Range;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampNanosecondType};
use stratalog_proto::TimeBucket;
use stratalog_storage::SegmentKind;
use stratalog_storage::col::system;

/// The most segments of one time bucket that a seal makes.
pub(super) const MAX_BUCKETS: usize = 32;

/// The rows of one segment, in its order: (batch, row) each.
pub(super) struct Group {
    pub(super) kind: SegmentKind,
    /// The bucket of all rows; of a mixed segment, the newest row's.
    pub(super) bucket: TimeBucket,
    pub(super) rows: Vec<(usize, usize)>,
}

#[derive(Clone, Copy)]
struct Row {
    time_ns: i64,
    partition: i32,
    offset: i64,
    batch: u32,
    row: u32,
}

/// Groups the rows of all batches by time bucket: one group for each of the [`MAX_BUCKETS`] fullest buckets, and one
/// mixed group of the rows in all others. Within a group, rows ascend by (`_time`, `_partition`, `_offset`).
pub(super) fn group(batches: &[RecordBatch], bucket_ns: i64) -> Vec<Group> {
    let rows = sorted_rows(batches);
    let mut buckets = buckets(&rows, bucket_ns);
    let mut mixed = Vec::new();
    if buckets.len() > MAX_BUCKETS {
        buckets.sort_by_key(|(bucket, range)| (std::cmp::Reverse(range.len()), std::cmp::Reverse(bucket.start_ns)));
        mixed = buckets.split_off(MAX_BUCKETS);
        mixed.sort_by_key(|(bucket, _)| bucket.start_ns);
    }
    let place = |row: &Row| (row.batch as usize, row.row as usize);
    let column = buckets.into_iter().map(|(bucket, range)| Group {
        kind: SegmentKind::Column,
        bucket,
        rows: rows[range].iter().map(place).collect(),
    });
    let mut groups: Vec<Group> = column.collect();
    groups.sort_by_key(|group| group.bucket.start_ns);
    if let Some((newest, _)) = mixed.last() {
        let rows = mixed.iter().flat_map(|(_, range)| &rows[range.clone()]).map(place).collect();
        groups.push(Group { kind: SegmentKind::Mixed, bucket: *newest, rows });
    }
    groups
}

fn sorted_rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (number, batch) in batches.iter().enumerate() {
        let column = |name| batch.column_by_name(name).expect("a chunk has every system column");
        let times = column(system::TIME).as_primitive::<TimestampNanosecondType>().values();
        let partitions = column(system::PARTITION).as_primitive::<Int32Type>().values();
        let offsets = column(system::OFFSET).as_primitive::<Int64Type>().values();
        rows.extend((0..batch.num_rows()).map(|row| Row {
            time_ns: times[row],
            partition: partitions[row],
            offset: offsets[row],
            batch: number as u32,
            row: row as u32,
        }));
    }
    rows.sort_unstable_by_key(|row| (row.time_ns, row.partition, row.offset));
    rows
}

/// The runs of rows of one bucket, ascending.
fn buckets(rows: &[Row], bucket_ns: i64) -> Vec<(TimeBucket, Range<usize>)> {
    let mut buckets = Vec::new();
    let mut start = 0;
    while start < rows.len() {
        let bucket = TimeBucket::of(rows[start].time_ns, bucket_ns);
        // The last bucket's end is cut to i64::MAX, which lies in it none the less.
        let holds = |row: &Row| bucket.contains(row.time_ns) || bucket.end_ns == i64::MAX;
        let end = start + rows[start..].partition_point(holds);
        buckets.push((bucket, start..end));
        start = end;
    }
    buckets
}
