//! The answer to a query, while it arrives.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use stratalog_proto::{Code, Error, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::meter::Meter;
use crate::runtime::Task;

/// Batches of rows, then the statistics. Dropping it cancels the query.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    parts: mpsc::Receiver<Part>,
    meter: Arc<Meter>,
    deadline: Deadline,
    rows_returned: u64,
    finished: Option<v1::QueryStats>,
    /// The query itself; aborted when this is dropped.
    _task: Task,
}

/// What a running query sends. A channel that closes without an end means that the query died.
#[derive(Debug)]
pub(crate) enum Part {
    Batch(RecordBatch),
    Failed(Error),
    End,
}

impl Answer {
    pub(crate) fn new(
        schema: SchemaRef,
        parts: mpsc::Receiver<Part>,
        meter: Arc<Meter>,
        deadline: Deadline,
        task: Task,
    ) -> Self {
        Self { schema, parts, meter, deadline, rows_returned: 0, finished: None, _task: task }
    }

    /// Columns of every batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The next rows, at least one; `None` after the last. After an error there is nothing more, and what came before
    /// it is not an answer.
    ///
    /// # Errors
    /// [`Code::QueryDeadline`], [`Code::QueryBudget`], [`Code::InvalidSql`] for values on which the statement cannot be
    /// evaluated, [`Code::CorruptData`] and [`Code::Io`] of the storage.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, Error>> {
        while self.finished.is_none() {
            let part = tokio::time::timeout_at(self.deadline.at, self.parts.recv()).await;
            match part {
                Ok(Some(Part::Batch(batch))) if batch.num_rows() == 0 => {}
                Ok(Some(Part::Batch(batch))) => {
                    self.rows_returned += batch.num_rows() as u64;
                    return Some(Ok(batch));
                }
                Ok(Some(Part::End)) => self.finish(),
                Ok(Some(Part::Failed(error))) => return Some(Err(self.fail(error))),
                Ok(None) => return Some(Err(self.fail(self.deadline.error_or(died())))),
                Err(_) => return Some(Err(self.fail(self.deadline.error()))),
            }
        }
        None
    }

    /// What was read so far; final once [`Answer::next`] has returned `None`.
    pub fn stats(&self) -> v1::QueryStats {
        self.finished.clone().unwrap_or_else(|| self.meter.stats(self.rows_returned))
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

    fn finish(&mut self) {
        self.finished = Some(self.meter.stats(self.rows_returned));
    }

    fn fail(&mut self, error: Error) -> Error {
        self.finish();
        self.parts.close();
        error
    }
}

fn died() -> Error {
    Error::new(Code::Internal, "the query stopped without an end: a defect, please report the statement")
}

/// When a query has to be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    /// What the user is told.
    pub(crate) fn error(&self) -> Error {
        let timeout = self.timeout;
        let message =
            format!("the query did not finish within {timeout:?}; narrow its time range, or ask with a longer timeout");
        Error::new(Code::QueryDeadline, message)
    }

    /// The deadline if it has passed, else what went wrong.
    pub(crate) fn error_or(&self, error: Error) -> Error {
        if Instant::now() >= self.at { self.error() } else { error }
    }
}
