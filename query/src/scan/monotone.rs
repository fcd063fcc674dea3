//! Which filters may be asked of the ends of a range instead of the values in it.
//!
//! DataFusion's pruning turns `f(column) > x` into `f(max) > x` for every cast and for negation. That is right only where
//! `f` keeps the order: the time of day of the first and the last row of a segment says nothing about those between.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, NegativeExpr, TryCastExpr};

/// Whether all casts and negations in a filter over `schema` keep the order of what they are applied to. What pruning
/// does not know, such as any other function, it leaves alone by itself.
pub(super) fn is_monotone(filter: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    let mut monotone = true;
    let walked = filter.apply(|expr| {
        monotone = node_is_monotone(&**expr, schema)?;
        Ok(if monotone { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    walked.is_ok() && monotone
}

fn node_is_monotone(expr: &dyn PhysicalExpr, schema: &Schema) -> Result<bool> {
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return Ok(cast_is_monotone(&cast.expr().data_type(schema)?, cast.cast_type()));
    }
    if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
        // The lowest integer is its own negative.
        return Ok(negative.arg().data_type(schema)?.is_floating());
    }
    // It makes nulls, of which the counts of nulls know nothing.
    Ok(!expr.is::<TryCastExpr>())
}

/// Whether a cast that does not fail keeps the order; values that become equal do.
fn cast_is_monotone(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Timestamp(_, from), DataType::Timestamp(_, to)) => {
            from.is_some() == to.is_some() || (is_steady(from.as_deref()) && is_steady(to.as_deref()))
        }
        (DataType::Timestamp(_, zone), DataType::Date32 | DataType::Date64) => is_steady(zone.as_deref()),
        (from, to) => (from.is_numeric() && to.is_numeric()) || (from.is_string() && to.is_string()),
    }
}

/// Whether the clocks of a zone are never set back.
fn is_steady(zone: Option<&str>) -> bool {
    zone.is_none_or(|zone| zone == "UTC" || zone.starts_with(['+', '-']))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_cast_that_loses_the_order_is_known() {
        let timestamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
        let utc = || timestamp(TimeUnit::Nanosecond, Some("UTC"));
        let naive = || timestamp(TimeUnit::Nanosecond, None);
        let havana = || timestamp(TimeUnit::Nanosecond, Some("America/Havana"));
        let cases = [
            (DataType::Int64, DataType::Float64, true),
            (DataType::Float64, DataType::Int32, true),
            (DataType::Int64, DataType::Decimal128(10, 2), true),
            (DataType::Int64, DataType::Boolean, false),
            (DataType::Boolean, DataType::Int64, false),
            (DataType::Int64, DataType::Utf8, false),
            (DataType::Utf8, DataType::Int64, false),
            (DataType::Utf8, DataType::Utf8View, true),
            (DataType::Utf8, DataType::Binary, false),
            (DataType::Utf8, DataType::Date32, false),
            (utc(), timestamp(TimeUnit::Second, Some("UTC")), true),
            (utc(), DataType::Date32, true),
            (utc(), DataType::Time64(TimeUnit::Nanosecond), false),
            (utc(), DataType::Time32(TimeUnit::Second), false),
            (utc(), DataType::Int64, false),
            (utc(), naive(), true),
            (utc(), havana(), true),
            (naive(), havana(), false),
            (havana(), naive(), false),
            (havana(), DataType::Date32, false),
        ];
        for (from, to, expected) in cases {
            assert_eq!(cast_is_monotone(&from, &to), expected, "{from} to {to}");
        }
    }
}
