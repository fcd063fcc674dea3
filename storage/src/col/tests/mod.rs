//! Files as a whole: what goes in comes out, what is damaged is found, and what cannot be a segment is refused.

mod counting;
mod damage;
mod faults;
mod fixture;
mod refusals;
mod rows;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampNanosecondType, UInt64Type};
use stratalog_proto::{Offset, PartitionId, SegmentId, ShardId, TimeBucket, TopicId};
use uuid::Uuid;

use super::*;
use crate::io::{Io, RealDisk};
use crate::segment::{OffsetRange, SegmentKind, SegmentMeta};
use rows::{BUCKET, sample, time_of};

fn spec() -> ColSpec {
    ColSpec {
        id: SegmentId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
        shard: ShardId(7),
        topic: TopicId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0002)),
        kind: SegmentKind::Column,
        bucket: BUCKET,
        analyzer_version: 3,
    }
}

fn disk() -> Arc<dyn Io> {
    Arc::new(RealDisk)
}

fn write(dir: &Path, rows: &RecordBatch, text: Option<&[u8]>) -> SegmentMeta {
    write_segment(&*disk(), dir, &spec(), rows, text).unwrap()
}

fn open(dir: &Path) -> Result<ColReader, ColError> {
    ColReader::open(disk(), &dir.join(segment_file_name(spec().id)))
}

fn read_all(reader: &ColReader) -> Result<RecordBatch, ColError> {
    let granule = |granule| {
        let columns: Result<Vec<ArrayRef>, _> =
            (0..reader.schema().fields().len()).map(|col| reader.read(col, granule)).collect();
        Ok(RecordBatch::try_new(reader.schema().clone(), columns?).unwrap())
    };
    let granules: Result<Vec<_>, ColError> = (0..reader.granules()).map(granule).collect();
    Ok(concat_batches(reader.schema(), &granules?).unwrap())
}

#[test]
fn rows_and_text_come_back() {
    for count in [1, 100, 8_192, 8_193, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let rows = sample(count);
        write(dir.path(), &rows, Some(b"a text index"));
        let reader = open(dir.path()).unwrap();
        assert_eq!(reader.schema(), &rows.schema());
        assert_eq!(reader.rows() as usize, count);
        assert_eq!(read_all(&reader).unwrap(), rows);
        reader.verify().unwrap();
        let text = reader.text().unwrap();
        assert_eq!(&text.view(0..text.len()).unwrap()[..], b"a text index");
        assert_eq!(&text.view(2..6).unwrap()[..], b"text");
        assert_eq!(text.view(2..13).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_segment_without_text_has_no_text_section() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &sample(10), None);
    assert!(open(dir.path()).unwrap().text().is_none());
}

#[test]
fn s3_meta_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let rows = sample(1_000);
    let meta = write(dir.path(), &rows, None);
    let path = dir.path().join(segment_file_name(meta.id));
    let file = std::fs::read(&path).unwrap();
    assert_eq!(meta.bytes, file.len() as u64);
    assert_eq!(meta.blake3, *blake3::hash(&file).as_bytes());
    assert_eq!((meta.min_time_ns, meta.max_time_ns), (time_of(0), time_of(999)));
    assert_eq!(meta.max_ingested_ns, time_of(999) + 5);
    assert_eq!((meta.rows, meta.dead_rows), (1_000, 10));
    let range = |partition, first, next| OffsetRange {
        partition: PartitionId(partition),
        first: Offset(first),
        next: Offset(next),
    };
    assert_eq!(meta.ranges, [range(0, 100, 434), range(1, 100, 433), range(2, 100, 433)]);
    assert_eq!(meta.range(PartitionId(1)), Some(&range(1, 100, 433)));
    assert_eq!(meta.range(PartitionId(3)), None);
    assert!(!path.with_extension("col.tmp").exists());
}

#[test]
fn zone_maps_hold_their_granules() {
    let dir = tempfile::tempdir().unwrap();
    let rows = sample(20_000);
    write(dir.path(), &rows, None);
    let reader = open(dir.path()).unwrap();
    assert_eq!((reader.granules(), reader.granule_rows(2)), (3, 16_384..20_000));
    for (col, field) in reader.schema().fields().iter().enumerate() {
        let (min, max, nulls) = (reader.zone_min(col), reader.zone_max(col), reader.null_counts(col));
        assert_eq!((min.len(), max.len(), nulls.len()), (3, 3, 3));
        assert_eq!((min.data_type(), max.data_type()), (field.data_type(), field.data_type()));
        for granule in 0..3 {
            let values = reader.read(col, granule).unwrap();
            assert_eq!(nulls.as_primitive::<UInt64Type>().value(granule), values.null_count() as u64);
        }
    }
    let time = reader.zone_min(0);
    assert_eq!(time.as_primitive::<TimestampNanosecondType>().values()[..], [0, 8_192, 16_384].map(time_of));
    let offset = reader.zone_max(reader.schema().index_of(system::OFFSET).unwrap());
    assert_eq!(offset.as_primitive::<Int64Type>().value(2), 100 + 19_999 / 3);
}

#[test]
fn many_threads_read_one_reader() {
    let dir = tempfile::tempdir().unwrap();
    let rows = sample(20_000);
    write(dir.path(), &rows, None);
    let reader = open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(read_all(&reader).unwrap(), rows));
        }
    });
}

#[test]
fn a_segment_of_hundreds_of_columns_opens() {
    let dir = tempfile::tempdir().unwrap();
    let rows = rows::wide(600);
    write(dir.path(), &rows, None);
    assert_eq!(read_all(&open(dir.path()).unwrap()).unwrap(), rows);
}

#[test]
fn the_last_nanosecond_of_time_has_a_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = TimeBucket::of(i64::MAX, 3_600_000_000_000);
    let rows = rows::with_times(&[i64::MAX]);
    let meta = write_segment(&*disk(), dir.path(), &ColSpec { bucket, ..spec() }, &rows, None).unwrap();
    assert_eq!(meta.max_time_ns, i64::MAX);
    assert_eq!(read_all(&open(dir.path()).unwrap()).unwrap(), rows);
}
