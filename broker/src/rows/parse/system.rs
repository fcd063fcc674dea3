//! The system columns of a chunk under construction.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int32Array, Int64Array, TimestampMillisecondArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use stratalog_proto::batch::{Headers, Record};
use stratalog_proto::{Offset, PartitionId};
use stratalog_storage::col::system;

use super::column::{Column, Value};
use super::escape::escape;
use super::json_text;

/// Where a record is in the log, and when it came there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    pub(super) offset: Offset,
    /// `entry.time`.
    pub(super) ingested_ns: i64,
}

static FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let millis = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    vec![
        Field::new(system::TIME, nanos.clone(), false),
        Field::new(system::INGESTED_AT, nanos, false),
        Field::new(system::TIMESTAMP, millis, false),
        Field::new(system::PARTITION, DataType::Int32, false),
        Field::new(system::OFFSET, DataType::Int64, false),
        Field::new(system::KEY, DataType::Utf8, true),
        Field::new(system::HEADERS, DataType::Utf8, true),
        Field::new(system::DEAD, DataType::Utf8, true),
    ]
});

/// The fields of the system columns that every chunk and segment has, in their order.
pub(in crate::rows) fn system_fields() -> &'static [Field] {
    &FIELDS
}

/// The schema of a topic without rows.
pub(in crate::rows) fn empty_schema() -> SchemaRef {
    Arc::new(Schema::new(system_fields().to_vec()))
}

/// The system columns, row by row.
#[derive(Default)]
pub(super) struct SystemColumns {
    time: Vec<i64>,
    ingested_at: Vec<i64>,
    timestamp: Vec<i64>,
    partition: Vec<i32>,
    offset: Vec<i64>,
    key: Column,
    headers: Column,
    dead: Column,
    text_bytes: usize,
    scratch: String,
}

/// Bytes of a row in the columns that are never null.
const ROW_BYTES: usize = 4 * size_of::<i64>() + size_of::<i32>();

/// What a record without a timestamp has.
const NO_TIMESTAMP_MS: i64 = -1;
/// The last millisecond that 64-bit nanoseconds hold, in April 2262.
const LAST_TIMESTAMP_MS: i64 = i64::MAX / 1_000_000;

impl SystemColumns {
    pub(super) fn rows(&self) -> usize {
        self.time.len()
    }

    /// Adds a row of a record. `dead` is the reason why its value became no row of its own.
    pub(super) fn push(&mut self, place: Place, time_ns: i64, record: &Record, dead: Option<&str>) {
        let row = self.rows() as u32;
        if let Some(key) = &record.key {
            self.text_bytes += key.len();
            self.key.put(row, Value::Text(&escape(key)));
        }
        if !record.headers.is_empty() {
            self.push_headers(row, &record.headers);
        }
        // A producer may set any 64 bits. Beyond nanoseconds, one such row would fail every statement that compares it with
        // another time.
        self.push_row(place, time_ns, record.timestamp_ms.clamp(NO_TIMESTAMP_MS, LAST_TIMESTAMP_MS), dead);
    }

    /// Adds a row of an offset whose record cannot be read.
    pub(super) fn push_unreadable(&mut self, place: Place, reason: &str) {
        self.push_row(place, place.ingested_ns, place.ingested_ns / 1_000_000, Some(reason));
    }

    fn push_row(&mut self, place: Place, time_ns: i64, timestamp_ms: i64, dead: Option<&str>) {
        if let Some(reason) = dead {
            self.text_bytes += reason.len();
            self.dead.put(self.rows() as u32, Value::Text(reason));
        }
        self.ingested_at.push(place.ingested_ns);
        self.timestamp.push(timestamp_ms);
        self.partition.push(i32::try_from(place.partition.0).expect("a topic has fewer than 2^31 partitions"));
        self.offset.push(i64::try_from(place.offset.0).expect("L2: offsets end at i64::MAX"));
        self.time.push(time_ns);
    }

    fn push_headers(&mut self, row: u32, headers: &Headers) {
        self.scratch.clear();
        for header in headers {
            self.scratch.push(if self.scratch.is_empty() { '{' } else { ',' });
            json_text::push_str(&mut self.scratch, &escape(&header.key));
            self.scratch.push(':');
            match &header.value {
                Some(value) => json_text::push_str(&mut self.scratch, &escape(value)),
                None => self.scratch.push_str("null"),
            }
        }
        self.scratch.push('}');
        self.text_bytes += self.scratch.len();
        self.headers.put(row, Value::Text(&self.scratch));
    }

    /// Makes every row dead, for `reason`.
    pub(super) fn all_dead(&mut self, reason: &str) {
        self.dead = Column::default();
        (0..self.rows()).for_each(|row| self.dead.put(row as u32, Value::Text(reason)));
    }

    /// Forgets what a row that was not finished has left behind.
    pub(super) fn rollback(&mut self) {
        let rows = self.rows();
        let row = rows as u32;
        [&mut self.key, &mut self.headers, &mut self.dead].into_iter().for_each(|column| column.remove(row));
        self.ingested_at.truncate(rows);
        self.timestamp.truncate(rows);
        self.partition.truncate(rows);
        self.offset.truncate(rows);
    }

    /// About the memory of the columns.
    pub(super) fn bytes(&self) -> usize {
        self.rows() * ROW_BYTES + self.text_bytes
    }

    /// The arrays, in the order of [`system_fields`].
    pub(super) fn finish(self) -> Vec<ArrayRef> {
        let rows = self.rows();
        let nanos = |values: Vec<i64>| TimestampNanosecondArray::from(values).with_timezone("UTC");
        vec![
            Arc::new(nanos(self.time)),
            Arc::new(nanos(self.ingested_at)),
            Arc::new(TimestampMillisecondArray::from(self.timestamp).with_timezone("UTC")),
            Arc::new(Int32Array::from(self.partition)),
            Arc::new(Int64Array::from(self.offset)),
            self.key.finish(rows),
            self.headers.finish(rows),
            self.dead.finish(rows),
        ]
    }
}
