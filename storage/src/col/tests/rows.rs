//! Rows to write: every type, with and without nulls, of few and of many values.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Schema};
use stratalog_proto::TimeBucket;

use super::system;

/// 2026-01-01T00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;
/// The hour that all sample rows lie in.
pub(super) const BUCKET: TimeBucket = TimeBucket { start_ns: START_NS, end_ns: START_NS + 3_600_000_000_000 };

/// The time of a sample row.
pub(super) fn time_of(row: usize) -> i64 {
    START_NS + row as i64 * 1_000_000
}

type Column = (&'static str, ArrayRef, bool);

/// `count` rows of three partitions, from offset 100 each; one row in a hundred is dead.
pub(super) fn sample(count: usize) -> RecordBatch {
    let rows = || 0..count;
    let mixed = |row: usize| row.wrapping_mul(0x9E37_79B9) >> 7;
    let user: Vec<Column> = vec![
        ("done", Arc::new(rows().map(|row| (row % 5 > 0).then_some(row % 3 == 0)).collect::<BooleanArray>()), true),
        ("http.status", Arc::new(rows().map(|row| Some(200 + (row % 7) as i64 * 50)).collect::<Int64Array>()), true),
        (
            "latency",
            Arc::new(rows().map(|row| Some((mixed(row) % 9_999) as f64 / 100.0)).collect::<Float64Array>()),
            true,
        ),
        (
            "level",
            Arc::new(rows().map(|row| Some(["info", "warn", "error"][mixed(row) % 3])).collect::<StringArray>()),
            true,
        ),
        ("message", Arc::new(rows().map(|row| (row % 11 > 0).then(|| message(row))).collect::<StringArray>()), true),
        ("ratio", Arc::new(rows().map(|row| (row % 2 > 0).then(|| 1.0 / row as f64)).collect::<Float64Array>()), true),
        ("size", Arc::new(rows().map(|row| (row % 4 > 0).then(|| mixed(row) as i64)).collect::<Int64Array>()), true),
        ("void", Arc::new(rows().map(|_| None::<i64>).collect::<Int64Array>()), true),
    ];
    batch(system_columns(&rows().map(time_of).collect::<Vec<_>>()).into_iter().chain(user).collect())
}

fn message(row: usize) -> String {
    format!("request {row} of user-{} took a wörld of time", row.wrapping_mul(2_654_435_761) % 1_000_003)
}

/// Rows with these times, and system columns only.
pub(super) fn with_times(times: &[i64]) -> RecordBatch {
    batch(system_columns(times))
}

/// Ten rows with `columns` user columns.
pub(super) fn wide(columns: usize) -> RecordBatch {
    let rows = with_times(&(0..10).map(time_of).collect::<Vec<_>>());
    let mut fields: Vec<Field> = rows.schema().fields().iter().map(|field| (**field).clone()).collect();
    let mut arrays = rows.columns().to_vec();
    for column in 0..columns {
        let values: Int64Array = (0..10).map(|row| Some(row * column as i64)).collect();
        fields.push(Field::new(format!("c{column:04}"), arrow::datatypes::DataType::Int64, true));
        arrays.push(Arc::new(values));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn system_columns(times: &[i64]) -> Vec<Column> {
    let rows = || 0..times.len();
    let ingested = times.iter().map(|time| time.saturating_add(5));
    let dead = rows().map(|row| (row % 100 == 42).then_some("no JSON object"));
    vec![
        (system::TIME, Arc::new(TimestampNanosecondArray::from(times.to_vec()).with_timezone("UTC")), false),
        (
            system::INGESTED_AT,
            Arc::new(TimestampNanosecondArray::from_iter_values(ingested).with_timezone("UTC")),
            false,
        ),
        (
            system::TIMESTAMP,
            Arc::new(
                TimestampMillisecondArray::from_iter_values(times.iter().map(|time| time / 1_000_000))
                    .with_timezone("UTC"),
            ),
            true,
        ),
        (system::PARTITION, Arc::new(rows().map(|row| Some(row as i32 % 3)).collect::<Int32Array>()), false),
        (system::OFFSET, Arc::new(rows().map(|row| Some(100 + row as i64 / 3)).collect::<Int64Array>()), false),
        (
            system::KEY,
            Arc::new(rows().map(|row| (row % 9 > 0).then(|| format!("key-{row}"))).collect::<StringArray>()),
            true,
        ),
        (system::DEAD, Arc::new(dead.collect::<StringArray>()), true),
    ]
}

pub(super) fn batch(columns: Vec<Column>) -> RecordBatch {
    let field = |(name, array, nullable): &Column| Field::new(*name, array.data_type().clone(), *nullable);
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array, _)| array).collect()).unwrap()
}
