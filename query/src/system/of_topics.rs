//! Tables about the rows of topics: made of snapshots of those topics that a statement asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::join_all;
use stratalog_proto::{Code, Error};
use tokio::sync::Mutex;

use crate::catalog::TopicInfo;
use crate::core::Core;
use crate::parts::{TopicRows, is_loss};
use crate::query::Query;

/// Snapshots by the names of their topics.
pub(super) type Snapshots = BTreeMap<String, TopicRows>;

/// Makes the table out of snapshots. Its columns do not depend on them.
type Make = dyn Fn(&Snapshots) -> Result<Arc<dyn TableProvider>> + Send + Sync;

/// A table that has, of each topic, rows of its own.
pub(super) struct OfTopics {
    core: Arc<Core>,
    running: Arc<Query>,
    /// The column with the topic's name.
    topic: &'static str,
    schema: SchemaRef,
    make: Box<Make>,
    /// One snapshot of a topic for the whole statement (Q1); `None` where there can be none.
    taken: Mutex<BTreeMap<String, Option<TopicRows>>>,
}

impl OfTopics {
    /// The table that `make` makes of snapshots, with the topics' names in the column `topic`.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn table(
        core: &Arc<Core>,
        running: &Arc<Query>,
        topic: &'static str,
        make: impl Fn(&Snapshots) -> Result<Arc<dyn TableProvider>> + Send + Sync + 'static,
    ) -> Result<Arc<dyn TableProvider>> {
        let schema = make(&Snapshots::new())?.schema();
        let (core, running, make) = (core.clone(), running.clone(), Box::new(make));
        Ok(Arc::new(Self { core, running, topic, schema, make, taken: Mutex::default() }))
    }

    /// The topics that conditions leave; conditions that concern other columns leave all.
    fn asked_for(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<TopicInfo>>> {
        let topics = self.core.catalog.topics();
        let of_topic = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty() && columns.iter().all(|column| column.name == self.topic) && !filter.is_volatile()
        };
        let Some(condition) = conjunction(filters.iter().filter(of_topic).cloned()) else { return Ok(topics) };
        let schema = Arc::new(Schema::new(vec![Field::new(self.topic, DataType::Utf8, true)]));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(topics.iter().map(|topic| &topic.name)));
        let batch = RecordBatch::try_new(schema.clone(), vec![names])?;
        let condition = unqualified(condition)?;
        let condition = state.create_physical_expr(condition, &DFSchema::try_from(schema)?)?;
        let truth = condition.evaluate(&batch)?.into_array(topics.len())?;
        let Some(truth) = truth.as_boolean_opt() else { return Ok(topics) };
        Ok(topics
            .into_iter()
            .zip(truth)
            .filter(|(_, is_true)| *is_true == Some(true))
            .map(|(topic, _)| topic)
            .collect())
    }

    /// Whether the rows are well, only not where they were looked for: without them the table would be short.
    fn is_elsewhere(&self, error: &Error) -> bool {
        is_loss(error) && !self.core.workers.others().is_empty()
    }

    /// Snapshots of these topics but those that cannot be read: one that is damaged takes nothing away from the others.
    ///
    /// # Errors
    /// [`Code::QueryDeadline`].
    async fn snapshots(&self, topics: Vec<Arc<TopicInfo>>) -> Result<Snapshots, Error> {
        let mut taken = self.taken.lock().await;
        let missing: Vec<_> = topics.iter().filter(|topic| !taken.contains_key(&topic.name)).collect();
        let snapshots = missing.iter().map(|topic| self.core.snapshot(topic, &[], &self.running));
        for (topic, snapshot) in missing.iter().zip(join_all(snapshots).await) {
            let snapshot = match snapshot {
                Ok(snapshot) => Some(snapshot),
                Err(error) if error.code == Code::QueryDeadline || self.is_elsewhere(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(topic = topic.name, %error, "left out of a table about all topics");
                    None
                }
            };
            taken.insert(topic.name.clone(), snapshot);
        }
        let of = |topic: &Arc<TopicInfo>| Some((topic.name.clone(), taken.get(&topic.name)?.clone()?));
        Ok(topics.iter().filter_map(of).collect())
    }
}

/// The condition on columns of a table that has no name.
fn unqualified(condition: Expr) -> Result<Expr> {
    let rename = |expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    };
    condition.transform(rename).map(|renamed| renamed.data)
}

impl fmt::Debug for OfTopics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfTopics").field("topic", &self.topic).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for OfTopics {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let topics = self.asked_for(state, filters)?;
        let snapshots = self.snapshots(topics).await.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let filters: Vec<Expr> = filters.iter().cloned().map(unqualified).collect::<Result<_>>()?;
        (self.make)(&snapshots)?.scan(state, projection, &filters, limit).await
    }

    /// They tell which topics are asked for, and are evaluated on the rows again.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}
