//! The filters of a scan: conjuncts over the table's columns, with text leaves as boolean columns behind them.

use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_common::physical_expr::snapshot_generation;
use stratalog_index::{Leaf, LeafMatcher};

use crate::matching::MatchLeaf;
use crate::schema::names;

/// A text leaf of a filter; the column behind those of the table that says where it matches.
#[derive(Debug)]
pub(crate) struct LeafColumn {
    /// What is looked for.
    pub(crate) leaf: Leaf,
    /// The truth, for one text.
    pub(super) matcher: LeafMatcher,
    /// The columns of the table of which at least one has to match.
    pub(crate) columns: Vec<usize>,
}

impl LeafColumn {
    /// `leaf` in at least one of `columns`, which are columns of text.
    pub(crate) fn new(leaf: Leaf, columns: Vec<usize>) -> Self {
        Self { matcher: LeafMatcher::new(&leaf), leaf, columns }
    }
}

impl fmt::Display for LeafColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.leaf {
            Leaf::Term(text) | Leaf::Phrase(text) => write!(f, "match({text:?})"),
            Leaf::Prefix(text) => write!(f, "match({text:?}*)"),
        }
    }
}

/// Every row of the scan fulfils all of the conjuncts.
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    /// The table's columns, then one boolean column a leaf.
    pub(crate) schema: SchemaRef,
    pub(crate) leaves: Arc<Vec<LeafColumn>>,
    pub(crate) conjuncts: Vec<Conjunct>,
    /// Columns of the table; leaves come after.
    pub(crate) columns: usize,
}

impl Filters {
    /// Compiles logical filters over the columns of `table`.
    ///
    /// # Errors
    /// Those of DataFusion's physical planning.
    pub(crate) fn new(state: &dyn Session, table: &SchemaRef, filters: &[Expr]) -> Result<Self> {
        let mut leaves = Vec::new();
        let extract = |filter: &Expr| extract_leaves(filter.clone(), table, &mut leaves);
        let filters = filters.iter().map(extract).collect::<Result<Vec<_>>>()?;
        let mut this = Self::of_leaves(table, leaves);
        let df_schema = DFSchema::try_from(this.schema.clone())?;
        for filter in filters {
            this.push(state.create_physical_expr(filter, &df_schema)?)?;
        }
        Ok(this)
    }

    /// No conjuncts yet, over the columns of `table` and these leaves.
    pub(crate) fn of_leaves(table: &SchemaRef, leaves: Vec<LeafColumn>) -> Self {
        let fields = table.fields().iter().cloned();
        let virtuals =
            (0..leaves.len()).map(|leaf| Arc::new(Field::new(leaf_name(table, leaf), DataType::Boolean, false)));
        let schema = Arc::new(Schema::new(fields.chain(virtuals).collect::<Vec<_>>()));
        Self { schema, leaves: Arc::new(leaves), conjuncts: Vec::new(), columns: table.fields().len() }
    }

    /// Adds a physical filter over (some of) the table's columns, found by name.
    pub(crate) fn push(&mut self, expr: Arc<dyn PhysicalExpr>) -> Result<()> {
        let expr = reassign_expr_columns(expr, &self.schema)?;
        self.conjuncts.push(Conjunct::new(expr, &self.schema, self.columns)?);
        self.conjuncts.sort_by_key(|conjunct| conjunct.cost);
        Ok(())
    }

    /// The leaf behind a column of [`Filters::schema`], unless it is one of the table's.
    pub(crate) fn leaf_of(&self, column: usize) -> Option<usize> {
        column.checked_sub(self.columns)
    }
}

impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, conjunct) in self.conjuncts.iter().enumerate() {
            let mut text = conjunct.expr.to_string();
            for column in conjunct.columns.iter().filter(|column| **column >= self.columns) {
                let name = format!("{}@{column}", self.schema.field(*column).name());
                text = text.replace(&name, &self.leaves[column - self.columns].to_string());
            }
            write!(f, "{}{text}", if n > 0 { " AND " } else { "" })?;
        }
        Ok(())
    }
}

