//! `information_schema`: what other tools ask to find tables and columns.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::common::Result;

use super::columns::{columns_of, is_shown, type_name};
use super::{TABLES, positions, table_of, texts};
use crate::catalog::{Catalog, TopicInfo};
use crate::sql::SYSTEM;

/// The one catalog and, of the topics, the one schema that there is.
const CATALOG: &str = "stratalog";
const TOPICS: &str = "public";

/// One row a topic, and one a table of the node.
pub(super) fn tables(catalog: &dyn Catalog) -> Result<Arc<dyn TableProvider>> {
    let topics = catalog.topics();
    let of_topics = topics.iter().map(|topic| (TOPICS, topic.name.as_str(), "BASE TABLE"));
    let rows: Vec<_> = of_topics.chain(TABLES.map(|table| (SYSTEM, table, "VIEW"))).collect();
    table_of(vec![
        ("table_catalog", texts(rows.iter().map(|_| CATALOG))),
        ("table_schema", texts(rows.iter().map(|row| row.0))),
        ("table_name", texts(rows.iter().map(|row| row.1))),
        ("table_type", texts(rows.iter().map(|row| row.2))),
    ])
}

/// One row a column that `SELECT *` shows of a topic, with `merged` the schema of each topic's rows.
pub(super) fn columns<'a>(topics: impl Iterator<Item = (&'a TopicInfo, &'a Schema)>) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<_> = topics
        .flat_map(|(topic, merged)| {
            columns_of(topic, merged).into_iter().filter(|column| is_shown(&column.field)).enumerate()
        })
        .collect();
    let fields = || rows.iter().map(|(_, column)| &column.field);
    table_of(vec![
        ("table_catalog", texts(rows.iter().map(|_| CATALOG))),
        ("table_schema", texts(rows.iter().map(|_| TOPICS))),
        ("table_name", texts(rows.iter().map(|(_, column)| &column.topic.name))),
        ("column_name", texts(fields().map(|field| field.name()))),
        ("ordinal_position", positions(rows.iter().map(|(at, _)| *at))),
        ("is_nullable", texts(fields().map(|field| if field.is_nullable() { "YES" } else { "NO" }))),
        ("data_type", texts(fields().map(|field| type_name(field.data_type())))),
    ])
}
