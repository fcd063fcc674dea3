//! One leaf of a text query as a function of text columns.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, BooleanBuilder, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use stratalog_index::{Leaf, LeafMatcher};

/// True for rows where at least one argument, all of them Utf8, has the leaf; never null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MatchLeaf {
    leaf: Leaf,
    signature: Signature,
}

impl MatchLeaf {
    /// `leaf` over `columns`. Without columns nothing matches.
    pub(crate) fn call(leaf: Leaf, columns: Vec<Expr>) -> Expr {
        if columns.is_empty() {
            return datafusion::logical_expr::lit(false);
        }
        let signature = Signature::variadic(vec![DataType::Utf8], Volatility::Immutable);
        Arc::new(ScalarUDF::from(Self { leaf, signature })).call(columns)
    }

    /// What is looked for.
    pub(crate) fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

impl ScalarUDFImpl for MatchLeaf {
    fn name(&self) -> &str {
        "match_leaf"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let columns = args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Ok(match &self.leaf {
            Leaf::Term(text) => format!("match({columns}, {text:?})"),
            Leaf::Phrase(text) => format!("match({columns}, phrase {text:?})"),
            Leaf::Prefix(text) => format!("match({columns}, prefix {text:?})"),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn is_nullable(&self, _: &[Expr], _: &dyn datafusion::common::ExprSchema) -> bool {
        false
    }

    fn is_strict(&self) -> bool {
        false
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let matcher = LeafMatcher::new(&self.leaf);
        let rows = args.number_rows;
        let columns = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut texts = Vec::with_capacity(columns.len());
        for column in &columns {
            let text = column.as_string_opt::<i32>();
            texts.push(text.ok_or_else(|| exec_datafusion_err!("MATCH over {} is a defect", column.data_type()))?);
        }
        Ok(ColumnarValue::Array(Arc::new(matches_any(&matcher, &texts, rows))))
    }
}

/// Which rows match in at least one of the columns, each of `rows` rows.
pub(crate) fn matches_any(matcher: &LeafMatcher, columns: &[&StringArray], rows: usize) -> BooleanArray {
    let mut matches = BooleanBuilder::with_capacity(rows);
    (0..rows).for_each(|row| matches.append_value(row_matches(matcher, columns, row)));
    matches.finish()
}

/// Whether one row matches in at least one of the columns.
pub(crate) fn row_matches(matcher: &LeafMatcher, columns: &[&StringArray], row: usize) -> bool {
    columns.iter().any(|column| column.is_valid(row) && matcher.matches(column.value(row)))
}
