//! Joins end with their query (X1). One that compares all rows with all, and finds few, gives nothing and hears nothing for hours: so it
//! is looked whether the query has ended whenever its condition is evaluated, and after some batches others have their turn.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, HashJoinExecBuilder, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::lengthy::EndOfQuery;

/// The rule. Joins run where their query was asked, so that no other node has to know what it makes.
#[derive(Debug)]
pub(crate) struct EndJoins;

impl PhysicalOptimizerRule for EndJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(end) = config.extensions.get::<EndOfQuery>() else { return Ok(plan) };
        plan.transform_up(|plan| ending(plan, end)).data()
    }

    fn name(&self) -> &str {
        "EndJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn ending(plan: Arc<dyn ExecutionPlan>, end: &EndOfQuery) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let join: Arc<dyn ExecutionPlan> = if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        let filter = join.filter().map(|filter| watched(filter, end));
        Arc::new(NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?)
    } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let filter = join.filter().map(|filter| watched(filter, end));
        Arc::new(HashJoinExecBuilder::from(join).with_filter(filter).build()?)
    } else if plan.is::<CrossJoinExec>() || plan.is::<SortMergeJoinExec>() {
        plan
    } else {
        return Ok(Transformed::no(plan));
    };
    Ok(Transformed::yes(Arc::new(CooperativeExec::new(join))))
}

fn watched(filter: &JoinFilter, end: &EndOfQuery) -> JoinFilter {
    let condition = Watched { condition: Arc::clone(filter.expression()), end: end.clone() };
    JoinFilter::new(Arc::new(condition), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// A condition that is an error once the query has ended.
#[derive(Debug)]
struct Watched {
    condition: Arc<dyn PhysicalExpr>,
    end: EndOfQuery,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.condition.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.condition.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        self.end.check()?;
        self.condition.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children.pop().unwrap_or_else(|| Arc::clone(&self.condition));
        Ok(Arc::new(Self { condition, end: self.end.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}
