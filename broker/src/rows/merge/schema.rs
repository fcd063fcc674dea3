//! One schema for the rows of all inputs, or for each of a few families of them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use stratalog_query::merge_schemas;

use super::input::Input;
use crate::rows::parse::exact_float;

/// The most families of inputs; the last one takes whatever goes with none, and keeps its values as text.
const MAX_FAMILIES: usize = 8;

/// The schema that the rows of a merge get.
pub(super) struct Merged {
    pub(super) schema: SchemaRef,
    /// A column of integers and floats of which floats cannot hold each integer. A query takes such a column for floats
    /// while the segments are apart; as one column, which has to keep every value, it is text (Q2).
    pub(super) inexact: Option<String>,
}

/// The schema that a query gives to the rows of all inputs, but for columns that would lose a value by it: they are text.
pub(super) fn merged(inputs: &[Input]) -> Merged {
    merged_of(&inputs.iter().collect::<Vec<_>>())
}

fn merged_of(inputs: &[&Input]) -> Merged {
    let schemas: Vec<SchemaRef> = inputs.iter().map(|input| input.schema()).collect();
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

/// Inputs whose rows go together: no value changes by the schema that they have in common.
pub(super) struct Family {
    pub(super) schema: SchemaRef,
    /// Whether an input is in it, by the input's number.
    pub(super) members: Vec<bool>,
}

/// All inputs as one family, or as few of which none has a column of text only since it has both integers and floats. As
/// one, they would turn such a column into text in each query of the topic (Q2).
pub(super) fn families(inputs: &[Input]) -> Vec<Family> {
    let Merged { schema, inexact } = merged(inputs);
    if inexact.is_none() {
        return vec![Family { schema, members: vec![true; inputs.len()] }];
    }
    let mut sets: Vec<(Numbers, Vec<usize>)> = Vec::new();
    for (at, input) in inputs.iter().enumerate() {
        let numbers = Numbers::of(input);
        let fitting = sets.iter().position(|(known, _)| known.go_with(&numbers));
        match fitting.or((sets.len() == MAX_FAMILIES).then_some(MAX_FAMILIES - 1)) {
            Some(family) => {
                sets[family].0.add(numbers);
                sets[family].1.push(at);
            }
            None => sets.push((numbers, vec![at])),
        }
    }
    sets.into_iter().map(|(_, members)| family(inputs, &members)).collect()
}

fn family(inputs: &[Input], numbers: &[usize]) -> Family {
    let members: Vec<&Input> = numbers.iter().map(|at| &inputs[*at]).collect();
    let mut is_in = vec![false; inputs.len()];
    numbers.iter().for_each(|at| is_in[*at] = true);
    Family { schema: merged_of(&members).schema, members: is_in }
}

/// The columns of numbers that do not go with all others.
#[derive(Default)]
struct Numbers {
    floats: HashSet<String>,
    /// Those with integers that a float may not hold.
    integers: HashSet<String>,
}

impl Numbers {
    fn of(input: &Input) -> Self {
        let mut numbers = Self::default();
        for field in input.schema().fields() {
            match field.data_type() {
                DataType::Float64 => _ = numbers.floats.insert(field.name().clone()),
                DataType::Int64 if !integers_are_exact(input, field.name()) => {
                    numbers.integers.insert(field.name().clone());
                }
                _ => {}
            }
        }
        numbers
    }

    fn go_with(&self, others: &Self) -> bool {
        self.floats.is_disjoint(&others.integers) && self.integers.is_disjoint(&others.floats)
    }

    fn add(&mut self, others: Self) {
        self.floats.extend(others.floats);
        self.integers.extend(others.integers);
    }
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

/// Those of the inputs with such a column that are fewer: with integers that no float holds, or with floats.
pub(super) fn minority(inputs: &[Input], column: &str) -> Vec<usize> {
    let of = |is_of: &dyn Fn(&Input) -> bool| {
        let numbered = inputs.iter().enumerate().filter(|(_, input)| is_of(input));
        numbered.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let has_floats = |input: &Input| {
        input.schema().field_with_name(column).is_ok_and(|field| *field.data_type() == DataType::Float64)
    };
    let (integers, floats) = (of(&|input| !integers_are_exact(input, column)), of(&has_floats));
    if integers.len() <= floats.len() { integers } else { floats }
}
