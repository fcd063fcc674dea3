//! Tables about the cluster itself: `system.topics` and its like, and those of SQL's standard in `information_schema`. They
//! are read when a statement is planned, those that need rows of topics once it is known which topics it asks for.

mod columns;
mod dead_letters;
mod everywhere;
mod groups;
mod information;
mod node;
mod of_topics;
mod queries;
mod topics;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::Result;
use stratalog_proto::Error;

use of_topics::{OfTopics, Snapshots};

pub(crate) use columns::{columns, describe};
pub(crate) use dead_letters::may_have_dead_rows;
pub(crate) use everywhere::rows_here;

use crate::catalog::TopicInfo;
use crate::core::Core;
use crate::error::from_datafusion;
use crate::query::Query;
use crate::sql::{INFORMATION, SYSTEM};

/// The tables of the schema `system`.
pub(crate) const TABLES: [&str; 12] = [
    "columns",
    "connections",
    DEAD_LETTERS,
    "events",
    GROUPS,
    "jobs",
    PARTITIONS,
    "queries",
    "segments",
    "settings",
    "shards",
    "topics",
];
/// The one table among them that reads rows.
pub(crate) const DEAD_LETTERS: &str = "dead_letters";
/// The one among them that is made of two: who coordinates a group does not know how far its partitions are.
const GROUPS: &str = "groups";
const PARTITIONS: &str = "partitions";
/// The tables of the schema `information_schema`.
pub(crate) const INFORMATION_TABLES: [&str; 2] = ["columns", "tables"];

/// A table of the schema `system`; `None` if there is none of the name.
///
/// # Errors
/// None but defects.
pub(crate) async fn table(
    core: &Arc<Core>,
    name: &str,
    running: &Arc<Query>,
) -> Result<Option<Arc<dyn TableProvider>>, Error> {
    let table = match name {
        "columns" => OfTopics::table(core, running, "topic", |snapshots: &Snapshots| columns(schemas(snapshots))),
        DEAD_LETTERS => dead_letters::table(core, running),
        "topics" => topics::topics(&*core.catalog).and_then(in_memory),
        name => match everywhere::rows(core, name, running).await? {
            Some(rows) => in_memory(rows),
            None => return Ok(None),
        },
    };
    table.map(Some).map_err(from_datafusion)
}

/// What this node knows for a table to which every node contributes; `None` if there is none of the name.
///
/// # Errors
/// None but defects.
fn own_rows(core: &Core, name: &str) -> Result<Option<RecordBatch>> {
    let catalog = &*core.catalog;
    let rows = match name {
        "connections" => node::connections(catalog),
        "events" => node::events(catalog),
        GROUPS => groups::groups(catalog),
        "jobs" => node::jobs(catalog),
        PARTITIONS => topics::partitions(catalog),
        "queries" => queries::table(&core.queries),
        "segments" => topics::segments(catalog),
        "settings" => node::settings(catalog),
        "shards" => node::shards(catalog),
        _ => return Ok(None),
    };
    rows.map(Some)
}

/// A table of the schema `information_schema`; `None` if there is none of the name.
///
/// # Errors
/// None but defects.
pub(crate) fn information_table(
    core: &Arc<Core>,
    name: &str,
    running: &Arc<Query>,
) -> Result<Option<Arc<dyn TableProvider>>, Error> {
    let table = match name {
        "tables" => information::tables(&*core.catalog),
        "columns" => {
            let own = own_schemas(core, running)?;
            let columns = move |snapshots: &Snapshots| information::columns(schemas(snapshots), &own);
            OfTopics::table(core, running, "table_name", columns)
        }
        _ => return Ok(None),
    };
    table.map(Some).map_err(from_datafusion)
}

/// The topic of each snapshot, and the schema of its rows.
fn schemas(snapshots: &Snapshots) -> impl Iterator<Item = (&TopicInfo, &Schema)> {
    snapshots.values().map(|rows| (&*rows.snapshot.topic, &*rows.snapshot.schema))
}

/// Schema, name and columns of every table of ours.
fn own_schemas(core: &Arc<Core>, running: &Arc<Query>) -> Result<Vec<(&'static str, &'static str, SchemaRef)>, Error> {
    let mut all = Vec::new();
    let columns = information::columns(std::iter::empty(), &[]).map_err(from_datafusion)?;
    all.push((INFORMATION, "columns", columns.schema()));
    let tables = information::tables(&*core.catalog).map_err(from_datafusion)?;
    all.push((INFORMATION, "tables", tables.schema()));
    let of_topics = [
        ("columns", self::columns(std::iter::empty())),
        (DEAD_LETTERS, dead_letters::table(core, running)),
        ("topics", topics::topics(&*core.catalog).and_then(in_memory)),
    ];
    for (name, table) in of_topics {
        all.push((SYSTEM, name, table.map_err(from_datafusion)?.schema()));
    }
    for name in TABLES {
        all.extend(everywhere::schema(core, name).map_err(from_datafusion)?.map(|schema| (SYSTEM, name, schema)));
    }
    Ok(all)
}

/// Rows with these columns, all of the same length.
fn rows_of(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// A table with these columns, all of the same length.
fn table_of(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    in_memory(rows_of(columns)?)
}

/// A table of these rows.
fn in_memory(rows: RecordBatch) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn optional_texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn optional_small_numbers(values: impl IntoIterator<Item = Option<u32>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<UInt32Array>())
}

fn numbers(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn optional_numbers(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<UInt64Array>())
}

fn small_numbers(values: impl IntoIterator<Item = u32>) -> ArrayRef {
    Arc::new(UInt32Array::from_iter_values(values))
}

fn positions(values: impl IntoIterator<Item = usize>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.into_iter().map(|at| at as i64 + 1)))
}

fn truths(values: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(values.into_iter().map(Some)))
}

fn times(values: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<TimestampNanosecondArray>().with_timezone("UTC"))
}
