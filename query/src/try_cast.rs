//! `TRY_CAST` that the optimizer does not take apart.
//!
//! The optimizer turns `TRY_CAST(wide AS SMALLINT) > 5` into `wide > 5`, which is true of values that no SMALLINT has and
//! for which the cast is null. A cast that always has a value is left to it; any other becomes a function, which it does
//! not look into.

use arrow::compute::CastOptions;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TryCast, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

/// Replaces casts that may have no value.
#[derive(Debug)]
pub(crate) struct TryCastRewrite;

impl FunctionRewrite for TryCastRewrite {
    fn name(&self) -> &str {
        "TRY_CAST"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::TryCast(TryCast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
        if has_every_value(field.data_type(), &inner.get_type(schema)?) {
            return Ok(Transformed::no(expr));
        }
        let function = TryCastFunction::function(field.data_type().clone());
        Ok(Transformed::yes(function.call(vec![Expr::clone(inner)])))
    }
}

/// Gives casts of columns that may have no value the value null instead of an error, those that comparing adds, too.
#[derive(Debug)]
pub(crate) struct NullForError;

impl AnalyzerRule for NullForError {
    fn name(&self) -> &str {
        "null_for_error"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            node.map_expressions(|expr| expr.transform_up(|expr| without_error(expr, &schema)))
        });
        rewritten.map(|rewritten| rewritten.data)
    }
}

fn without_error(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::Cast(Cast { expr: inner, field }) = &expr else { return Ok(Transformed::no(expr)) };
    if !inner.any_column_refs() || has_every_value(field.data_type(), &inner.get_type(schema)?) {
        return Ok(Transformed::no(expr));
    }
    let function = TryCastFunction::function(field.data_type().clone());
    Ok(Transformed::yes(function.call(vec![Expr::clone(inner)])))
}

/// Whether a type has every value of another.
fn has_every_value(to: &DataType, of: &DataType) -> bool {
    use DataType::{Float64, Int8, Int16, Int32, Int64};
    let rank = |data_type: &DataType| [Int8, Int16, Int32, Int64, Float64].iter().position(|each| each == data_type);
    match (rank(of), rank(to)) {
        _ if of == to => true,
        (Some(of), Some(to)) => of <= to,
        _ => false,
    }
}

/// A cast to one type; null where there is no value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TryCastFunction {
    data_type: DataType,
    signature: Signature,
}

impl TryCastFunction {
    pub(crate) const NAME: &'static str = "try_cast";

    /// The function that casts to a type.
    pub(crate) fn function(to: DataType) -> ScalarUDF {
        ScalarUDF::from(Self { data_type: to, signature: Signature::any(1, Volatility::Immutable) })
    }

    /// The type that it casts to.
    pub(crate) fn to(&self) -> &DataType {
        &self.data_type
    }
}

impl ScalarUDFImpl for TryCastFunction {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args = args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok(format!("TRY_CAST({args} AS {})", self.data_type))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = CastOptions { safe: true, ..CastOptions::default() };
        args.args[0].cast_to(&self.data_type, Some(&options))
    }
}
