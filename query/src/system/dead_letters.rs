//! `system.dead_letters`: the records of all topics that became no proper row, with the reason.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::{Column, Result};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union, lit};

use super::of_topics::OfTopics;
use crate::catalog::TopicSnapshot;
use crate::core::Core;
use crate::parts::TopicRows;
use crate::query::Query;
use crate::schema::{SHOWN, names, system_fields};
use crate::table::TopicTable;

/// Its columns in the order of [`SHOWN`], behind the topic and before the reason.
const COLUMNS: [&str; 3] = ["_time", "partition", "offset"];

/// One row a dead letter. Of topics, and of segments, that have none nothing is read.
pub(super) fn table(core: &Arc<Core>, running: &Arc<Query>) -> Result<Arc<dyn TableProvider>> {
    let (meter, indexes) = (running.meter.clone(), core.indexes.clone());
    OfTopics::table(core, running, "topic", move |snapshots| {
        let of_topic = |(name, rows): (&String, &TopicRows)| {
            let hidden = |column: &str| column == names::DEAD;
            let table = TopicTable::new(rows.clone(), meter.clone(), indexes.clone(), hidden);
            Ok(Arc::new(of_topic(name, table)?))
        };
        let topics = snapshots.iter().filter(|(_, rows)| rows.have_dead_letters()).map(of_topic);
        match topics.collect::<Result<Vec<_>>>()?.as_slice() {
            [] => none(),
            [only] => Ok(Arc::new(ViewTable::new(LogicalPlan::clone(only), None))),
            // One union of all: thousands that nest would overflow the stack of the planner (X1).
            all => Ok(Arc::new(ViewTable::new(LogicalPlan::Union(Union::try_new(all.to_vec())?), None))),
        }
    })
}

/// Whether a row of a snapshot may be a dead letter.
pub(crate) fn may_have_dead_rows(snapshot: &TopicSnapshot) -> bool {
    let mut segments = snapshot.shards.iter().flat_map(|shard| &shard.segments);
    let mut chunks = snapshot.shards.iter().flat_map(|shard| &shard.tail);
    let has_reason = |column: &Arc<dyn Array>| column.null_count() < column.len();
    segments.any(|segment| segment.meta.dead_rows > 0)
        || chunks.any(|chunk| chunk.rows.column_by_name(names::DEAD).is_some_and(has_reason))
}

fn of_topic(name: &str, table: TopicTable) -> Result<LogicalPlan> {
    let column = |name: &str| Expr::Column(Column::new_unqualified(name));
    let place = SHOWN.iter().zip(COLUMNS).map(|(stored, shown)| column(stored).alias(shown));
    let columns = [lit(name).alias("topic")].into_iter().chain(place).chain([column(names::DEAD).alias("reason")]);
    LogicalPlanBuilder::scan("topic", provider_as_source(Arc::new(table)), None)?
        .filter(column(names::DEAD).is_not_null())?
        .project(columns.collect::<Vec<_>>())?
        .build()
}

/// The table where no topic has a dead letter.
fn none() -> Result<Arc<dyn TableProvider>> {
    let known = system_fields();
    let type_of = |name: &str| known.iter().find(|field| field.name() == name).map(|field| field.data_type().clone());
    let place = SHOWN.iter().zip(COLUMNS);
    let place = place.filter_map(|(stored, shown)| Some(Field::new(shown, type_of(stored)?, true)));
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let fields = [text("topic")].into_iter().chain(place).chain([text("reason")]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(Arc::new(MemTable::try_new(schema.clone(), vec![vec![RecordBatch::new_empty(schema)]])?))
}
