//! SQL and search: Arrow batches that stream in, and the word that they were all.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use stratalog_proto::v1::query_chunk::Chunk;
use stratalog_proto::v1::{self, QueryStats};
use stratalog_proto::{Code, Token};
use tonic::Streaming;

use crate::{Client, ClientError};

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
    /// Runs a SQL statement.
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
        let chunks = self.query_service().sql(request).await?.into_inner();
        Ok(QueryStream::new(chunks))
    }

    /// Searches a topic's text, newest first.
    ///
    /// # Errors
    /// `InvalidSearch`, `UnknownTopic`; and as [`Client::sql`].
    pub async fn search(&self, request: v1::SearchRequest) -> Result<QueryStream, ClientError> {
        let chunks = self.query_service().search(request).await?.into_inner();
        Ok(QueryStream::new(chunks))
    }
}

fn wire_token(token: &Token) -> v1::Token {
    v1::Token { shard: token.shard.0, index: token.index.0 }
}

/// Rounds up, so that a timeout below a millisecond does not become "none".
fn timeout_ms(timeout: Option<Duration>) -> u32 {
    timeout.map_or(0, |timeout| timeout.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(u32::MAX))
}

/// The answer to a query. Dropping it cancels the query.
///
/// ```no_run
/// # async fn example(client: stratalog_client::Client) -> Result<(), stratalog_client::ClientError> {
/// let answer = client.sql("SELECT count(*) FROM orders", &Default::default()).await?;
/// let (schema, rows, stats) = answer.collect().await?;
/// println!("{} columns, {} batches, {} rows scanned", schema.fields().len(), rows.len(), stats.rows_scanned);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct QueryStream {
    chunks: Streaming<v1::QueryChunk>,
    decoder: StreamDecoder,
    decoded: VecDeque<RecordBatch>,
    stats: Option<QueryStats>,
}

impl QueryStream {
    fn new(chunks: Streaming<v1::QueryChunk>) -> Self {
        Self { chunks, decoder: StreamDecoder::new(), decoded: VecDeque::new(), stats: None }
    }

    /// The columns; known before the first row.
    ///
    /// # Errors
    /// Whatever the query failed with.
    pub async fn schema(&mut self) -> Result<SchemaRef, ClientError> {
        loop {
            if let Some(schema) = self.decoder.schema() {
                return Ok(schema);
            }
            if !self.pull().await? {
                return Err(short("it ended before its columns"));
            }
        }
    }

    /// The next rows; `None` once the answer is whole.
    ///
    /// # Errors
    /// Whatever the query failed with, also after its first rows; `Unavailable` for an answer that is cut short.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, ClientError> {
        loop {
            if let Some(batch) = self.decoded.pop_front() {
                return Ok(Some(batch));
            }
            if !self.pull().await? {
                return Ok(None);
            }
        }
    }

    /// What the answer cost; there once [`QueryStream::next`] has returned `None`.
    pub fn stats(&self) -> Option<&QueryStats> {
        self.stats.as_ref()
    }

    /// The whole answer.
    ///
    /// # Errors
    /// As [`QueryStream::next`].
    pub async fn collect(mut self) -> Result<(SchemaRef, Vec<RecordBatch>, QueryStats), ClientError> {
        let schema = self.schema().await?;
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await? {
            batches.push(batch);
        }
        let stats = self.stats.ok_or_else(|| short("it ended before its statistics"))?;
        Ok((schema, batches, stats))
    }

    /// Takes in the next chunk; false when the answer is whole. The statistics come last, and only then.
    async fn pull(&mut self) -> Result<bool, ClientError> {
        if self.stats.is_some() {
            return Ok(false);
        }
        let chunk = self.chunks.message().await?.ok_or_else(|| short("it ended before its statistics"))?;
        match chunk.chunk {
            Some(Chunk::Arrow(bytes)) => self.decode(bytes).map_err(unreadable)?,
            Some(Chunk::Stats(stats)) => {
                self.decoder.finish().map_err(unreadable)?;
                self.stats = Some(stats);
            }
            None => {}
        }
        Ok(true)
    }

    fn decode(&mut self, bytes: Bytes) -> Result<(), ArrowError> {
        let mut buffer = Buffer::from(bytes);
        while !buffer.is_empty() {
            self.decoded.extend(self.decoder.decode(&mut buffer)?);
        }
        Ok(())
    }
}

fn short(what: &str) -> ClientError {
    ClientError::new(Code::Unavailable, format!("the answer is not whole: {what}; run the query again"))
}

fn unreadable(error: ArrowError) -> ClientError {
    ClientError::new(Code::Internal, format!("the answer is not a readable Arrow stream: {error}"))
}
