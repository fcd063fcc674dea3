//! A plan that runs at another node, as an operator of the plan here.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::source::DataSource;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, displayable};
use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::{Code, Error, internal};

use super::codec::{self, Moment};
use super::gather::is_loss;
use super::ipc::{self, Decoder};
use super::part::Part;
use super::scan::PartScan;
use super::workers::PartBytes;
use crate::scan::{Counts, external};

/// Sends a plan to the node that has a part, and gives its rows. The plan is not among its children: no rule shall look
/// into it once it was found that it can be sent.
#[derive(Debug)]
pub(super) struct PartExec {
    /// The scan of what runs there.
    pub(super) scan: PartScan,
    /// What runs there.
    pub(super) plan: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PartExec {
    /// `plan` above `scan`.
    pub(super) fn new(scan: PartScan, plan: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            plan.properties().equivalence_properties().clone(),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { scan, plan, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The operators of the plan, the last one first.
    fn shown_plan(&self) -> String {
        let below = |plan: &Arc<dyn ExecutionPlan>| plan.children().first().map(|child| Arc::clone(child));
        let operators = std::iter::successors(Some(self.plan.clone()), below);
        let shown = operators.map(|operator| displayable(&*operator).one_line().to_string().trim_end().to_owned());
        shown.collect::<Vec<_>>().join(" <- ")
    }
}

impl DisplayAs for PartExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = &self.scan.part;
        write!(f, "PartExec: node={}, shards=[{}], plan=[{}]", part.node, part.shown_shards(), self.shown_plan())
    }
}

impl ExecutionPlan for PartExec {
    fn name(&self) -> &'static str {
        "PartExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        let mut metrics = self.metrics.clone_inner();
        self.scan.metrics().clone_inner().iter().for_each(|metric| metrics.push(metric.clone()));
        Some(metrics)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return internal_err!("a part has one stream, not {partition}");
        }
        let part = &self.scan.part;
        let consumer = MemoryConsumer::new(format!("rows of node {}", part.node));
        let arriving = Arriving {
            part: part.clone(),
            counts: self.scan.counts.clone(),
            decoder: Decoder::new(self.schema()),
            memory: consumer.register(context.memory_pool()),
            rows_received: MetricBuilder::new(&self.metrics).counter("rows_received", partition),
            bytes_received: MetricBuilder::new(&self.metrics).counter("bytes_received", partition),
            frames: None,
            ready: Vec::new(),
            has_ended: false,
        };
        // It is written when its first row is asked for: what subqueries gave, and what joins and top-ks exclude, is known
        // by then, and goes with it.
        let plan = self.plan.clone();
        let batches = stream::try_unfold(arriving, move |mut arriving| {
            let plan = plan.clone();
            async move { Ok(arriving.next(&plan).await?.map(|batch| (batch, arriving))) }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// The rows of a part on their way.
struct Arriving {
    part: Arc<Part>,
    counts: Counts,
    decoder: Decoder,
    /// Of the rows that arrived and were not taken yet.
    memory: MemoryReservation,
    rows_received: Count,
    bytes_received: Count,
    /// `None` before the plan was sent.
    frames: Option<BoxStream<'static, Result<PartBytes, Error>>>,
    /// Batches of the last frame, in reverse.
    ready: Vec<RecordBatch>,
    has_ended: bool,
}

impl Arriving {
    async fn next(&mut self, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop() {
                self.rows_received.add(batch.num_rows());
                return Ok(Some(batch));
            }
            self.memory.free();
            if self.has_ended {
                return Ok(None);
            }
            let frame = match &mut self.frames {
                Some(frames) => frames.next().await,
                None => {
                    let mut frames = self.send(plan)?;
                    let first = frames.next().await;
                    self.frames = Some(frames);
                    first
                }
            };
            let Some(frame) = frame else { return Err(self.lost(&ended())) };
            let PartBytes { frame, body } = frame.map_err(|error| self.lost(&error))?;
            if let Some(end) = frame.end {
                self.counts.add(&end);
                self.has_ended = true;
            }
            self.bytes_received.add(body.len());
            // Batches are slices of what arrived, and keep all of it; what was compressed, or is of other width, is beside it.
            let arrived = body.len();
            self.memory.try_resize(arrived)?;
            self.ready = self.decoder.batches(body)?;
            self.ready.reverse();
            self.memory.try_resize(arrived.max(self.ready.iter().map(ipc::bytes).sum()))?;
        }
    }

    fn send(&self, plan: &Arc<dyn ExecutionPlan>) -> Result<BoxStream<'static, Result<PartBytes, Error>>> {
        let plan = codec::encode(plan, Moment::Running)?;
        let plan = internal::PartPlan { part: self.part.opened.part, plan: plan.into() };
        let request = internal::RunPart { what: Some(internal::run_part::What::Plan(plan)) };
        let left = self.part.query.deadline().saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        Ok(self.part.workers.run(self.part.node, request, left))
    }

    /// What went wrong at the node. If that may go well elsewhere the query is told.
    fn lost(&self, error: &Error) -> DataFusionError {
        if !is_loss(error) {
            return external(error.clone());
        }
        self.part.query.lost_a_part();
        let (node, shards) = (self.part.node, self.part.shown_shards());
        let message = format!("{}; it was asked for rows of shards {shards} at node {node}", error.message);
        external(Error::new(error.code, message))
    }
}

/// A stream that closes without an end: whatever came is not all.
fn ended() -> Error {
    Error::new(Code::Unavailable, "the answer broke off")
}
