//! A search query against columns: what log search and `MATCH` mean.

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, Operator, binary_expr, lit, not};
use stratalog_index::{CompareOp, Leaf, Query};
use stratalog_proto::Error;

use super::leaf::MatchLeaf;
use super::literal::{self, Bounds};
use crate::schema::names;

/// Parses the text of a search query.
///
/// # Errors
/// [`stratalog_proto::Code::InvalidSearch`], with the position in the query.
pub(crate) fn parse_query(text: &str) -> Result<Query, Error> {
    stratalog_index::parse(text).map_err(Error::from)
}

/// Turns queries into expressions over the columns of one place of a plan.
///
/// A field that does not exist, or whose type cannot have the value, matches no row: who searches logs expects nothing
/// found, not an error. No expression under a NOT is ever null, so that `NOT status:500` finds rows without a status, and
/// nor is what stands for `MATCH` in SQL, whatever stands around it there.
#[derive(Debug)]
pub(crate) struct Compiler {
    columns: Vec<(Column, DataType)>,
    /// The column of leaves that name none; else every text column of the users.
    default: Option<Column>,
}

impl Compiler {
    /// Over these columns.
    pub(crate) fn new(columns: Vec<(Column, DataType)>) -> Self {
        Self { columns, default: None }
    }

    /// Leaves that name no field search this text column only.
    pub(crate) fn with_default(self, column: Column) -> Self {
        Self { default: Some(column), ..self }
    }

    /// The rows that match, as a filter: of other rows it is false or null.
    pub(crate) fn compile(&self, query: &Query) -> Expr {
        self.expr(query, false)
    }

    /// Whether a row matches: true or false.
    pub(crate) fn compile_truth(&self, query: &Query) -> Expr {
        self.expr(query, true)
    }

    /// `negated`: perhaps within a NOT, where null and false are no longer the same.
    fn expr(&self, query: &Query, negated: bool) -> Expr {
        match query {
            Query::All => lit(true),
            Query::Leaf { field: None, leaf } => MatchLeaf::call(leaf.clone(), self.default_columns()),
            Query::Leaf { field: Some(field), leaf } => self.over(field, |column, data_type| match data_type {
                DataType::Utf8 => MatchLeaf::call(leaf.clone(), vec![column]),
                _ => known(&column, negated, value_leaf(column.clone(), data_type, leaf)),
            }),
            Query::Compare { field, op, value } => self.over(field, |column, data_type| {
                known(&column, negated, comparison(column.clone(), data_type, *op, value))
            }),
            Query::Exists { field } => self.over(field, |column, _| column.is_not_null()),
            Query::And(members) => self.balanced(members, negated, Operator::And, true),
            Query::Or(members) => self.balanced(members, negated, Operator::Or, false),
            Query::Not(member) => not(self.expr(member, true)),
        }
    }

    /// `predicate` over every column of this name, of which a join may have more than one.
    fn over(&self, field: &str, predicate: impl Fn(Expr, &DataType) -> Expr) -> Expr {
        let columns = self.columns.iter().filter(|(column, _)| column.name == field);
        let matches = columns.map(|(column, data_type)| predicate(Expr::Column(column.clone()), data_type));
        matches.reduce(Expr::or).unwrap_or_else(|| lit(false))
    }

    fn default_columns(&self) -> Vec<Expr> {
        if let Some(column) = &self.default {
            return vec![Expr::Column(column.clone())];
        }
        let text =
            |(column, data_type): &&(Column, DataType)| *data_type == DataType::Utf8 && !names::is_system(&column.name);
        self.columns.iter().filter(text).map(|(column, _)| Expr::Column(column.clone())).collect()
    }

    /// Combines as a balanced tree: a query of many words does not become a deep expression.
    fn balanced(&self, members: &[Query], negated: bool, op: Operator, empty: bool) -> Expr {
        match members {
            [] => lit(empty),
            [member] => self.expr(member, negated),
            members => {
                let (left, right) = members.split_at(members.len() / 2);
                let left = self.balanced(left, negated, op, empty);
                binary_expr(left, op, self.balanced(right, negated, op, empty))
            }
        }
    }
}

/// A predicate that is null where the column is: under a NOT it is false there. Unlike IS TRUE, this is something that
/// segments are pruned by.
fn known(column: &Expr, negated: bool, predicate: Expr) -> Expr {
    if negated { column.clone().is_not_null().and(predicate) } else { predicate }
}

/// `field:word`, `field:"some words"`, `field:pre*` of a column that is not text.
fn value_leaf(column: Expr, data_type: &DataType, leaf: &Leaf) -> Expr {
    match leaf {
        Leaf::Term(text) | Leaf::Phrase(text) => equality(column, data_type, text),
        // `status:5*`: the number as it is written.
        Leaf::Prefix(text) if data_type.is_numeric() => {
            let written = datafusion::logical_expr::cast(column, DataType::Utf8);
            written.like(lit(format!("{}%", text.replace(['%', '_', '\\'], ""))))
        }
        Leaf::Prefix(_) => lit(false),
    }
}

fn equality(column: Expr, data_type: &DataType, text: &str) -> Expr {
    match literal::parse(data_type, text) {
        Some(Bounds { first, last }) if first == last => column.eq(value(first)),
        Some(Bounds { first, last }) => column.clone().gt_eq(value(first)).and(column.lt_eq(value(last))),
        None => lit(false),
    }
}

/// A value that stands for a stretch of time compares by the end that the operator means: `_time:>2026-01-01` begins
/// with the second of January.
fn comparison(column: Expr, data_type: &DataType, op: CompareOp, text: &str) -> Expr {
    let Some(Bounds { first, last }) = literal::parse(data_type, text) else { return lit(false) };
    match op {
        CompareOp::Less => column.lt(value(first)),
        CompareOp::LessOrEqual => column.lt_eq(value(last)),
        CompareOp::Greater => column.gt(value(last)),
        CompareOp::GreaterOrEqual => column.gt_eq(value(first)),
    }
}

fn value(scalar: ScalarValue) -> Expr {
    Expr::Literal(scalar, None)
}
