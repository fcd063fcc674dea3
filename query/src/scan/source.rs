//! A scan of one topic as a DataFusion data source.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Result, Statistics, internal_datafusion_err, internal_err};
use datafusion::datasource::source::{DataSource, OpenArgs};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use stratalog_storage::SegmentMeta;

use super::counts::{Counts, Level};
use super::known::{Ends, ends};
use super::log_start::Seen;
use super::prune::{Pruner, SegmentStatistics};
use super::stream::{Reading, granules_of, stream};
use super::work::{Unit, Work};
use super::{Filters, ScanTable};
use crate::catalog::TopicSnapshot;

/// Columns of the rows that fulfil the filters, at most `fetch` rows, in no order.
#[derive(Clone, Debug)]
pub(crate) struct TopicScan {
    pub(crate) table: ScanTable,
    pub(crate) filters: Filters,
    /// Columns of the table.
    pub(crate) projection: Vec<usize>,
    /// `projection` of the table's schema.
    schema: SchemaRef,
    /// Those of the rows that are here; each part elsewhere is one more.
    partitions: usize,
    pub(crate) fetch: Option<usize>,
    pub(crate) counts: Counts,
    metrics: ExecutionPlanMetricsSet,
}

impl TopicScan {
    /// `projection`: columns of the table, all if `None`. `partitions`: how many streams share the work.
    pub(crate) fn new(
        table: ScanTable,
        filters: Filters,
        projection: Option<&Vec<usize>>,
        partitions: usize,
        fetch: Option<usize>,
    ) -> Result<Self> {
        let projection = projection.cloned().unwrap_or_else(|| (0..table.schema.fields().len()).collect());
        let schema = Arc::new(table.schema.project(&projection)?);
        let metrics = ExecutionPlanMetricsSet::new();
        let counts = Counts::new(table.meter.clone(), &metrics);
        Ok(Self { table, filters, projection, schema, partitions: partitions.max(1), fetch, counts, metrics })
    }

    /// The same scan of nothing but what is here.
    pub(crate) fn here(&self) -> Self {
        let table = ScanTable { parts: Vec::new(), ..self.table.clone() };
        Self { table, ..self.clone() }
    }

    /// The work of one execution: the tail, which is newest, then the segments that the manifest does not exclude,
    /// newest first.
    fn work(&self) -> Execution {
        let reading = Reading {
            table: self.table.clone(),
            pruner: Pruner::new(&self.filters),
            filters: self.filters.clone(),
            counts: self.counts.clone(),
            projection: self.projection.clone(),
            schema: self.schema.clone(),
        };
        let shards = || self.table.snapshot.shards.iter().enumerate();
        let tail = shards().flat_map(|(shard, snapshot)| snapshot.tail.iter().rev().map(move |chunk| (shard, chunk)));
        let tail = tail.map(|(shard, chunk)| Unit::Tail { shard, chunk: chunk.clone() });
        let mut segments: Vec<_> = shards()
            .flat_map(|(shard, snapshot)| snapshot.segments.iter().map(move |segment| (shard, segment)))
            .collect();
        segments.sort_by_key(|(_, segment)| std::cmp::Reverse(segment.meta.max_time_ns));
        let keep =
            reading.pruner.keep(&SegmentStatistics(segments.iter().map(|(_, segment)| &*segment.meta).collect()));
        self.count(segments.iter().map(|(_, segment)| &*segment.meta).zip(&keep));
        let kept = segments.into_iter().zip(&keep).filter(|(_, keep)| **keep);
        let kept = kept.map(|((shard, segment), _)| Unit::Segment { shard, segment: segment.clone() });
        Execution { work: Work::new(tail.chain(kept), self.fetch), reading: Arc::new(reading) }
    }

