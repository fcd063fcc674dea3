//! What cannot become a segment is refused, and leaves nothing behind.

use arrow::array::{Array, ArrayRef, Int32Array, Int64Array, UInt8Array};
use arrow::datatypes::Field;

use super::rows::with_times;
use super::*;

fn refusal(spec: &ColSpec, rows: &RecordBatch) -> String {
    let dir = tempfile::tempdir().unwrap();
    let error = write_segment(&*disk(), dir.path(), spec, rows, None).unwrap_err();
    assert!(matches!(error, ColError::Refused { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    error.to_string()
}

/// The rows with one column in the place of another.
fn with_column(rows: &RecordBatch, name: &str, array: ArrayRef) -> RecordBatch {
    let at = rows.schema().index_of(name).unwrap();
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| (**field).clone()).collect();
    fields[at] = Field::new(name, array.data_type().clone(), true);
    let mut columns = rows.columns().to_vec();
    columns[at] = array;
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).unwrap()
}

#[test]
fn s3_a_row_outside_of_the_bucket_is_refused() {
    for time in [BUCKET.start_ns - 1, BUCKET.end_ns] {
        let rows = with_times(&[BUCKET.start_ns, time]);
        assert!(refusal(&spec(), &rows).contains("S3"));
        let dir = tempfile::tempdir().unwrap();
        let mixed = ColSpec { kind: SegmentKind::Mixed, ..spec() };
        write_segment(&*disk(), dir.path(), &mixed, &rows, None).unwrap();
    }
}

#[test]
fn s1_an_offset_that_comes_twice_is_refused() {
    let rows = sample(4);
    let rows = with_column(&rows, system::OFFSET, Arc::new(Int64Array::from(vec![5, 5, 5, 5])));
    assert!(refusal(&spec(), &rows).contains("S1: offset 5 of partition 0"));
}

#[test]
fn positions_below_zero_are_refused() {
    let rows = with_column(&sample(1), system::OFFSET, Arc::new(Int64Array::from(vec![-1])));
    assert!(refusal(&spec(), &rows).contains("negative"));
    let rows = with_column(&sample(1), system::PARTITION, Arc::new(Int32Array::from(vec![-1])));
    assert!(refusal(&spec(), &rows).contains("negative"));
}

#[test]
fn no_rows_are_refused() {
    assert!(refusal(&spec(), &sample(0)).contains("0 rows"));
}

#[test]
fn a_type_that_has_no_encoding_is_refused() {
    let rows = with_column(&sample(2), "size", Arc::new(UInt8Array::from(vec![1, 2])));
    assert!(refusal(&spec(), &rows).contains("column `size` is UInt8"));
}

#[test]
fn a_missing_or_null_system_column_is_refused() {
    for name in [system::TIME, system::INGESTED_AT, system::PARTITION, system::OFFSET] {
        let rows = sample(2);
        let at = rows.schema().index_of(name).unwrap();
        let nulls = arrow::array::new_null_array(rows.column(at).data_type(), 2);
        assert!(refusal(&spec(), &with_column(&rows, name, nulls)).contains("2 nulls"));
        let mut rows = rows;
        rows.remove_column(at);
        assert!(refusal(&spec(), &rows).contains("is missing"));
    }
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_segment(&*disk(), &dir.path().join("none"), &spec(), &sample(1), None).unwrap_err();
    assert_eq!(error.code(), stratalog_proto::Code::Io);
}
