//! Bringing row batches of different schemas into one, without losing a value.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use stratalog_query::{TailChunk, widen};

use super::parse::{exact_float, system_fields};

/// The most columns that come together in one batch: what keeps fields without end from making a chunk or a segment that
/// is mostly nulls.
const MAX_COLUMNS: usize = 4_096;
/// The most cells, nulls included, that come together in one batch: 256 MiB of numbers.
const MAX_CELLS: usize = 32 << 20;

/// Whether the batches can be one: their columns and cells are bounded together.
pub(super) fn fit(batches: &[&RecordBatch]) -> bool {
    parts(batches).len() <= 1
}

/// Cuts a run of batches into runs that [`fit`], each as long as possible. A batch alone always fits.
pub(super) fn parts<'a, 'b>(batches: &'b [&'a RecordBatch]) -> Vec<&'b [&'a RecordBatch]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut names: HashSet<&str> = HashSet::new();
    let mut rows = 0;
    for (at, batch) in batches.iter().enumerate() {
        names.extend(batch.schema_ref().fields().iter().map(|field| field.name().as_str()));
        rows += batch.num_rows();
        if at > start && (names.len() > MAX_COLUMNS || names.len() * rows > MAX_CELLS) {
            parts.push(&batches[start..at]);
            start = at;
            rows = batch.num_rows();
            names = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
        }
    }
    parts.push(&batches[start..]);
    parts
}

/// One chunk with the rows of all, which ascend by index and have at most [`TailChunk::MAX_ROWS`] rows together.
pub(super) fn join(chunks: &[&TailChunk]) -> TailChunk {
    let batches: Vec<&RecordBatch> = chunks.iter().map(|chunk| &chunk.rows).collect();
    let (schema, batches) = unify(&batches);
    let rows = concat_batches(&schema, &batches).expect("batches of one schema can be joined");
    let first_index = chunks.iter().map(|chunk| chunk.first_index).min().expect("there is a chunk");
    let last_index = chunks.iter().map(|chunk| chunk.last_index).max().expect("there is a chunk");
    TailChunk::new(first_index, last_index, rows)
}

/// The batches in one schema: system columns, then the user columns of all by name.
///
/// A column of several types becomes Float64 if they are Int64 and Float64 and each integer is exact, else Utf8 with
/// the text of each value. [`merge_schemas`](stratalog_query::merge_schemas) is the same without the look at values: it
/// decides what a query sees, this what is stored.
pub(super) fn unify(batches: &[&RecordBatch]) -> (SchemaRef, Vec<RecordBatch>) {
    let schema = common_schema(batches);
    let unified = batches.iter().map(|batch| widen_batch(batch, &schema)).collect();
    (schema, unified)
}

fn common_schema(batches: &[&RecordBatch]) -> SchemaRef {
    if let Some(same) = same_schema(batches) {
        return same;
    }
    let mut types: BTreeMap<&str, DataType> = BTreeMap::new();
    let schemas: Vec<SchemaRef> = batches.iter().map(|batch| batch.schema()).collect();
    for field in schemas.iter().flat_map(|schema| user_fields(schema)) {
        let name = field.name().as_str();
        let data_type = match types.get(name) {
            Some(known) => wider(known, field.data_type(), || integers_are_exact(batches, name)),
            None => field.data_type().clone(),
        };
        types.insert(name, data_type);
    }
    let user = types.into_iter().map(|(name, data_type)| Field::new(name, data_type, true));
    Arc::new(Schema::new(system_fields().iter().cloned().chain(user).collect::<Vec<_>>()))
}

fn same_schema(batches: &[&RecordBatch]) -> Option<SchemaRef> {
    let (first, rest) = batches.split_first()?;
    rest.iter().all(|batch| batch.schema_ref() == first.schema_ref()).then(|| first.schema())
}

fn user_fields(schema: &Schema) -> impl Iterator<Item = &Field> {
    schema.fields().iter().skip(system_fields().len()).map(|field| &**field)
}

fn wider(a: &DataType, b: &DataType, exact: impl Fn() -> bool) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) if exact() => DataType::Float64,
        _ => DataType::Utf8,
    }
}

/// Whether a float can hold each integer of a column.
fn integers_are_exact(batches: &[&RecordBatch], name: &str) -> bool {
    let columns = batches.iter().filter_map(|batch| batch.column_by_name(name));
    let integers = columns.filter_map(|column| column.as_primitive_opt::<Int64Type>());
    integers.flat_map(|column| column.iter().flatten()).all(|value| exact_float(value).is_some())
}

fn widen_batch(batch: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    if batch.schema_ref() == schema {
        return batch.clone();
    }
    let column = |field: &Arc<Field>| -> ArrayRef {
        match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => column.clone(),
            Some(column) => widen(column.clone(), field.data_type()).expect("user columns widen to Float64 or Utf8"),
            None => new_null_array(field.data_type(), batch.num_rows()),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema.clone(), columns).expect("a widened batch has the common schema")
}
