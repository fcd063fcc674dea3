//! Rows as tests think of them, and as Arrow batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray,
};

/// A value of a user column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Value {
    pub(super) fn text(&self) -> String {
        match self {
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(value) => value.clone(),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            _ => None,
        }
    }
}

/// A row of a topic.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) partition: u32,
    pub(super) offset: u64,
    pub(super) time_ns: i64,
    pub(super) dead: Option<String>,
    pub(super) values: BTreeMap<&'static str, Value>,
}

impl Row {
    pub(super) fn new(partition: u32, offset: u64, time_ns: i64) -> Self {
        Self { partition, offset, time_ns, dead: None, values: BTreeMap::new() }
    }

    pub(super) fn with(mut self, column: &'static str, value: Value) -> Self {
        self.values.insert(column, value);
        self
    }

    pub(super) fn text(self, column: &'static str, value: impl Into<String>) -> Self {
        self.with(column, Value::Text(value.into()))
    }

    pub(super) fn int(self, column: &'static str, value: i64) -> Self {
        self.with(column, Value::Int(value))
    }

    pub(super) fn dead(mut self, reason: &str) -> Self {
        self.dead = Some(reason.to_owned());
        self
    }
}

/// The rows as one batch; a column has the narrowest type that holds the values of these rows.
pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let utc = "UTC";
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        (
            "_time",
            Arc::new(rows.iter().map(|row| Some(row.time_ns)).collect::<TimestampNanosecondArray>().with_timezone(utc)),
        ),
        (
            "_ingested_at",
            Arc::new(
                rows.iter().map(|row| Some(row.time_ns + 7)).collect::<TimestampNanosecondArray>().with_timezone(utc),
            ),
        ),
        (
            "_timestamp",
            Arc::new(
                rows.iter()
                    .map(|row| Some(row.time_ns / 1_000_000))
                    .collect::<TimestampMillisecondArray>()
                    .with_timezone(utc),
            ),
        ),
        ("_partition", Arc::new(rows.iter().map(|row| Some(row.partition as i32)).collect::<Int32Array>())),
        ("_offset", Arc::new(rows.iter().map(|row| Some(row.offset as i64)).collect::<Int64Array>())),
        ("_key", Arc::new(rows.iter().map(|row| Some(format!("k{}", row.offset % 5))).collect::<StringArray>())),
    ];
    if rows.iter().any(|row| row.dead.is_some()) {
        columns.push(("_dead", Arc::new(rows.iter().map(|row| row.dead.clone()).collect::<StringArray>())));
    }
    let names: BTreeSet<&'static str> = rows.iter().flat_map(|row| row.values.keys().copied()).collect();
    for name in names {
        columns.push((name, column(rows, name)));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| {
        let nullable = !matches!(name, "_time" | "_ingested_at" | "_partition" | "_offset");
        (name, array, nullable)
    }))
    .unwrap()
}

fn column(rows: &[Row], name: &str) -> ArrayRef {
    let values = || rows.iter().map(|row| row.values.get(name));
    if values().flatten().all(|value| matches!(value, Value::Bool(_))) {
        return Arc::new(
            values().map(|value| value.map(|value| *value == Value::Bool(true))).collect::<BooleanArray>(),
        );
    }
    if values().flatten().all(|value| matches!(value, Value::Int(_))) {
        let int = |value: &Value| if let Value::Int(value) = value { Some(*value) } else { None };
        return Arc::new(values().map(|value| value.and_then(int)).collect::<Int64Array>());
    }
    if values().flatten().all(|value| value.number().is_some()) {
        return Arc::new(values().map(|value| value.and_then(Value::number)).collect::<Float64Array>());
    }
    Arc::new(values().map(|value| value.map(Value::text)).collect::<StringArray>())
}
