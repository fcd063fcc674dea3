//! Text to one statement that only reads.

use datafusion::sql::sqlparser::ast::{ObjectName, ShowStatementIn, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use stratalog_proto::{Code, Error};

use crate::error::clip;

use super::dialect::BoundedDialect;
use super::limits;

/// What a statement asks for.
#[derive(Debug)]
pub(crate) enum Command {
    /// A query, or EXPLAIN of one.
    Query(Box<Statement>),
    /// `SHOW TABLES`.
    ShowTables,
    /// `DESCRIBE topic`, `SHOW COLUMNS FROM topic`.
    Describe(ObjectName),
}

/// Parses exactly one statement and refuses those that write.
///
/// # Errors
/// [`Code::InvalidSql`], with line and column where the text is at fault.
pub(crate) fn parse(sql: &str) -> Result<Command, Error> {
    limits::check_length(sql)?;
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| syntax(&error.message, Some((error.location.line, error.location.column))))?;
    limits::check_tokens(&tokens)?;
    let dialect = BoundedDialect::new(tokens.len());
    let statements = Parser::new(&dialect)
        .with_recursion_limit(limits::MAX_NESTING)
        .with_tokens_with_locations(tokens.clone())
        .parse_statements()
        .map_err(|error| parser_error(&error, &tokens))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(statement), None) => command(statement),
        (None, _) => Err(Error::new(Code::InvalidSql, "the statement is empty; try SELECT * FROM <topic> LIMIT 10")),
        (Some(_), Some(_)) => Err(Error::new(Code::InvalidSql, "there is more than one statement; send one at a time")),
    }
}

fn command(statement: Statement) -> Result<Command, Error> {
    match statement {
        Statement::Query(_) => Ok(Command::Query(Box::new(statement))),
        Statement::Explain { statement: ref inner, .. } if matches!(**inner, Statement::Query(_)) => {
            Ok(Command::Query(Box::new(statement)))
        }
        Statement::ExplainTable { table_name, .. } => Ok(Command::Describe(table_name)),
        Statement::ShowTables { .. } => Ok(Command::ShowTables),
        Statement::ShowColumns { show_options, .. } => match show_options.show_in {
            Some(ShowStatementIn { parent_name: Some(name), .. }) => Ok(Command::Describe(name)),
            _ => Err(Error::new(Code::InvalidSql, "SHOW COLUMNS needs a table: SHOW COLUMNS FROM <topic>")),
        },
        Statement::Explain { statement: inner, .. } => Err(read_only(&inner)),
        other => Err(read_only(&other)),
    }
}

fn read_only(statement: &Statement) -> Error {
    // The first word says enough, and the statement may be long.
    refuse(statement.to_string().split_whitespace().next().unwrap_or("this"))
}

/// What somebody is told whose statement does more than read.
pub(crate) fn refuse(verb: &str) -> Error {
    let verb = verb.to_ascii_uppercase();
    let message = format!(
        "{verb} is not possible: SQL here only reads (SELECT, EXPLAIN, SHOW TABLES, DESCRIBE). \
         Records are written by producing, topics are managed with `stratalog topic`"
    );
    Error::new(Code::InvalidSql, message)
}

fn parser_error(error: &ParserError, tokens: &[TokenWithSpan]) -> Error {
    match error {
        ParserError::RecursionLimitExceeded => {
            let most = limits::MAX_NESTING;
            Error::new(Code::InvalidSql, format!("statement refused: it nests deeper than {most} levels"))
        }
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let (what, at) = split_location(message);
            syntax(what, at.or_else(|| end_of(tokens)))
        }
    }
}

/// The parser appends ` at Line: 1, Column: 8` to what it says, except at the end of the text.
fn split_location(message: &str) -> (&str, Option<(u64, u64)>) {
    let parts = message.rsplit_once(" at Line: ").and_then(|(what, at)| {
        let (line, column) = at.split_once(", Column: ")?;
        Some((what, Some((line.trim().parse().ok()?, column.trim().parse().ok()?))))
    });
    parts.unwrap_or((message, None))
}

/// The position after the last token: where text is missing.
fn end_of(tokens: &[TokenWithSpan]) -> Option<(u64, u64)> {
    let last = tokens.iter().rev().find(|token| !matches!(token.token, Token::EOF | Token::Whitespace(_)))?;
    Some((last.span.end.line, last.span.end.column))
}

fn syntax(what: &str, at: Option<(u64, u64)>) -> Error {
    let what = what.replace("Expected: ", "expected ").replace(", found: EOF", ", but the statement ends");
    let what = what.replace(", found: ", ", found ");
    let place = at.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default();
    Error::new(Code::InvalidSql, clip(format!("{place}{what}")))
}