/// A name that no column of the table has: it is longer than all of theirs.
fn leaf_name(table: &Schema, leaf: usize) -> String {
    let longest = table.fields().iter().map(|field| field.name().as_str()).max_by_key(|name| name.len());
    format!("{}#match{leaf}", longest.unwrap_or_default())
}

/// Replaces leaves over columns of the table by their boolean columns.
fn extract_leaves(filter: Expr, table: &Schema, leaves: &mut Vec<LeafColumn>) -> Result<Expr> {
    let transformed = filter.transform(|expr| {
        let Expr::ScalarFunction(call) = &expr else { return Ok(Transformed::no(expr)) };
        let Some(function) = call.func.inner().downcast_ref::<MatchLeaf>() else { return Ok(Transformed::no(expr)) };
        let column = |arg: &Expr| match arg {
            Expr::Column(column) if column.name != names::RAW => table.index_of(&column.name).ok(),
            _ => None,
        };
        let Some(columns) = call.args.iter().map(column).collect::<Option<Vec<_>>>() else {
            return Ok(Transformed::no(expr));
        };
        let known = leaves.iter().position(|known| known.leaf == *function.leaf() && known.columns == columns);
        let at = known.unwrap_or(leaves.len());
        if known.is_none() {
            let leaf = function.leaf().clone();
            leaves.push(LeafColumn::new(leaf, columns));
        }
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(leaf_name(table, at)))))
    });
    Ok(transformed?.data)
}

/// One conjunct, ready to be evaluated on the columns that it names and no other.
#[derive(Clone, Debug)]
pub(crate) struct Conjunct {
    /// Over [`Filters::schema`].
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// The same over `columns`.
    compact: Arc<dyn PhysicalExpr>,
    schema: SchemaRef,
    /// Columns of [`Filters::schema`], ascending.
    pub(crate) columns: Vec<usize>,
    /// Where the conjunct is nothing but a leaf: the leaf.
    pub(super) leaf: Option<usize>,
    cost: Cost,
}

/// What has to be read to evaluate a conjunct; the cheap ones go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    Columns,
    Text,
    Log,
}

impl Conjunct {
    /// Whether it changes while the query runs. Whoever made it evaluates it, too: it only saves work.
    pub(crate) fn is_dynamic(&self) -> bool {
        snapshot_generation(&self.expr) != 0
    }

    fn new(expr: Arc<dyn PhysicalExpr>, schema: &SchemaRef, table_columns: usize) -> Result<Self> {
        let mut columns: Vec<usize> = collect_columns(&expr).iter().map(expressions::Column::index).collect();
        columns.sort_unstable();
        columns.dedup();
        let compact_schema = Arc::new(schema.project(&columns)?);
        let is_log = |column: &usize| schema.field(*column).name() == names::RAW;
        let cost = match &columns {
            columns if columns.iter().any(is_log) => Cost::Log,
            columns if columns.last().is_some_and(|column| *column >= table_columns) => Cost::Text,
            _ => Cost::Columns,
        };
        let column = expr.downcast_ref::<expressions::Column>();
        Ok(Self {
            compact: reassign_expr_columns(expr.clone(), &compact_schema)?,
            schema: compact_schema,
            leaf: column.and_then(|column| column.index().checked_sub(table_columns)),
            columns,
            cost,
            expr,
        })
    }

    /// The columns as a batch for [`Conjunct::evaluate`].
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// A value for every row of the batch.
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let value = self.compact.evaluate(batch)?;
        if let datafusion::logical_expr::ColumnarValue::Scalar(ScalarValue::Null) = value {
            return Ok(BooleanArray::new_null(batch.num_rows()));
        }
        Ok(value.into_array(batch.num_rows())?.as_boolean().clone())
    }
}
