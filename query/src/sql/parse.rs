//! Text to one statement.

use datafusion::sql::sqlparser::ast::{ObjectName, ShowStatementIn, ShowStatementOptions, Statement};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};
use stratalog_proto::{Code, Error};

use crate::error::clip;
use crate::parameters::{Parameter, bind};

use super::change::{Change, Refused};
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
    /// `CREATE TABLE`, `ALTER TABLE`, `DROP TABLE`, `DELETE`.
    Change(Change),
    /// `KILL QUERY 'id'`.
    Kill(String),
}

/// Parses exactly one statement and refuses those that do what is not possible.
///
/// # Errors
/// [`Code::InvalidSql`], with line and column where the text is at fault.
pub(crate) fn parse(sql: &str) -> Result<Command, Error> {
    parse_with(sql, &[])
}

/// As [`parse`], with values for `$1`, `$2`, … in the statement.
///
/// # Errors
/// As [`parse`], and for parameters that the statement does not name, or that were not sent.
pub(crate) fn parse_with(sql: &str, parameters: &[Parameter]) -> Result<Command, Error> {
    limits::check_length(sql)?;
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| syntax(&error.message, Some((error.location.line, error.location.column))))?;
    limits::check_tokens(&tokens)?;
    if let Some(id) = killed(&tokens)? {
        if !parameters.is_empty() {
            return Err(Error::new(Code::InvalidSql, "KILL QUERY takes no parameters; send none with it"));
        }
        return Ok(Command::Kill(id));
    }
    let tokens = if defines(&tokens) { join_dotted(tokens) } else { tokens };
    let dialect = BoundedDialect::new(tokens.len());
    let statements = Parser::new(&dialect)
        .with_recursion_limit(limits::MAX_NESTING)
        .with_tokens_with_locations(tokens.clone())
        .parse_statements()
        .map_err(|error| parser_error(&error, &tokens))?;
    let mut statements = statements.into_iter();
    match (statements.next(), statements.next()) {
        (Some(mut statement), None) => {
            bind(&mut statement, parameters)?;
            command(statement)
        }
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
        Statement::ShowTables { show_options, .. } if is_bare(&show_options) && show_options.show_in.is_none() => {
            Ok(Command::ShowTables)
        }
        Statement::ShowTables { .. } => Err(narrowed("SHOW TABLES", "system.topics WHERE name LIKE 'a%'")),
        Statement::ShowColumns { show_options, .. } if !is_bare(&show_options) => {
            Err(narrowed("SHOW COLUMNS FROM <topic>", "system.columns WHERE topic = 'logs' AND \"column\" LIKE 'a%'"))
        }
        Statement::ShowColumns { show_options, .. } => match show_options.show_in {
            Some(ShowStatementIn { parent_name: Some(name), .. }) => Ok(Command::Describe(name)),
            _ => Err(Error::new(Code::InvalidSql, "SHOW COLUMNS needs a table: SHOW COLUMNS FROM <topic>")),
        },
        Statement::Explain { statement: inner, .. } => Err(refuse(&format!("EXPLAIN {}", verb(&inner)))),
        other => match Change::of(other) {
            Ok(change) => Ok(Command::Change(change)),
            Err(Refused::Invalid(error)) => Err(error),
            Err(Refused::NoChange(statement)) => Err(impossible(&statement)),
        },
    }
}

/// Whether a SHOW shows everything.
fn is_bare(options: &ShowStatementOptions) -> bool {
    let ShowStatementOptions { show_in: _, starts_with, limit, limit_from, filter_position } = options;
    starts_with.is_none() && limit.is_none() && limit_from.is_none() && filter_position.is_none()
}

fn narrowed(form: &str, instead: &str) -> Error {
    let message = format!("{form} shows everything and takes nothing more; to choose, write SELECT * FROM {instead}");
    Error::new(Code::InvalidSql, message)
}

fn impossible(statement: &Statement) -> Error {
    refuse(&verb(statement))
}

/// The first word says enough, and the statement may be long.
fn verb(statement: &Statement) -> String {
    statement.to_string().split_whitespace().next().unwrap_or("this").to_owned()
}

/// What somebody is told whose statement does what is not possible.
pub(crate) fn refuse(verb: &str) -> Error {
    let verb = verb.to_ascii_uppercase();
    let message = format!(
        "{verb} is not possible: statements are SELECT, EXPLAIN of one, SHOW TABLES, DESCRIBE, CREATE TABLE, ALTER TABLE, \
         DROP TABLE, DELETE and KILL QUERY. Records are written by producing"
    );
    Error::new(Code::InvalidSql, message)
}

/// The tokens that mean something.
fn meaning(tokens: &[TokenWithSpan]) -> impl Iterator<Item = &Token> {
    tokens.iter().map(|token| &token.token).filter(|token| !matches!(token, Token::Whitespace(_) | Token::EOF))
}

/// The id in `KILL QUERY 'id'`, which the parser knows only with a number.
fn killed(tokens: &[TokenWithSpan]) -> Result<Option<String>, Error> {
    let is = |token: &Token, keyword| matches!(token, Token::Word(word) if word.keyword == keyword);
    let mut words = meaning(tokens).filter(|token| **token != Token::SemiColon);
    if !words.next().is_some_and(|token| is(token, Keyword::KILL)) {
        return Ok(None);
    }
    match (words.next(), words.next(), words.next()) {
        (Some(query), Some(Token::SingleQuotedString(id)), None) if is(query, Keyword::QUERY) => Ok(Some(id.clone())),
        _ => Err(Error::new(
            Code::InvalidSql,
            "KILL takes the id of a query in quotes: KILL QUERY 'id'; SELECT id, sql FROM system.queries shows them",
        )),
    }
}

/// Whether a statement defines a table, so that names in it are of columns and settings.
fn defines(tokens: &[TokenWithSpan]) -> bool {
    let first = meaning(tokens).next();
    matches!(first, Some(Token::Word(word)) if matches!(word.keyword, Keyword::CREATE | Keyword::ALTER))
}

/// Makes `a.b.c`, without spaces, one name: the parser expects no dots in the name of a column or a setting. The name of a
/// table may have a schema.
fn join_dotted(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut joined: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut after_dot = false;
    let (mut keyword, mut is_table) = (Keyword::NoKeyword, false);
    for token in tokens {
        match (&token.token, joined.last_mut().map(|last| &mut last.token)) {
            (Token::Period, Some(Token::Word(_))) if !after_dot && !is_table => after_dot = true,
            (Token::Word(part), Some(Token::Word(name))) if after_dot => {
                let value = format!("{}.{}", name.value, part.value);
                *name = Word { value, quote_style: Some('"'), keyword: Keyword::NoKeyword };
                after_dot = false;
            }
            _ => {
                if std::mem::take(&mut after_dot) {
                    joined.push(TokenWithSpan { token: Token::Period, span: token.span });
                }
                if let Token::Word(word) = &token.token {
                    let goes_on = is_table && joined.last().is_some_and(|last| last.token == Token::Period);
                    is_table = goes_on || matches!(keyword, Keyword::TABLE | Keyword::EXISTS);
                    keyword = word.keyword;
                }
                joined.push(token);
            }
        }
    }
    joined
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
