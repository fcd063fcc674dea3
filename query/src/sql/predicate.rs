//! The condition of a DELETE: kept as text, and evaluated long after its statement, on other nodes too.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, Query, SetExpr, Statement, Value, ValueWithSpan, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use stratalog_proto::{Code, Error};

use super::parse::{Command, parse};

/// The longest text of a predicate, in bytes.
const MAX_PREDICATE_BYTES: usize = 64 << 10;

/// Reads a condition; of what it names nothing is known yet.
///
/// # Errors
/// [`Code::InvalidSql`] for text that is no condition, has a subquery or a parameter, or is too long.
pub(crate) fn parse_predicate(text: &str) -> Result<Expr, Error> {
    if text.len() > MAX_PREDICATE_BYTES {
        return Err(refused(&format!("it has {} bytes, and the most is {MAX_PREDICATE_BYTES}", text.len())));
    }
    // A line of its own: the text may end in a comment.
    let Command::Query(mut statement) = parse(&format!("SELECT 1 WHERE (\n{text}\n)"))? else {
        return Err(refused("it is not one condition"));
    };
    let Some(selection) = selection(&mut statement).and_then(Option::take) else {
        return Err(refused("it is not one condition"));
    };
    // Whatever the text closed and opened again is somewhere else in the statement than in its one condition.
    let Command::Query(empty) = parse("SELECT 1")? else { return Err(refused("it is not one condition")) };
    if *statement != *empty {
        return Err(refused("it is not one condition"));
    }
    let Expr::Nested(predicate) = selection else { return Err(refused("it is not one condition")) };
    check(&predicate)?;
    Ok(*predicate)
}

/// The condition as text from which [`parse_predicate`] makes the same again.
///
/// # Errors
/// [`Code::InvalidSql`] for one that has no such text, or that [`parse_predicate`] refuses.
pub(crate) fn predicate_text(mut predicate: Expr) -> Result<String, Error> {
    let _ = VisitMut::visit(&mut predicate, &mut Plain);
    let mut doubled = predicate.clone();
    let _ = VisitMut::visit(&mut doubled, &mut Doubled);
    let text = doubled.to_string();
    if parse_predicate(&text)? != predicate {
        return Err(refused("it cannot be written down so that it means the same; use simpler names and texts"));
    }
    Ok(text)
}

/// `SELECT _partition, _offset FROM topic WHERE predicate`
///
/// # Errors
/// None but defects.
pub(crate) fn select_positions(topic: &str, predicate: Expr) -> Result<Box<Statement>, Error> {
    let defect = || Error::new(Code::Internal, "a statement of ours has no condition: a defect");
    let Command::Query(mut statement) = parse("SELECT _partition, _offset FROM topic WHERE true")? else {
        return Err(defect());
    };
    let name = ObjectName::from(Ident { value: topic.to_owned(), quote_style: Some('"'), span: Span::empty() });
    let _ = datafusion::sql::sqlparser::ast::visit_relations_mut(&mut *statement, |relation| {
        *relation = name.clone();
        ControlFlow::<()>::Continue(())
    });
    *selection(&mut statement).ok_or_else(defect)? = Some(predicate);
    Ok(statement)
}

/// The condition of a plain SELECT.
fn selection(statement: &mut Statement) -> Option<&mut Option<Expr>> {
    let Statement::Query(query) = statement else { return None };
    match &mut *query.body {
        SetExpr::Select(select) => Some(&mut select.selection),
        _ => None,
    }
}

fn check(predicate: &Expr) -> Result<(), Error> {
    if Visit::visit(predicate, &mut Subqueries).is_break() {
        return Err(refused("it has a subquery, and what a subquery finds may be another thing by then"));
    }
    Ok(())
}

/// Why a condition is none for DELETE.
pub(crate) fn refused(why: &str) -> Error {
    let message = format!(
        "this condition cannot say what to erase: {why}. It has to be true of the same rows whenever it is evaluated"
    );
    Error::new(Code::InvalidSql, message)
}

/// Ends at the first query.
struct Subqueries;

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }
}

/// Writes texts in the one form that has no escapes but the doubled quote.
struct Plain;

impl VisitorMut for Plain {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        let text = match &value.value {
            Value::EscapedStringLiteral(text) | Value::UnicodeStringLiteral(text) => text.clone(),
            Value::DollarQuotedString(text) => text.value.clone(),
            _ => return ControlFlow::Continue(()),
        };
        value.value = Value::SingleQuotedString(text);
        ControlFlow::Continue(())
    }
}

/// Doubles quotes in texts: displaying a text doubles only those that it takes for single ones.
struct Doubled;

impl VisitorMut for Doubled {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        if let Value::SingleQuotedString(text) = &mut value.value {
            *text = text.replace('\'', "''");
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_predicate_is_one_condition_and_nothing_else() {
        for text in ["user = 'x'", "a.b > 5 AND MATCH(message, 'x') -- why", "level IN ('a', 'b') OR NOT ok"] {
            parse_predicate(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in [
            "",
            "true) OR (true",
            "true) GROUP BY (x",
            "true) UNION SELECT (1",
            "true); DELETE FROM t WHERE (true",
            "x IN (SELECT 1)",
            "EXISTS (SELECT 1)",
            "x = (SELECT max(y) FROM t)",
            "x = $1",
            "x = /* open",
        ] {
            assert_eq!(parse_predicate(text).unwrap_err().code, Code::InvalidSql, "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_in_a_predicate_survives_being_written_down(text in "['\"\\\\a $\u{e9}\n-]{0,12}") {
            let value = Value::SingleQuotedString(text).with_empty_span();
            let column = Expr::Identifier(Ident::new("a"));
            let op = datafusion::sql::sqlparser::ast::BinaryOperator::Eq;
            let predicate = Expr::BinaryOp { left: Box::new(column), op, right: Box::new(Expr::Value(value)) };
            let written = predicate_text(predicate.clone()).unwrap();
            prop_assert_eq!(parse_predicate(&written).unwrap(), predicate);
        }
    }
}
