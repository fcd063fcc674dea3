//! The scan of a part, as it stands in the plan of the node that was asked: it is sent, and never opened here.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::datasource::source::DataSource;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;

use super::part::Part;
use crate::scan::{Counts, Filters, TopicScan};

/// Columns of the rows of a part that fulfil the filters, at most `fetch` rows.
#[derive(Clone, Debug)]
pub(super) struct PartScan {
    pub(super) part: Arc<Part>,
    topic: String,
    /// The columns of the table.
    pub(super) table: SchemaRef,
    pub(super) filters: Filters,
    /// Columns of the table.
    pub(super) projection: Vec<usize>,
    /// `projection` of the table's schema.
    schema: SchemaRef,
    pub(super) fetch: Option<usize>,
    /// Filled in with what the other node counted.
    pub(super) counts: Counts,
    metrics: ExecutionPlanMetricsSet,
}

impl PartScan {
    /// What of `scan` concerns `part`, with these filters and columns.
    ///
    /// # Errors
    /// None but defects.
    pub(super) fn new(scan: &TopicScan, part: &Arc<Part>, filters: Filters, projection: Vec<usize>) -> Result<Self> {
        let table = scan.table.schema.clone();
        let schema = Arc::new(table.project(&projection)?);
        let metrics = ExecutionPlanMetricsSet::new();
        let counts = Counts::new(scan.table.meter.clone(), &metrics);
        // Rows that a filter above takes away do not count for a limit.
        let fetch = scan.fetch.filter(|_| filters.conjuncts.len() == scan.filters.conjuncts.len());
        let topic = scan.table.snapshot.topic.name.clone();
        Ok(Self { part: part.clone(), topic, table, filters, projection, schema, fetch, counts, metrics })
    }
}

impl DataSource for PartScan {
    fn open(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        internal_err!("a scan of rows at node {} was opened here", self.part.node)
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (segments, tail) = (self.part.opened.segments, self.part.opened.tail_rows);
        write!(f, "topic={}, segments={segments}, tail_rows={tail}, columns=[{}]", self.topic, columns.join(", "))?;
        if !self.filters.conjuncts.is_empty() {
            write!(f, ", filter={}", self.filters)?;
        }
        self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(1)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(self.schema.clone())
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema)))
    }

    fn with_fetch(&self, _: Option<usize>) -> Option<Arc<dyn DataSource>> {
        None
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for conjunct in &self.filters.conjuncts {
            if f(&conjunct.expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}
