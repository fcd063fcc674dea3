//! Values for `$1`, `$2`, … of a statement. They are put into the parsed statement, never into its text.

use std::ops::ControlFlow;

use chrono::DateTime;
use datafusion::sql::sqlparser::ast::{Expr, Statement, UnaryOperator, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use stratalog_proto::{Code, Error};

/// The most parameters of a statement.
const MAX_PARAMETERS: usize = 1_000;
/// The most bytes of text in all parameters of a statement.
const MAX_TEXT_BYTES: usize = 1 << 20;
/// The most bytes of text that they put into a statement: each place that names a parameter gets a copy of it.
const MAX_BOUND_BYTES: usize = 2 << 20;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    /// No value.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A 64-bit integer.
    Bigint(i64),
    /// A 64-bit float.
    Double(f64),
    /// UTF-8.
    Text(String),
    /// Nanoseconds since the epoch, UTC.
    Timestamp(i64),
}

/// Puts the parameters into a statement.
///
/// # Errors
/// [`Code::InvalidSql`] if there are fewer or more of them than the statement names, too many, or too much text (X1).
pub(crate) fn bind(statement: &mut Statement, parameters: &[Parameter]) -> Result<(), Error> {
    if parameters.len() > MAX_PARAMETERS {
        let message = format!("{} parameters are more than {MAX_PARAMETERS}", parameters.len());
        return Err(Error::new(Code::InvalidSql, message));
    }
    let text = |parameter: &Parameter| if let Parameter::Text(text) = parameter { text.len() } else { 0 };
    let bytes: usize = parameters.iter().map(text).sum();
    if bytes > MAX_TEXT_BYTES {
        let message = format!("the parameters have {bytes} bytes of text; the most is {MAX_TEXT_BYTES}");
        return Err(Error::new(Code::InvalidSql, message));
    }
    let values = parameters.iter().map(literal).collect::<Result<_, _>>()?;
    let texts = parameters.iter().map(text).collect();
    let mut binder = Binder { values, texts, named: 0, bound_bytes: 0 };
    if let ControlFlow::Break(error) = VisitMut::visit(statement, &mut binder) {
        return Err(error);
    }
    if binder.named < parameters.len() {
        let message = format!(
            "the statement names parameters up to ${}, and {} were sent; leave out those that it does not name",
            binder.named,
            parameters.len()
        );
        return Err(Error::new(Code::InvalidSql, message));
    }
    Ok(())
}

/// The value as the parser would have read it.
fn literal(parameter: &Parameter) -> Result<Expr, Error> {
    let value = |value: Value| Expr::Value(value.with_empty_span());
    let number = |text: String| value(Value::Number(text, false));
    let negative = |text: String| {
        let expr = Box::new(number(text));
        Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr }))
    };
    Ok(match parameter {
        Parameter::Null => value(Value::Null),
        Parameter::Boolean(truth) => value(Value::Boolean(*truth)),
        Parameter::Text(text) => value(Value::SingleQuotedString(text.clone())),
        Parameter::Bigint(i64::MIN) => cast(&i64::MIN.to_string(), "BIGINT")?,
        Parameter::Bigint(integer) if *integer < 0 => negative(integer.unsigned_abs().to_string()),
        Parameter::Bigint(integer) => number(integer.to_string()),
        // A number with few digits would be read as a decimal or an integer by some; text is a double in every case.
        Parameter::Double(float) => cast(&format!("{float:?}"), "DOUBLE PRECISION")?,
        Parameter::Timestamp(ns) => {
            let time = DateTime::from_timestamp_nanos(*ns).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
            cast(&time, "TIMESTAMP WITH TIME ZONE")?
        }
    })
}

/// A text of ours, which has no quotes, as another type.
fn cast(text: &str, data_type: &str) -> Result<Expr, Error> {
    let sql = format!("CAST('{text}' AS {data_type})");
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql).and_then(|mut parser| parser.parse_expr());
    parsed.map_err(|error| Error::new(Code::Internal, format!("a parameter is no literal: {error}")))
}

struct Binder {
    values: Vec<Expr>,
    /// Bytes of text of each value.
    texts: Vec<usize>,
    /// The highest number that the statement names.
    named: usize,
    /// Bytes of text of all values that were put in.
    bound_bytes: usize,
}

impl Binder {
    fn value(&mut self, name: &str) -> Result<Expr, Error> {
        let number = name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let Some(number) = number.filter(|number| *number > 0) else {
            let message = format!("`{name}` is not a parameter; write $1, $2 and so on");
            return Err(Error::new(Code::InvalidSql, message));
        };
        self.named = self.named.max(number);
        let Some(value) = self.values.get(number - 1) else {
            let message = format!("the statement names {name}, and {} parameters were sent", self.values.len());
            return Err(Error::new(Code::InvalidSql, message));
        };
        self.bound_bytes += self.texts[number - 1];
        if self.bound_bytes > MAX_BOUND_BYTES {
            let message = format!(
                "the statement names its parameters so often that they put more than {MAX_BOUND_BYTES} bytes of text into \
                 it; name {name} once, in a subquery or WITH"
            );
            return Err(Error::new(Code::InvalidSql, message));
        }
        Ok(value.clone())
    }
}

impl VisitorMut for Binder {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
        {
            match self.value(name) {
                Ok(bound) => *expr = bound,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}
