//! Schemas: merging those of segments and tail with widening, and what of a merged schema a statement sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Names of system columns.
pub(crate) mod names {
    pub(crate) use stratalog_storage::col::system::{
        DEAD, HEADERS, INGESTED_AT, KEY, OFFSET, PARTITION, RAW, TIME, TIMESTAMP, is_system,
    };
}

/// System columns that `SELECT *` shows.
pub(crate) const SHOWN: [&str; 3] = [names::TIME, names::PARTITION, names::OFFSET];
/// System columns that exist only where a statement names them.
pub(crate) const HIDDEN: [&str; 6] =
    [names::INGESTED_AT, names::TIMESTAMP, names::KEY, names::HEADERS, names::DEAD, names::RAW];

/// Every system column with its type, in the order of a row batch; `_raw` is last.
pub(crate) fn system_fields() -> Vec<Field> {
    let utc = Some(Arc::from("UTC"));
    vec![
        Field::new(names::TIME, DataType::Timestamp(TimeUnit::Nanosecond, utc.clone()), false),
        Field::new(names::INGESTED_AT, DataType::Timestamp(TimeUnit::Nanosecond, utc.clone()), true),
        Field::new(names::TIMESTAMP, DataType::Timestamp(TimeUnit::Millisecond, utc), true),
        Field::new(names::PARTITION, DataType::Int32, false),
        Field::new(names::OFFSET, DataType::Int64, false),
        Field::new(names::KEY, DataType::Utf8, true),
        Field::new(names::HEADERS, DataType::Utf8, true),
        Field::new(names::DEAD, DataType::Utf8, true),
        Field::new(names::RAW, DataType::Utf8, true),
    ]
}

/// The one schema that can hold the rows of all: a column of several types gets the widest of them, Int64 and Float64
/// become Float64, anything else Utf8, as does a time with anything else. System columns first, in the order of a row batch, then user columns by name.
pub fn merge_schemas<'a>(schemas: impl IntoIterator<Item = &'a Schema>) -> SchemaRef {
    let mut system: BTreeMap<usize, Field> = BTreeMap::new();
    let mut user: BTreeMap<String, DataType> = BTreeMap::new();
    let known = system_fields();
    for field in schemas.into_iter().flat_map(|schema| schema.fields()) {
        if let Some(at) = known.iter().position(|k| k.name() == field.name()) {
            system.entry(at).or_insert_with(|| known[at].clone());
            continue;
        }
        user.entry(field.name().clone())
            .and_modify(|known| *known = widened(known, field.data_type()))
            .or_insert_with(|| field.data_type().clone());
    }
    let user = user.into_iter().map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(system.into_values().chain(user).collect::<Vec<_>>()))
}

/// The narrowest type that holds the values of both.
pub(crate) fn widened(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// The columns that a table of the topic has in one statement: the system columns that `SELECT *` shows, the hidden
/// ones for which `named` holds, then the user columns of the merged schema.
pub(crate) fn table_schema(merged: &Schema, named: impl Fn(&str) -> bool) -> SchemaRef {
    let visible = |field: &Field| SHOWN.contains(&field.name().as_str()) || named(field.name());
    let system = system_fields().into_iter().filter(visible).map(Arc::new);
    let user = merged.fields().iter().filter(|field| !names::is_system(field.name())).cloned();
    Arc::new(Schema::new(system.chain(user).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        Schema::new(
            columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn conflicting_types_widen_and_columns_are_ordered() {
        use DataType::{Boolean, Float64, Int64, Utf8};
        let one = schema(&[("b", Int64), ("c", Int64), ("d", Boolean), ("_offset", Int64), ("a", Utf8)]);
        let two = schema(&[("_time", Int64), ("c", Utf8), ("b", Float64), ("d", Int64)]);
        let merged = merge_schemas([&one, &two]);
        let columns: Vec<_> =
            merged.fields().iter().map(|field| (field.name().as_str(), field.data_type().clone())).collect();
        let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let expected = [("_time", time), ("_offset", Int64), ("a", Utf8), ("b", Float64), ("c", Utf8), ("d", Utf8)];
        assert_eq!(columns, expected);
        assert_eq!(merge_schemas([&two, &one]), merged);
    }

    #[test]
    fn hidden_columns_exist_only_where_they_are_named() {
        let merged = merge_schemas([&schema(&[("x", DataType::Int64), ("_key", DataType::Utf8)])]);
        let names = |named: &[&str]| -> Vec<String> {
            let schema = table_schema(&merged, |name| named.contains(&name));
            schema.fields().iter().map(|field| field.name().clone()).collect()
        };
        assert_eq!(names(&[]), ["_time", "_partition", "_offset", "x"]);
        assert_eq!(names(&["_key", "_raw"]), ["_time", "_partition", "_offset", "_key", "_raw", "x"]);
    }
}
