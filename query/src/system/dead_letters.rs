//! `system.dead_letters`: the records of all topics that became no proper row, with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::common::{Column, DataFusionError, Result};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::snapshots;
use crate::catalog::TopicSnapshot;
use crate::core::Core;
use crate::query::Query;
use crate::schema::{SHOWN, names, system_fields};
use crate::table::TopicTable;

/// Its columns in the order of [`SHOWN`], behind the topic and before the reason.
const COLUMNS: [&str; 3] = ["_time", "partition", "offset"];

/// One row a dead letter. Of topics, and of segments, that have none nothing is read.
pub(super) async fn table(core: &Core, running: &Query) -> Result<Arc<dyn TableProvider>> {
    let snapshots = snapshots(core, running).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
    let mut all: Option<LogicalPlanBuilder> = None;
    for (name, snapshot) in with_dead_rows(snapshots) {
        let (meter, indexes) = (running.meter.clone(), core.indexes.clone());
        let table = TopicTable::new(snapshot, meter, indexes, |column| column == names::DEAD);
        let plan = of_topic(&name, table)?;
        all = Some(match all {
            None => LogicalPlanBuilder::from(plan),
            Some(others) => others.union(plan)?,
        });
    }
    match all {
        Some(all) => Ok(Arc::new(ViewTable::new(all.build()?, None))),
        None => none(),
    }
}

fn with_dead_rows(
    snapshots: BTreeMap<String, Arc<TopicSnapshot>>,
) -> impl Iterator<Item = (String, Arc<TopicSnapshot>)> {
    snapshots.into_iter().filter(|(_, snapshot)| {
        let mut segments = snapshot.shards.iter().flat_map(|shard| &shard.segments);
        let mut chunks = snapshot.shards.iter().flat_map(|shard| &shard.tail);
        let has_reason = |column: &Arc<dyn Array>| column.null_count() < column.len();
        segments.any(|segment| segment.meta.dead_rows > 0)
            || chunks.any(|chunk| chunk.rows.column_by_name(names::DEAD).is_some_and(has_reason))
    })
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
