//! Functions that may take long for few rows: regular expressions. Nobody can end a call before it is done, and meanwhile its
//! thread does nothing for others. So rows are given in portions, and before each it is looked whether the query has ended
//! (X1).

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::Array;
use arrow::compute::concat;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, lit};
use stratalog_proto::{Code, Error};
use tokio::sync::watch;

use crate::guarded::{Guard, has_rows};

/// The functions.
pub(crate) const LENGTHY: [&str; 5] = [LIKE, "regexp_count", "regexp_instr", "regexp_match", "regexp_replace"];
const LIKE: &str = "regexp_like";

/// Rows of the first portion.
const FIRST_ROWS: usize = 32;
/// The next one has so many times its rows if it took no longer than this, but never more than that: rows differ. Each
/// compiles the expression anew.
const GROWS: usize = 4;
const MOST_ROWS: usize = 512;
const QUICK: Duration = Duration::from_millis(5);

/// When a query has to have ended, among the settings of its session.
#[derive(Clone, Debug)]
pub(crate) struct EndOfQuery {
    deadline: Instant,
    killed: watch::Receiver<bool>,
}

impl EndOfQuery {
    /// At the deadline, when it is killed, or when nobody has it any more.
    pub(crate) fn new(deadline: Instant, killed: watch::Receiver<bool>) -> Self {
        Self { deadline, killed }
    }

    /// # Errors
    /// [`Code::QueryDeadline`] or [`Code::Cancelled`], if it has.
    pub(crate) fn check(&self) -> Result<()> {
        let (code, message) = if Instant::now() >= self.deadline {
            (
                Code::QueryDeadline,
                "the query did not finish in time; narrow its time range, or ask with a longer timeout",
            )
        } else if *self.killed.borrow() {
            (Code::Cancelled, "the query was killed")
        } else if self.killed.has_changed().is_err() {
            (Code::Cancelled, "nobody waits for the query any more")
        } else {
            return Ok(());
        };
        Err(DataFusionError::External(Box::new(Error::new(code, message))))
    }
}

impl ConfigExtension for EndOfQuery {
    const PREFIX: &'static str = "end_of_query";
}

impl ExtensionOptions for EndOfQuery {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        Err(DataFusionError::Configuration(format!("{}.{key} cannot be set", Self::PREFIX)))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// Gives rows in portions, as long as the query has not ended.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct InPortions;

impl Guard for InPortions {
    fn invoke(&self, function: &ScalarUDF, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.number_rows <= FIRST_ROWS || !has_rows(&args) {
            return function.invoke_with_args(args);
        }
        let end = args.config_options.extensions.get::<EndOfQuery>();
        let (mut made, mut at, mut rows) = (Vec::new(), 0, FIRST_ROWS);
        while at < args.number_rows {
            end.map_or(Ok(()), EndOfQuery::check)?;
            let begun = Instant::now();
            let portion = rows.min(args.number_rows - at);
            made.push(function.invoke_with_args(slice(&args, at, portion))?.into_array(portion)?);
            at += portion;
            if begun.elapsed() <= QUICK {
                rows = MOST_ROWS.min(GROWS * rows);
            }
        }
        let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&made)?))
    }
}

fn slice(args: &ScalarFunctionArgs, at: usize, rows: usize) -> ScalarFunctionArgs {
    let slice = |arg: &ColumnarValue| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(at, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    };
    ScalarFunctionArgs { args: args.args.iter().map(slice).collect(), number_rows: rows, ..args.clone() }
}

/// Makes functions of the operators for regular expressions, which have no portions.
#[derive(Debug)]
pub(crate) struct RegexRewrite {
    like: Arc<ScalarUDF>,
}

impl RegexRewrite {
    /// `function`: those of a session, by name.
    ///
    /// # Errors
    /// Those of `function`.
    pub(crate) fn new(function: impl Fn(&str) -> Result<Arc<ScalarUDF>>) -> Result<Self> {
        function(LIKE).map(|like| Self { like })
    }
}

impl FunctionRewrite for RegexRewrite {
    fn name(&self) -> &str {
        "regular expressions"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let (is_not, ignores_case) = match &expr {
            Expr::BinaryExpr(BinaryExpr { op: Operator::RegexMatch, .. }) => (false, false),
            Expr::BinaryExpr(BinaryExpr { op: Operator::RegexIMatch, .. }) => (false, true),
            Expr::BinaryExpr(BinaryExpr { op: Operator::RegexNotMatch, .. }) => (true, false),
            Expr::BinaryExpr(BinaryExpr { op: Operator::RegexNotIMatch, .. }) => (true, true),
            _ => return Ok(Transformed::no(expr)),
        };
        let Expr::BinaryExpr(BinaryExpr { left, right, .. }) = expr else { return Ok(Transformed::no(expr)) };
        let flags = ignores_case.then(|| lit("i"));
        let like = self.like.call([*left, *right].into_iter().chain(flags).collect());
        Ok(Transformed::yes(if is_not { !like } else { like }))
    }
}
