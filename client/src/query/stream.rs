//! The answer: Arrow batches that stream in, and the word that they were all.

use std::time::Instant;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use stratalog_proto::Code;
use stratalog_proto::v1::query_chunk::Chunk;
use stratalog_proto::v1::{self, QueryStats};
use tonic::{Status, Streaming};

use super::batches::Batches;
use super::question::Question;
use crate::error::is_certainly_not_done;
use crate::nodes::Node;
use crate::retry::{Attempts, is_of_the_node};
use crate::{Client, ClientError};

/// How often a query is run again whose node was lost while it ran: it may be what the node was lost by.
const MAX_REPEATS: u32 = 2;

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
    asking: Asking,
    chunks: Streaming<v1::QueryChunk>,
    batches: Batches,
    /// What the caller was told of the columns.
    told: Option<SchemaRef>,
    /// The caller has rows: the question cannot be asked again.
    delivered: bool,
    stats: Option<QueryStats>,
}

/// A question on its way from node to node.
#[derive(Debug)]
struct Asking {
    client: Client,
    question: Question,
    asked_at: Instant,
    node: Node,
    attempts: Attempts,
    repeats: u32,
}

impl Asking {
    fn new(client: &Client, question: Question) -> Self {
        let (node, attempts) = (client.node(), Attempts::new(client));
        Self { client: client.clone(), question, asked_at: Instant::now(), node, attempts, repeats: 0 }
    }

    /// Asks until a node begins to answer.
    async fn ask(&mut self) -> Result<Streaming<v1::QueryChunk>, ClientError> {
        loop {
            self.node = self.client.node();
            let Some(question) = self.question.with_time_left(self.asked_at) else {
                let message = "the query's time was over before a node answered it";
                return Err(ClientError::new(Code::QueryDeadline, message));
            };
            match question.ask(&self.node).await {
                Ok(chunks) => return Ok(chunks.into_inner()),
                Err(status) => self.failed(status).await?,
            }
        }
    }

    /// Gets ready to ask again after this failure, or gives it back.
    async fn failed(&mut self, status: Status) -> Result<(), ClientError> {
        let not_run = is_certainly_not_done(&status);
        let error = ClientError::from(status);
        if not_run {
            return self.attempts.again(&self.client, &self.node, error).await;
        }
        self.lost(error).await
    }

    /// The same where the query may have run.
    async fn lost(&mut self, error: ClientError) -> Result<(), ClientError> {
        let of_the_node = is_of_the_node(&error);
        if !of_the_node || self.repeats == MAX_REPEATS || !self.question.may_be_repeated() {
            return Err(error);
        }
        self.repeats += 1;
        self.attempts.again(&self.client, &self.node, error).await
    }
}

impl QueryStream {
    pub(super) async fn ask(client: &Client, question: Question) -> Result<Self, ClientError> {
        let mut asking = Asking::new(client, question);
        let chunks = asking.ask().await?;
        let batches = Batches::default();
        Ok(Self { asking, chunks, batches, told: None, delivered: false, stats: None })
    }

    /// The columns; known before the first row.
    ///
    /// # Errors
    /// Whatever the query failed with.
    pub async fn schema(&mut self) -> Result<SchemaRef, ClientError> {
        loop {
            if let Some(schema) = self.batches.schema() {
                self.told = Some(schema.clone());
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
            if let Some(batch) = self.batches.pop() {
                self.delivered = true;
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

    /// Takes in the next chunk; false when the answer is whole. The statistics come last, and only then. Where the node is
    /// lost before the caller has any rows, another one answers from the beginning.
    async fn pull(&mut self) -> Result<bool, ClientError> {
        while self.stats.is_none() {
            match self.take_in().await {
                Ok(()) => return Ok(true),
                Err(error) if self.delivered => return Err(error),
                Err(error) => {
                    self.asking.lost(error).await?;
                    self.begin_again().await?;
                }
            }
        }
        Ok(false)
    }

    async fn take_in(&mut self) -> Result<(), ClientError> {
        let chunk = self.chunks.message().await?.ok_or_else(|| short("it ended before its statistics"))?;
        match chunk.chunk {
            Some(Chunk::Arrow(bytes)) => self.batches.push(bytes).map_err(unreadable)?,
            Some(Chunk::Stats(stats)) => {
                self.batches.finish().map_err(unreadable)?;
                self.stats = Some(stats);
            }
            None => {}
        }
        self.is_what_was_told()
    }

    async fn begin_again(&mut self) -> Result<(), ClientError> {
        self.chunks = self.asking.ask().await?;
        self.batches = Batches::default();
        Ok(())
    }

    /// Columns may have come into being between two runs.
    fn is_what_was_told(&self) -> Result<(), ClientError> {
        match (&self.told, self.batches.schema()) {
            (Some(told), Some(schema)) if **told != *schema => {
                let message = "the query ran again on another node, and its columns are others now; run it again";
                Err(ClientError::new(Code::Conflict, message))
            }
            _ => Ok(()),
        }
    }
}

fn short(what: &str) -> ClientError {
    ClientError::new(Code::Unavailable, format!("the answer is not whole: {what}; run the query again"))
}

fn unreadable(error: ArrowError) -> ClientError {
    ClientError::new(Code::Internal, format!("the answer is not a readable Arrow stream: {error}"))
}
