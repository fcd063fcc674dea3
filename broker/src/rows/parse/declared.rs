//! Declared columns of a topic: which they are, and what a value has to be to stand in one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use stratalog_proto::config::{ColumnSpec, ColumnType};

use super::column::{Value, exact_float};
use super::escape::clip;
use super::number::number;
use super::time::{BadTime, event_time};

/// The most bytes of a value that a reason shows.
const MAX_SHOWN_BYTES: usize = 64;

/// The declared columns of a topic, to be found by name.
#[derive(Default)]
pub(super) struct Declared {
    columns: Vec<ColumnSpec>,
    by_name: HashMap<String, usize>,
    /// Their names and the paths of the objects that they lie in.
    paths: HashSet<String>,
    required: Vec<usize>,
}

impl Declared {
    /// Of these columns, whose names differ.
    pub(super) fn new(columns: &[ColumnSpec]) -> Self {
        let mut declared = Self { columns: columns.to_vec(), ..Self::default() };
        for (at, column) in columns.iter().enumerate() {
            declared.by_name.insert(column.name.clone(), at);
            let dots = column.name.match_indices('.').map(|(at, _)| at);
            declared.paths.extend(dots.chain([column.name.len()]).map(|end| column.name[..end].to_owned()));
            if column.required {
                declared.required.push(at);
            }
        }
        declared
    }

    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(super) fn get(&self, at: usize) -> &ColumnSpec {
        &self.columns[at]
    }

    /// The declared column of this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        if self.columns.is_empty() { None } else { self.by_name.get(name).copied() }
    }

    /// Whether a declared column has this name, or lies in the object at this path.
    pub(super) fn leads_to(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The columns that each record must have.
    pub(super) fn required(&self) -> &[usize] {
        &self.required
    }
}

/// The type of a column in words of its declaration; `None` for a type that no record gives a column.
pub(in crate::rows) fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int64 => ColumnType::Bigint,
        DataType::Float64 => ColumnType::Double,
        DataType::Utf8 => ColumnType::Text,
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if **zone == *"UTC" => ColumnType::Timestamp,
        _ => return None,
    })
}

/// The declared columns as a table has them, also where no row has a value.
pub(crate) fn declared_schema(columns: &[ColumnSpec]) -> SchemaRef {
    let data_type = |column_type| match column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Bigint => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Text => DataType::Utf8,
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
    };
    let field = |column: &ColumnSpec| Field::new(&column.name, data_type(column.column_type), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// What `value` is in a column of type `to`; `None` if it is that already. Text stays what it is in a column of text, and
/// other values get their text when the column is finished.
///
/// # Errors
/// Why the column cannot have the value, as the end of a sentence that begins with the column's name.
pub(super) fn conform(value: Value<'_>, to: ColumnType) -> Result<Option<Value<'static>>, String> {
    let converted = match to {
        ColumnType::Text => return Ok(None),
        ColumnType::Boolean => boolean(value).map(Value::Bool),
        ColumnType::Bigint => bigint(value).map(Value::Int),
        ColumnType::Double => double(value).map(Value::Float),
        ColumnType::Timestamp => match event_time(value) {
            Ok(time) => Some(Value::Time(time)),
            Err(BadTime::OutOfRange) => {
                return Err(format!("holds {}, which is not within 1970 to 2262", shown(value)));
            }
            Err(BadTime::NotATime) => None,
        },
    };
    match converted {
        None => Err(format!("holds {}, which is no {}", shown(value), to.name())),
        same if same == Some(value) => Ok(None),
        other => Ok(other),
    }
}

fn boolean(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        Value::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Integers, and whole numbers that were written as floats or as text.
fn bigint(value: Value<'_>) -> Option<i64> {
    match value {
        Value::Int(value) => Some(value),
        Value::Float(value) => {
            let whole = value as i64;
            exact_float(whole).filter(|float| *float == value).map(|_| whole)
        }
        Value::Text(text) => match number(text)? {
            Value::Text(_) => None,
            number => bigint(number),
        },
        Value::Bool(_) | Value::Digits(_) | Value::Time(_) => None,
    }
}

/// Any number that is not too large: the nearest double, as everywhere where doubles are asked for.
fn double(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Float(value) => Some(value),
        Value::Int(value) => Some(value as f64),
        Value::Digits(digits) => digits.parse().ok().filter(|float: &f64| float.is_finite()),
        Value::Text(text) => match number(text)? {
            Value::Text(_) => None,
            number => double(number),
        },
        Value::Bool(_) | Value::Time(_) => None,
    }
}

/// A value as a reason shows it.
pub(super) fn shown(value: Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) | Value::Time(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Text(value) | Value::Digits(value) => format!("`{}`", clip(value, MAX_SHOWN_BYTES)),
    }
}
