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

/// What a query may wait for.
#[derive(Clone, Debug, Default)]
pub struct QueryOptions {
    /// The query sees at least these writes (Q1): see [`crate::Producer::tokens`].
    pub tokens: Vec<Token>,
    /// Gives up after this long; `None` is the server's default.
    pub timeout: Option<Duration>,
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
            ..v1::SqlRequest::default()
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