    fn count<'a>(&self, segments: impl Iterator<Item = (&'a SegmentMeta, &'a bool)>) {
        for (meta, kept) in segments {
            let granules = granules_of(meta.rows);
            self.counts.segment(granules);
            if !kept {
                self.counts.segment_pruned(Level::Manifest);
                self.counts.granules_pruned(Level::Manifest, granules);
            }
        }
    }

    fn rows(&self) -> usize {
        let shards = &self.table.snapshot.shards;
        let sealed = shards.iter().flat_map(|shard| &shard.segments).map(|segment| segment.meta.rows as usize);
        let tail = shards.iter().flat_map(|shard| &shard.tail).map(|chunk| chunk.rows.num_rows());
        sealed.chain(tail).chain(self.table.parts.iter().map(|part| part.rows())).sum()
    }

    /// Whether every row that is stored is seen.
    fn sees_every_row(&self) -> bool {
        let parts = || self.table.parts.iter().all(|part| part.opened.exact);
        sees_every_row(&self.table.snapshot) && parts()
    }

    /// The ends of a column over all nodes.
    fn ends(&self, column: &str) -> Ends {
        let parts = self.table.parts.iter().map(|part| part.ends(column));
        parts.fold(ends(&self.table.snapshot, column), Ends::and)
    }

    /// What is exactly true of every column while nothing is filtered: COUNT(*) and the ends of time, partitions and
    /// offsets need no rows.
    fn column_statistics(&self) -> Vec<ColumnStatistics> {
        let statistics = |column: &usize| match self.ends(self.table.schema.field(*column).name()) {
            Ends::Unknown => ColumnStatistics::new_unknown(),
            Ends::NoRows => ColumnStatistics { null_count: Precision::Exact(0), ..ColumnStatistics::new_unknown() },
            Ends::Values(min, max) => ColumnStatistics {
                null_count: Precision::Exact(0),
                min_value: Precision::Exact(min),
                max_value: Precision::Exact(max),
                ..ColumnStatistics::new_unknown()
            },
        };
        self.projection.iter().map(statistics).collect()
    }
}

/// Whether every row that a snapshot has is seen.
pub(crate) fn sees_every_row(snapshot: &TopicSnapshot) -> bool {
    snapshot.shards.iter().all(|shard| Seen::of(shard).is_all())
}

/// One execution of a scan, shared by its partitions.
struct Execution {
    work: Arc<Work>,
    reading: Arc<Reading>,
}

impl DataSource for TopicScan {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        self.open_with_args(OpenArgs::new(partition, context))
    }

    fn create_sibling_state(&self, _: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(self.work()))
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        let state = args.sibling_state.and_then(|state| state.downcast::<Execution>().ok());
        let execution =
            state.ok_or_else(|| internal_datafusion_err!("a topic scan was opened without its siblings"))?;
        if !self.table.parts.is_empty() {
            return internal_err!("a topic scan was opened whose rows are at several nodes");
        }
        let consumer = MemoryConsumer::new(format!("scan of {}", self.table.snapshot.topic.name));
        let memory = consumer.register(args.context.memory_pool());
        let batches = stream(execution.reading.clone(), execution.work.clone(), memory);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shards = &self.table.snapshot.shards;
        let segments: usize = shards.iter().map(|shard| shard.segments.len()).sum();
        let tail: usize = shards.iter().flat_map(|shard| &shard.tail).map(|chunk| chunk.rows.num_rows()).sum();
        let columns: Vec<_> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "topic={}, segments={segments}, tail_rows={tail}", self.table.snapshot.topic.name)?;
        write!(f, ", columns=[{}]", columns.join(", "))?;
        if !self.filters.conjuncts.is_empty() {
            write!(f, ", filter={}", self.filters)?;
        }
        self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions + self.table.parts.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(self.schema.clone())
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let unfiltered = self.filters.conjuncts.is_empty() && self.fetch.is_none() && self.sees_every_row();
        let mut statistics = Statistics::new_unknown(&self.schema);
        match partition {
            None if unfiltered => {
                statistics.num_rows = Precision::Exact(self.rows());
                statistics.column_statistics = self.column_statistics();
            }
            None => statistics.num_rows = Precision::Inexact(self.rows().min(self.fetch.unwrap_or(usize::MAX))),
            Some(_) => {}
        }
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { fetch: limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        // A filter above a limit is not a filter below it.
        if self.fetch.is_some() || filters.is_empty() {
            return Ok(FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]));
        }
        let mut scan = self.clone();
        let results = vec![PushedDown::Yes; filters.len()];
        for filter in filters {
            scan.filters.push(filter)?;
        }
        let scan: Arc<dyn DataSource> = Arc::new(scan);
        Ok(FilterPushdownPropagation::with_parent_pushdown_result(results).with_updated_node(scan))
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
