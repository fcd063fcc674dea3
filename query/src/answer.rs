//! The answer to a query, while it arrives.

use std::sync::atomic::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use stratalog_proto::{Code, Error, v1};
use tokio::sync::mpsc;

use crate::queries::{Listed, Outcome};
use crate::runtime::Task;

/// Batches of rows, then the statistics. Dropping it cancels the query.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    parts: mpsc::Receiver<Part>,
    query: Listed,
    finished: Option<v1::QueryStats>,
    /// The query itself; aborted when this is dropped.
    task: Option<Task>,
}

/// What a running query sends. A channel that closes without an end means that the query died.
#[derive(Debug)]
pub(crate) enum Part {
    Batch(RecordBatch),
    Failed(Error),
    End,
}

impl Answer {
    pub(crate) fn new(schema: SchemaRef, parts: mpsc::Receiver<Part>, query: Listed, task: Task) -> Self {
        Self { schema, parts, query, finished: None, task: Some(task) }
    }

    /// Columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows, at least one; `None` after the last. After an error there is nothing more, and what came before
    /// it is not an answer.
    ///
    /// # Errors
    /// [`Code::QueryDeadline`], [`Code::QueryBudget`], [`Code::Cancelled`] if it was killed, [`Code::InvalidSql`] for values on which the statement cannot be
    /// evaluated, [`Code::CorruptData`] and [`Code::Io`] of the storage.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, Error>> {
        while self.finished.is_none() {
            match self.query.unless_stopped(self.parts.recv()).await {
                Ok(Some(Part::Batch(batch))) if batch.num_rows() == 0 => {}
                Ok(Some(Part::Batch(batch))) => {
                    self.query.meter.rows_returned.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    return Some(Ok(batch));
                }
                Ok(Some(Part::End)) => self.finish(Outcome::Done),
                Ok(Some(Part::Failed(error))) => return Some(Err(self.fail(error))),
                Ok(None) => {
                    let error = self.query.error_or(died());
                    return Some(Err(self.fail(error)));
                }
                Err(error) => return Some(Err(self.fail(error))),
            }
        }
        None
    }

    /// What was read so far; final once [`Answer::next`] has returned `None`.
    pub fn stats(&self) -> v1::QueryStats {
        self.finished.clone().unwrap_or_else(|| self.query.stats())
    }

    /// All batches; for answers that are known to be small.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub async fn collect(&mut self) -> Result<Vec<RecordBatch>, Error> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }

    fn finish(&mut self, outcome: Outcome) {
        self.finished = Some(self.query.stats());
        self.query.ends(outcome);
        self.task = None;
    }

    fn fail(&mut self, error: Error) -> Error {
        self.finish(Outcome::Failed(error.clone()));
        self.parts.close();
        error
    }
}

fn died() -> Error {
    Error::new(Code::Internal, "the query stopped without an end: a defect, please report the statement")
}
