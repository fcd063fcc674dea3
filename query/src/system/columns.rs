//! Columns, as `system.columns` and `DESCRIBE` show them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::Result;

use super::{positions, table_of, texts, truths};
use crate::catalog::TopicInfo;
use crate::schema;

/// One row a column of a topic, with `merged` the schema of each topic's rows.
pub(crate) fn columns<'a>(topics: impl Iterator<Item = (&'a TopicInfo, &'a Schema)>) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<Column<'_>> = topics.flat_map(|(topic, merged)| columns_of(topic, merged)).collect();
    let fields = || rows.iter().map(|column| &column.field);
    table_of(vec![
        ("topic", texts(rows.iter().map(|column| &column.topic.name))),
        ("position", positions(rows.iter().map(|column| column.at))),
        ("column", texts(fields().map(|field| field.name()))),
        ("type", texts(fields().map(|field| type_name(field.data_type())))),
        ("shown", truths(fields().map(|field| is_shown(field)))),
        ("required", truths(rows.iter().map(Column::is_required))),
    ])
}

/// A column of a topic.
pub(super) struct Column<'a> {
    pub(super) topic: &'a TopicInfo,
    /// Its place among them, from 0.
    pub(super) at: usize,
    pub(super) field: Arc<Field>,
}

impl Column<'_> {
    /// Whether a record without it is a dead letter.
    pub(super) fn is_required(&self) -> bool {
        self.topic.config.columns.iter().any(|declared| declared.required && declared.name == *self.field.name())
    }
}

/// The columns of a topic, those that `SELECT *` hides included.
pub(super) fn columns_of<'a>(topic: &'a TopicInfo, merged: &Schema) -> Vec<Column<'a>> {
    let schema = schema::table_schema(merged, |_| true);
    schema.fields().iter().enumerate().map(|(at, field)| Column { topic, at, field: field.clone() }).collect()
}

/// Whether `SELECT *` shows a column.
pub(super) fn is_shown(field: &Field) -> bool {
    !schema::HIDDEN.contains(&field.name().as_str())
}

/// One row a column of a table of ours, in the shape of [`columns`].
pub(crate) fn describe(schema: &Schema) -> Result<Arc<dyn TableProvider>> {
    let fields = || schema.fields().iter();
    table_of(vec![
        ("position", positions(0..schema.fields().len())),
        ("column", texts(fields().map(|field| field.name()))),
        ("type", texts(fields().map(|field| type_name(field.data_type())))),
        ("shown", truths(fields().map(|_| true))),
    ])
}

/// The type as SQL calls it.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int32 | DataType::UInt32 => "integer".to_owned(),
        DataType::Int64 | DataType::UInt64 => "bigint".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Utf8 => "text".to_owned(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => "timestamp(9) utc".to_owned(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => "timestamp(3) utc".to_owned(),
        other => other.to_string(),
    }
}
