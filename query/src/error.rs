//! DataFusion's errors as ours: a code, and a sentence that points at the place.

use std::error::Error as StdError;
use std::io;

use arrow::error::ArrowError;
use datafusion::common::{Column, Diagnostic, SchemaError, Span};
use datafusion::error::DataFusionError;
use stratalog_proto::{Code, Error};

/// The nearest of `known` to what was written, if one is near enough to have been meant.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if written.len() > 256 {
        return None;
    }
    let distance = |name: &'a str| (strsim::damerau_levenshtein(&written.to_lowercase(), &name.to_lowercase()), name);
    let (distance, name) = known.into_iter().take(10_000).map(distance).min()?;
    (distance <= written.chars().count().div_ceil(3)).then_some(name)
}

/// `line 1, column 8: `
pub(crate) fn place((line, column): (u64, u64)) -> String {
    if line == 0 { String::new() } else { format!("line {line}, column {column}: ") }
}

/// What went wrong, for the user who wrote the statement.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    let mut span = None;
    let root = innermost(&error, &mut span);
    let at = span.map(|span| place((span.start.line, span.start.column))).unwrap_or_default();
    if let Some(ours) = ours(root) {
        return if ours.code == Code::InvalidSearch {
            Error::new(ours.code, format!("{at}{}", ours.message))
        } else {
            ours.clone()
        };
    }
    let (code, message) = describe(root);
    if code == Code::Internal {
        tracing::error!(%error, "a query met a defect");
    }
    Error::new(code, clip(format!("{at}{message}")))
}

/// As [`from_datafusion`], of a statement about topics of which these have dead letters: a column that is missed, and unlike those
/// that there are, may have been in them.
pub(crate) fn from_planning(error: DataFusionError, dead_letter_topics: &[String]) -> Error {
    let is_unknown = match innermost(&error, &mut None) {
        DataFusionError::SchemaError(inner, _) => is_unlike_all(inner),
        _ => false,
    };
    let mut told = from_datafusion(error);
    if let (true, [topic, ..]) = (is_unknown, dead_letter_topics) {
        let hint = "became dead letters, which have no columns of their own: see system.dead_letters";
        told.message = clip(format!("{}; records of `{topic}` {hint}", told.message));
    }
    told
}

fn is_unlike_all(error: &SchemaError) -> bool {
    let SchemaError::FieldNotFound { field, valid_fields } = error else { return false };
    nearest(&field.name, valid_fields.iter().map(|column| column.name.as_str())).is_none()
}

/// The error at the heart of wrappers, and the first place in the text that one of them knows.
fn innermost<'a>(error: &'a DataFusionError, span: &mut Option<Span>) -> &'a DataFusionError {
    match error {
        DataFusionError::Context(_, inner) => innermost(inner, span),
        DataFusionError::Diagnostic(diagnostic, inner) => {
            *span = span.or(place_of(diagnostic));
            innermost(inner, span)
        }
        DataFusionError::Shared(inner) => innermost(inner, span),
        DataFusionError::Collection(errors) => errors.first().map_or(error, |first| innermost(first, span)),
        DataFusionError::External(inner) => {
            inner.downcast_ref::<DataFusionError>().map_or(error, |inner| innermost(inner, span))
        }
        DataFusionError::ArrowError(inner, _) => match &**inner {
            ArrowError::ExternalError(inner) => {
                inner.downcast_ref::<DataFusionError>().map_or(error, |inner| innermost(inner, span))
            }
            ArrowError::IoError(_, inner) => within_io(inner).map_or(error, |inner| innermost(inner, span)),
            _ => error,
        },
        DataFusionError::IoError(inner) => within_io(inner).map_or(error, |inner| innermost(inner, span)),
        error => error,
    }
}

/// An error of DataFusion that a writer of a spill file gave as its own.
fn within_io(error: &io::Error) -> Option<&DataFusionError> {
    error.get_ref()?.downcast_ref::<DataFusionError>()
}

fn place_of(diagnostic: &Diagnostic) -> Option<Span> {
    diagnostic.span.filter(|span| span.start.line > 0)
}

