//! Which operators run where. Planning sees one scan over all nodes, as if every row were here; at the end this rule takes
//! it apart into the scan here and one at each other node, and moves the operators above it to where the rows are.
//!
//! Only operators that work on each stream of rows by itself can move: what is above them takes many streams anyway, and
//! a stream that comes from another node is one more. So partial aggregates, the first rows of a top-k and filtered and
//! projected rows travel, and the answer is what it is on one node (Q2).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::conjunction;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::codec;
use super::exec::PartExec;
use super::part::Part;
use super::scan::PartScan;
use crate::matching::MatchLeaf;
use crate::scan::{Conjunct, Filters, TopicScan};

/// The rule; it comes last.
#[derive(Debug)]
pub(crate) struct SplitByNode;

impl PhysicalOptimizerRule for SplitByNode {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        distribute(plan, config)
    }

    fn name(&self) -> &str {
        "SplitByNode"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn distribute(plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(legs) = split(&plan, config)? {
        return UnionExec::try_new(legs);
    }
    let children = plan.children().into_iter().cloned();
    let children = children.map(|child| distribute(child, config)).collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(plan, children)
}

/// The same rows as streams of each node, those that are here first; `None` if they are all here.
fn split(plan: &Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Option<Vec<Arc<dyn ExecutionPlan>>>> {
    if let Some(scan) = topic_scan(plan) {
        return if scan.table.parts.is_empty() { Ok(None) } else { split_scan(scan, config).map(Some) };
    }
    let children = plan.children();
    let ([child], true) = (&children[..], works_by_stream(plan)) else { return Ok(None) };
    let Some(legs) = split(child, config)? else { return Ok(None) };
    legs.into_iter().map(|leg| above(plan, leg)).collect::<Result<_>>().map(Some)
}

fn topic_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&TopicScan> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<TopicScan>()
}

/// Whether an operator treats each of its input's streams by itself.
fn works_by_stream(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<LocalLimitExec>()
        || plan.downcast_ref::<SortExec>().is_some_and(SortExec::preserve_partitioning)
        || plan.downcast_ref::<AggregateExec>().is_some_and(|aggregate| *aggregate.mode() == AggregateMode::Partial)
}

/// An operator above a leg: at the other node if it can be sent there.
fn above(operator: &Arc<dyn ExecutionPlan>, leg: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(part) = leg.downcast_ref::<PartExec>() else {
        return replace_children_if_necessary(operator.clone(), vec![leg]);
    };
    if operator.is::<CooperativeExec>() {
        // Waiting for the network lets others run.
        return Ok(leg);
    }
    let there = replace_children_if_necessary(operator.clone(), vec![part.plan.clone()])?;
    if codec::can_be_sent(&there) {
        return Ok(Arc::new(PartExec::new(part.scan.clone(), there)));
    }
    replace_children_if_necessary(operator.clone(), vec![leg])
}

fn split_scan(scan: &TopicScan, config: &ConfigOptions) -> Result<Vec<Arc<dyn ExecutionPlan>>> {
    let mut legs: Vec<Arc<dyn ExecutionPlan>> = vec![DataSourceExec::from_data_source(scan.here())];
    for part in &scan.table.parts {
        legs.push(part_of(scan, part, config)?);
    }
    Ok(legs)
}

/// The scan of a part. Filters that cannot be sent are evaluated here, on the columns that they need.
fn part_of(scan: &TopicScan, part: &Arc<Part>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
    let travels = |conjunct: &Conjunct| codec::expression_can_be_sent(&conjunct.expr);
    let (sent, kept): (Vec<_>, Vec<_>) = scan.filters.conjuncts.iter().cloned().partition(travels);
    let filters = Filters { conjuncts: sent, ..scan.filters.clone() };
    // What only saves work is left out there, and needs no second look here.
    let kept: Vec<_> = kept.iter().filter(|conjunct| !conjunct.is_dynamic()).collect();
    let kept = kept.into_iter().map(|conjunct| without_leaves(&conjunct.expr, &scan.filters, config));
    let kept = kept.collect::<Result<Vec<_>>>()?;
    let mut projection = scan.projection.clone();
    let needed = kept.iter().flat_map(collect_columns).map(|column| column.index());
    let mut needed: Vec<usize> = needed.filter(|column| !scan.projection.contains(column)).collect();
    needed.sort_unstable();
    needed.dedup();
    projection.extend(needed);
    let rows = PartScan::new(scan, part, filters, projection)?;
    let plan = DataSourceExec::from_data_source(rows.clone());
    let rows: Arc<dyn ExecutionPlan> = Arc::new(PartExec::new(rows, plan));
    if kept.is_empty() {
        return Ok(rows);
    }
    let condition = reassign_expr_columns(conjunction(kept), &rows.schema())?;
    let shown = (0..scan.projection.len()).collect();
    Ok(Arc::new(FilterExecBuilder::new(condition, rows).apply_projection(Some(shown))?.build()?))
}

/// A filter of a scan over the columns of its table alone: leaves look at the text.
fn without_leaves(
    filter: &Arc<dyn PhysicalExpr>,
    filters: &Filters,
    config: &ConfigOptions,
) -> Result<Arc<dyn PhysicalExpr>> {
    let config = Arc::new(config.clone());
    let replaced = filter.clone().transform(|expr| {
        let leaf = expr.downcast_ref::<Column>().and_then(|column| filters.leaf_of(column.index()));
        let Some(leaf) = leaf else { return Ok(Transformed::no(expr)) };
        let leaf = &filters.leaves[leaf];
        let column = |column: &usize| {
            Arc::new(Column::new(filters.schema.field(*column).name(), *column)) as Arc<dyn PhysicalExpr>
        };
        let columns = leaf.columns.iter().map(column).collect();
        let function = Arc::new(MatchLeaf::function(leaf.leaf.clone()));
        let call = ScalarFunctionExpr::try_new(function, columns, &filters.schema, config.clone())?;
        Ok(Transformed::yes(Arc::new(call) as Arc<dyn PhysicalExpr>))
    });
    Ok(replaced?.data)
}
