//! One leaf of a text query as a function of text columns.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, BooleanBuilder, StringArray};
use arrow::buffer::BooleanBuffer;
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
    pub(crate) const NAME: &'static str = "match_leaf";

    /// `leaf` over `columns`. Without columns nothing matches.
    pub(crate) fn call(leaf: Leaf, columns: Vec<Expr>) -> Expr {
        if columns.is_empty() {
            return datafusion::logical_expr::lit(false);
        }
        Self::function(leaf).call(columns)
    }

    /// The function that looks for `leaf`.
    pub(crate) fn function(leaf: Leaf) -> ScalarUDF {
        let signature = Signature::variadic(vec![DataType::Utf8], Volatility::Immutable);
        ScalarUDF::from(Self { leaf, signature })
    }

    /// What is looked for.
    pub(crate) fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

impl ScalarUDFImpl for MatchLeaf {
    fn name(&self) -> &str {
        Self::NAME
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
    let may = may_match(matcher, columns, rows);
    let mut matches = BooleanBuilder::with_capacity(rows);
    (0..rows).for_each(|row| matches.append_value(may.value(row) && row_matches(matcher, columns, row)));
    matches.finish()
}

/// The rows that may match in at least one of the columns, each of `rows` rows; the others do not. The texts of a column
/// lie back to back and are looked through as one, since they are many and short.
pub(crate) fn may_match(matcher: &LeafMatcher, columns: &[&StringArray], rows: usize) -> BooleanBuffer {
    let mut may = BooleanBufferBuilder::new(rows);
    may.append_n(rows, false);
    columns.iter().for_each(|column| mark(matcher, column, &mut may));
    may.finish()
}

fn mark(matcher: &LeafMatcher, column: &StringArray, may: &mut BooleanBufferBuilder) {
    let ends = &column.value_offsets()[1..];
    let first = column.value_offsets()[0];
    let texts = &column.value_data()[first as usize..][..(column.value_offsets()[column.len()] - first) as usize];
    let mut row = 0;
    let looked_through = matcher.places(texts, |place| {
        row += ends[row..].partition_point(|end| (end - first) as usize <= place);
        may.set_bit(row, true);
    });
    if !looked_through {
        return (0..column.len()).for_each(|row| may.set_bit(row, true));
    }
    if !texts.is_ascii() {
        let others = (0..column.len()).filter(|row| !column.value(*row).is_ascii());
        others.for_each(|row| may.set_bit(row, true));
    }
}

/// Whether one row matches in at least one of the columns.
pub(crate) fn row_matches(matcher: &LeafMatcher, columns: &[&StringArray], row: usize) -> bool {
    columns.iter().any(|column| column.is_valid(row) && matcher.matches(column.value(row)))
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Q2: looking through all rows at once finds what trying each finds.
        #[test]
        fn q2_rows_that_are_left_out_do_not_match(
            texts in prop::collection::vec(prop::option::of("[abAB1.é -]{0,6}"), 0..40),
            skipped in 0..5usize,
            word in "[abAB1.é-]{1,3}",
            kind in 0..3usize,
        ) {
            let leaf = [Leaf::Term, Leaf::Phrase, Leaf::Prefix][kind](word);
            let whole = StringArray::from(texts);
            let column = whole.slice(skipped.min(whole.len()), whole.len() - skipped.min(whole.len()));
            let matcher = LeafMatcher::new(&leaf);
            let found = matches_any(&matcher, &[&column], column.len());
            for row in 0..column.len() {
                prop_assert_eq!(found.value(row), row_matches(&matcher, &[&column], row), "{:?} in row {}", leaf, row);
            }
        }
    }
}
