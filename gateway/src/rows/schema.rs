//! Names and types of an answer's columns, as users see them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// The schema with each column name made unique: the second `a` becomes `a_2`, so that no JSON object has a key twice.
pub fn unique_names(schema: &SchemaRef) -> SchemaRef {
    let taken: HashSet<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if taken.len() == schema.fields().len() {
        return schema.clone();
    }
    let mut used = HashSet::new();
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let name = free_name(field.name(), &used, &taken);
            used.insert(name.clone());
            field.as_ref().clone().with_name(name)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// `name` if it is free, else the first of `name_2`, `name_3`, … that no column has.
fn free_name(name: &str, used: &HashSet<String>, taken: &HashSet<String>) -> String {
    if !used.contains(name) {
        return name.to_owned();
    }
    (2_u32..)
        .map(|number| format!("{name}_{number}"))
        .find(|candidate| !used.contains(candidate) && !taken.contains(candidate))
        .expect("there are more numbers than columns")
}

/// The name of a type in JSON answers. It tells how a value is written, so related widths share a name where that is the same.
pub(super) fn type_name(data_type: &DataType) -> &'static str {
    use DataType::*;
    match data_type {
        Null => "null",
        Boolean => "boolean",
        Int8 | Int16 | Int32 | Int64 => "int64",
        UInt8 | UInt16 | UInt32 | UInt64 => "uint64",
        Float16 | Float32 | Float64 => "float64",
        Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..) => "decimal",
        Utf8 | LargeUtf8 | Utf8View => "string",
        Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => "binary",
        Timestamp(..) => "timestamp",
        Date32 | Date64 => "date",
        Time32(_) | Time64(_) => "time",
        Duration(_) => "duration",
        Interval(_) => "interval",
        List(_) | LargeList(_) | FixedSizeList(..) | ListView(_) | LargeListView(_) => "list",
        Struct(_) => "struct",
        Map(..) => "map",
        Union(..) => "union",
        Dictionary(_, values) => type_name(values),
        RunEndEncoded(_, values) => type_name(values.data_type()),
    }
}

/// Whether a value of this type holds other values.
pub(super) fn is_nested(data_type: &DataType) -> bool {
    matches!(type_name(data_type), "list" | "struct" | "map" | "union")
}
