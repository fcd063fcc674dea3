//! One schema for the rows of all inputs.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use stratalog_query::merge_schemas;

use super::input::Input;
use crate::rows::parse::exact_float;

/// The schema that the rows of a merge get.
pub(super) struct Merged {
    pub(super) schema: SchemaRef,
    /// A column of integers and floats of which floats cannot hold each integer. A query takes such a column for floats
    /// while the segments are apart; as one column, which has to keep every value, it is text (Q2).
    pub(super) inexact: Option<String>,
}

/// The schema that a query gives to the rows of all inputs, but for columns that would lose a value by it: they are text.
pub(super) fn merged(inputs: &[Input]) -> Merged {
    let schemas: Vec<SchemaRef> = inputs.iter().map(Input::schema).collect();
    let schema = merge_schemas(schemas.iter().map(|schema| &**schema));
    let is_inexact = |field: &Arc<Field>| {
        *field.data_type() == DataType::Float64 && !inputs.iter().all(|input| integers_are_exact(input, field.name()))
    };
    let mut inexact = None;
    let fields = schema.fields().iter().map(|field| {
        if !is_inexact(field) {
            return field.clone();
        }
        inexact.get_or_insert_with(|| field.name().clone());
        Arc::new(Field::new(field.name(), DataType::Utf8, true))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Merged { schema, inexact }
}

/// Whether a float can hold each integer of a column. Of a segment its zone map is asked: it may be too careful.
fn integers_are_exact(input: &Input, name: &str) -> bool {
    let schema = input.schema();
    let Ok(at) = schema.index_of(name) else { return true };
    if *schema.field(at).data_type() != DataType::Int64 {
        return true;
    }
    // Between two integers that are exact there may be one that is not, but only beyond this.
    let is_small = |value: i64| value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS;
    let all = |array: ArrayRef, holds: fn(i64) -> bool| array.as_primitive::<Int64Type>().iter().flatten().all(holds);
    match input {
        Input::Segment(reader) => {
            [reader.zone_min(at), reader.zone_max(at)].into_iter().all(|zones| all(zones, is_small))
        }
        Input::Rows(rows) => all(rows.column(at).clone(), |value| exact_float(value).is_some()),
    }
}
