//! The task that drives a query, encodes its rows and hands them to a reader who may be slow, or gone.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use stratalog_proto::v1::QueryStats;
use stratalog_proto::{Code, Error};
use stratalog_query::Answer;
use tokio::sync::mpsc;

use super::RowEncoder;

/// Pieces that wait for the reader: enough that encoding and sending overlap.
const PIECES_AHEAD: usize = 2;
/// Bytes of a piece, about: small batches are joined, large ones are cut, so that each fits a gRPC message.
const PIECE_BYTES: usize = 1 << 20;

/// A piece of a streamed answer.
#[derive(Debug)]
pub(crate) enum Piece {
    /// The next bytes of the body.
    Bytes(Bytes),
    /// Last, and only if the answer is whole.
    Stats(QueryStats),
}

/// The pieces of one answer, in order. An error is the last of them. Dropping it cancels the query.
#[derive(Debug)]
pub(crate) struct Pieces {
    receiver: mpsc::Receiver<Result<Piece, Error>>,
    ended: bool,
}

impl Pieces {
    /// The next piece; `None` only after the statistics or an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, Error>> {
        if self.ended {
            return None;
        }
        let piece = self.receiver.recv().await.unwrap_or_else(|| {
            Err(Error::new(Code::Cancelled, "the query was cancelled: its answer was not read for too long"))
        });
        self.ended = !matches!(piece, Ok(Piece::Bytes(_)));
        Some(piece)
    }
}

/// Starts to pump `answer` through `encoder`. A reader that takes nothing for `stall` loses the query.
///
/// # Errors
/// What fails before the first rows are there, so that the caller can still answer with a status.
pub(crate) async fn pump(
    mut answer: Answer,
    mut encoder: Box<dyn RowEncoder>,
    stall: Duration,
    cancelled: Counter,
) -> Result<Pieces, Error> {
    let mut buffer = Vec::new();
    encoder.start(&answer.schema(), &mut buffer)?;
    let first = answer.next().await.transpose()?;
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let pump = Pump { answer, encoder, buffer, outlet: Outlet { sender, stall } };
    tokio::spawn(async move {
        if pump.run(first).await.is_err() {
            cancelled.inc();
        }
    });
    Ok(Pieces { receiver, ended: false })
}

/// The reader left, or took nothing for too long.
struct ReaderGone;

struct Outlet {
    sender: mpsc::Sender<Result<Piece, Error>>,
    stall: Duration,
}

impl Outlet {
    async fn send(&self, piece: Result<Piece, Error>) -> Result<(), ReaderGone> {
        match tokio::time::timeout(self.stall, self.sender.send(piece)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ReaderGone),
        }
    }

    /// Sends all of `buffer`, cut to pieces, and leaves it empty.
    async fn flush(&self, buffer: &mut Vec<u8>) -> Result<(), ReaderGone> {
        let mut bytes = Bytes::from(std::mem::take(buffer));
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            self.send(Ok(Piece::Bytes(piece))).await?;
        }
        Ok(())
    }
}

struct Pump {
    answer: Answer,
    encoder: Box<dyn RowEncoder>,
    buffer: Vec<u8>,
    outlet: Outlet,
}

impl Pump {
    /// Runs to the end of the answer. Returning drops the answer, which cancels what is left of the query.
    async fn run(mut self, first: Option<RecordBatch>) -> Result<(), ReaderGone> {
        let mut batch = first;
        while let Some(rows) = batch {
            if let Err(error) = self.encoder.rows(&rows, &mut self.buffer) {
                return self.fail(error).await;
            }
            drop(rows);
            if self.buffer.len() >= PIECE_BYTES {
                self.outlet.flush(&mut self.buffer).await?;
            }
            batch = match self.next().await? {
                Ok(batch) => batch,
                Err(error) => return self.fail(error).await,
            };
        }
        let stats = self.answer.stats();
        if let Err(error) = self.encoder.finish(&stats, &mut self.buffer) {
            return self.fail(error).await;
        }
        self.outlet.flush(&mut self.buffer).await?;
        self.outlet.send(Ok(Piece::Stats(stats))).await
    }

    /// The next rows. What is buffered goes out first if they are not there at once: a reader sees rows as they are found.
    async fn next(&mut self) -> Result<Result<Option<RecordBatch>, Error>, ReaderGone> {
        let answer = &mut self.answer;
        let mut next = std::pin::pin!(answer.next());
        if let std::task::Poll::Ready(batch) = futures::poll!(next.as_mut()) {
            return Ok(batch.transpose());
        }
        self.outlet.flush(&mut self.buffer).await?;
        tokio::select! {
            batch = next => Ok(batch.transpose()),
            () = self.outlet.sender.closed() => Err(ReaderGone),
        }
    }

    async fn fail(mut self, error: Error) -> Result<(), ReaderGone> {
        self.encoder.fail(&error, &mut self.buffer);
        self.outlet.flush(&mut self.buffer).await?;
        self.outlet.send(Err(error)).await
    }
}
