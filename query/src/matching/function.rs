//! `MATCH(column, 'query')` and `MATCH('query')` in SQL.

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, DFSchema, DataFusionError, Diagnostic, ExprSchema, Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility, lit};

use super::compile::{Compiler, parse_query};
use crate::schema::names;

const USAGE: &str = "write MATCH(column, 'query'), or MATCH('query') for every text column";

/// The function as the SQL planner sees it. [`MatchRewrite`] replaces every call, so that it is never evaluated.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatchFunction {
    signature: Signature,
}

impl MatchFunction {
    pub(crate) const NAME: &'static str = "match";

    pub(crate) fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for MatchFunction {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn is_strict(&self) -> bool {
        false
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        plan_err!("MATCH cannot be used here: it searches columns of a topic")
    }
}

/// Replaces calls of [`MatchFunction`] by what the query text means over the columns at that place of the plan.
#[derive(Debug)]
pub(crate) struct MatchRewrite;

impl FunctionRewrite for MatchRewrite {
    fn name(&self) -> &str {
        "MATCH"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(call) if call.func.inner().is::<MatchFunction>() => {
                Ok(Transformed::yes(expand(&call.args, schema)?))
            }
            expr => Ok(Transformed::no(expr)),
        }
    }
}

fn expand(args: &[Expr], schema: &DFSchema) -> Result<Expr> {
    let (column, text) = match args {
        [text] => (None, text),
        [Expr::Column(column), text] => (Some(column), text),
        [_, _] => return plan_err!("the first argument of MATCH is the name of a text column; {USAGE}"),
        _ => return plan_err!("MATCH takes one or two arguments, not {}; {USAGE}", args.len()),
    };
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = text else {
        return plan_err!("the query of MATCH is a text in single quotes; {USAGE}");
    };
    let query = parse_query(text).map_err(|error| {
        let at = column.and_then(|column| column.spans().first());
        let diagnostic = Diagnostic::new_error(error.message.clone(), at);
        DataFusionError::External(Box::new(error)).with_diagnostic(diagnostic)
    })?;
    let compiler = Compiler::new(columns_of(schema));
    match column {
        None => Ok(compiler.compile_truth(&query)),
        Some(column) => {
            let data_type = schema.field_from_column(column)?.data_type().clone();
            if data_type == DataType::Null {
                return Ok(lit(false));
            }
            if data_type != DataType::Utf8 {
                return plan_err!(
                    "MATCH searches text, and column `{}` is {data_type}; compare it with = or <",
                    column.name
                );
            }
            Ok(compiler.with_default(column.clone()).compile_truth(&query))
        }
    }
}

/// The columns at a place of the plan, qualified, with their types.
fn columns_of(schema: &DFSchema) -> Vec<(Column, DataType)> {
    let fields = schema.iter().filter(|(_, field)| field.name() != names::RAW);
    fields
        .map(|(qualifier, field)| (Column::new(qualifier.cloned(), field.name()), field.data_type().clone()))
        .collect()
}
