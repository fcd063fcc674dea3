//! SQL and search: what is asked, and the Arrow batches that stream in.

mod batches;
mod question;
mod stream;

use std::time::Duration;

use stratalog_proto::{Token, v1};

use crate::{Client, ClientError};
use question::Question;

pub use stream::QueryStream;

/// What goes with a query.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// The query sees at least these writes (Q1): see [`crate::Producer::tokens`].
    pub tokens: Vec<Token>,
    /// Gives up after this long; `None` is the server's default.
    pub timeout: Option<Duration>,
    /// What stands for `$1`, `$2`, … in the statement.
    pub parameters: Vec<Parameter>,
    /// The name of the query in `system.queries` and for `KILL QUERY`; `None`: the server chooses one.
    pub id: Option<String>,
}

/// A value that stands for `$1`, `$2`, … in a statement. It is never part of the statement's text.
///
/// ```
/// use stratalog_client::Parameter;
///
/// let parameters = vec![Parameter::from("it's"), 42.into(), 1.5.into(), true.into(), Parameter::Null];
/// assert_eq!(parameters[1], Parameter::Bigint(42));
/// ```
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

impl From<bool> for Parameter {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<i64> for Parameter {
    fn from(integer: i64) -> Self {
        Self::Bigint(integer)
    }
}

impl From<f64> for Parameter {
    fn from(float: f64) -> Self {
        Self::Double(float)
    }
}

impl From<&str> for Parameter {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Parameter {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

fn wire_parameter(parameter: &Parameter) -> v1::Parameter {
    use v1::parameter::Value;
    let value = match parameter {
        Parameter::Null => None,
        Parameter::Boolean(truth) => Some(Value::Boolean(*truth)),
        Parameter::Bigint(integer) => Some(Value::Bigint(*integer)),
        Parameter::Double(float) => Some(Value::Double(*float)),
        Parameter::Text(text) => Some(Value::Text(text.clone())),
        Parameter::Timestamp(ns) => Some(Value::TimestampNs(*ns)),
    };
    v1::Parameter { value }
}

impl Client {
    /// Runs a SQL statement. Where the node is lost before the first rows, a query is run again, on another node if there is
    /// one; a statement that changes something is not, unless it certainly was not run.
    ///
    /// # Errors
    /// `InvalidSql`, which names line and column; `QueryBudget`; `QueryDeadline`; the same while rows stream in.
    pub async fn sql(&self, sql: &str, options: &QueryOptions) -> Result<QueryStream, ClientError> {
        let request = v1::SqlRequest {
            sql: sql.to_owned(),
            tokens: options.tokens.iter().map(wire_token).collect(),
            timeout_ms: timeout_ms(options.timeout),
            parameters: options.parameters.iter().map(wire_parameter).collect(),
            query_id: options.id.clone().unwrap_or_default(),
        };
        QueryStream::ask(self, Question::Sql(request)).await
    }

    /// Searches a topic's text, newest first.
    ///
    /// # Errors
    /// `InvalidSearch`, `UnknownTopic`; and as [`Client::sql`].
    pub async fn search(&self, request: v1::SearchRequest) -> Result<QueryStream, ClientError> {
        QueryStream::ask(self, Question::Search(request)).await
    }
}

fn wire_token(token: &Token) -> v1::Token {
    v1::Token { shard: token.shard.0, index: token.index.0 }
}

/// Rounds up, so that a timeout below a millisecond does not become "none".
fn timeout_ms(timeout: Option<Duration>) -> u32 {
    timeout.map_or(0, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u32::MAX))
}
