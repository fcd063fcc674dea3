//! `information_schema`: what other tools ask to find tables and columns.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::Result;

use super::columns::{columns_of, is_shown, type_name};
use super::{INFORMATION_TABLES, TABLES, positions, table_of, texts};
use crate::catalog::{Catalog, TopicInfo};
use crate::sql::{CATALOG, INFORMATION, PUBLIC, SYSTEM};

/// One row a topic, and one a table of the node.
pub(super) fn tables(catalog: &dyn Catalog) -> Result<Arc<dyn TableProvider>> {
    let topics = catalog.topics();
    let of_topics = topics.iter().map(|topic| (PUBLIC, topic.name.as_str(), "BASE TABLE"));
    let of_node = TABLES.map(|table| (SYSTEM, table, "VIEW"));
    let of_standard = INFORMATION_TABLES.map(|table| (INFORMATION, table, "VIEW"));
    let rows: Vec<_> = of_topics.chain(of_node).chain(of_standard).collect();
    table_of(vec![
        ("table_catalog", texts(rows.iter().map(|_| CATALOG))),
        ("table_schema", texts(rows.iter().map(|row| row.0))),
        ("table_name", texts(rows.iter().map(|row| row.1))),
        ("table_type", texts(rows.iter().map(|row| row.2))),
    ])
}

/// One row a column that `SELECT *` shows: of each topic, with `merged` the schema of its rows, and of the tables of ours.
pub(super) fn columns<'a>(
    topics: impl Iterator<Item = (&'a TopicInfo, &'a Schema)>,
    own: &'a [(&'static str, &'static str, SchemaRef)],
) -> Result<Arc<dyn TableProvider>> {
    let of_topics = topics.flat_map(|(topic, merged)| {
        let shown = columns_of(topic, merged).into_iter().filter(|column| is_shown(&column.field));
        shown.enumerate().map(|(at, column)| {
            let nullable = column.field.is_nullable() && !column.is_required();
            Row { schema: PUBLIC, table: &topic.name, at, nullable, field: column.field }
        })
    });
    let of_ours = own.iter().flat_map(|(schema, table, columns)| {
        let fields = columns.fields().iter().cloned().enumerate();
        fields.map(|(at, field)| Row { schema, table, at, nullable: field.is_nullable(), field })
    });
    let rows: Vec<Row<'_>> = of_topics.chain(of_ours).collect();
    table_of(vec![
        ("table_catalog", texts(rows.iter().map(|_| CATALOG))),
        ("table_schema", texts(rows.iter().map(|row| row.schema))),
        ("table_name", texts(rows.iter().map(|row| row.table))),
        ("column_name", texts(rows.iter().map(|row| row.field.name()))),
        ("ordinal_position", positions(rows.iter().map(|row| row.at))),
        ("is_nullable", texts(rows.iter().map(|row| if row.nullable { "YES" } else { "NO" }))),
        ("data_type", texts(rows.iter().map(|row| type_name(row.field.data_type())))),
    ])
}

struct Row<'a> {
    schema: &'static str,
    table: &'a str,
    /// Its place among the columns of the table, from 0.
    at: usize,
    nullable: bool,
    field: Arc<Field>,
}