/// An error of ours that came through DataFusion.
fn ours(error: &DataFusionError) -> Option<&Error> {
    let inner: &(dyn StdError + Send + Sync) = match error {
        DataFusionError::External(inner) => &**inner,
        DataFusionError::IoError(inner) => inner.get_ref()?,
        DataFusionError::ArrowError(inner, _) => match &**inner {
            ArrowError::ExternalError(inner) => &**inner,
            ArrowError::IoError(_, inner) => inner.get_ref()?,
            _ => return None,
        },
        _ => return None,
    };
    inner.downcast_ref::<Error>()
}

fn describe(error: &DataFusionError) -> (Code, String) {
    match error {
        DataFusionError::SchemaError(error, _) => (Code::InvalidSql, schema_error(error)),
        DataFusionError::Plan(message) | DataFusionError::Configuration(message) => (Code::InvalidSql, plain(message)),
        DataFusionError::SQL(error, _) => (Code::InvalidSql, plain(&error.to_string())),
        DataFusionError::NotImplemented(message) => {
            (Code::InvalidSql, format!("this SQL is not supported: {}", plain(message)))
        }
        DataFusionError::ResourcesExhausted(message) => (Code::QueryBudget, over_budget(message)),
        DataFusionError::Execution(message) => (Code::InvalidSql, plain(message)),
        DataFusionError::ArrowError(error, _) => arrow_error(error),
        DataFusionError::IoError(error) => (Code::Io, format!("a query could not read: {error}")),
        other => (Code::Internal, format!("the query engine met a defect: {}", plain(&other.strip_backtrace()))),
    }
}

fn schema_error(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => missing_column(field, valid_fields),
        SchemaError::AmbiguousReference { field } => {
            format!("column `{}` is in more than one relation; write relation.{}", field.name, field.name)
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            format!("two columns of the result are named `{name}`; give one another name with AS")
        }
    }
}

fn missing_column(field: &Column, valid: &[Column]) -> String {
    let names = valid.iter().map(|column| column.name.as_str());
    match nearest(&field.name, names.clone()) {
        Some(near) => format!("there is no column `{}`; did you mean `{near}`?", field.name),
        None if valid.is_empty() => format!("there is no column `{}` here", field.name),
        None => {
            let shown = names.take(12).collect::<Vec<_>>().join(", ");
            let more = if valid.len() > 12 { ", …" } else { "" };
            format!("there is no column `{}`; the columns are {shown}{more}", field.name)
        }
    }
}

fn over_budget(message: &str) -> String {
    let first = plain(message);
    // The rows of a LIMIT and of its OFFSET are kept all at once.
    let advice = match first.contains("TopK") {
        true => {
            "ask for fewer rows with LIMIT, and instead of a large OFFSET for those behind the last row seen (WHERE key > …)"
        }
        false => "narrow the time range, select fewer columns or add a LIMIT",
    };
    format!("the query needs more memory than it may use: {first}; {advice}")
}

fn arrow_error(error: &ArrowError) -> (Code, String) {
    match error {
        ArrowError::DivideByZero => {
            (Code::InvalidSql, "the query divides by zero; guard it with NULLIF(divisor, 0)".into())
        }
        ArrowError::CastError(message)
        | ArrowError::ParseError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::ArithmeticOverflow(message)
        | ArrowError::InvalidArgumentError(message) => (Code::InvalidSql, plain(message)),
        ArrowError::IoError(message, _) => (Code::Io, plain(message)),
        ArrowError::MemoryError(message) => (Code::QueryBudget, over_budget(message)),
        other => (Code::Internal, format!("the query engine met a defect: {other}")),
    }
}

/// A message that quotes a statement is as long as its author wants; this is as long as a reader wants.
pub(crate) fn clip(mut message: String) -> String {
    const LONGEST: usize = 1_000;
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.push('…');
    }
    message
}

/// One line, without what DataFusion says to its own developers.
fn plain(message: &str) -> String {
    let message = message.split("\n\nbacktrace:").next().unwrap_or(message);
    let message = message.strip_prefix("Error during planning: ").unwrap_or(message);
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
