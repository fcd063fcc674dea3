//! What comes out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::Shared;
use stratalog_proto::{Offset, PartitionId, Token};

use crate::SendError;

/// A record is fsynced on a majority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Where it went.
    pub partition: PartitionId,
    /// Its place there.
    pub offset: Offset,
    /// Given to a query, makes that see the record (Q1).
    pub token: Token,
    /// From [`crate::Producer::send`] to the acknowledgement.
    pub latency: Duration,
}

/// A batch is fsynced on a majority.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchAck {
    pub(super) partition: PartitionId,
    pub(super) base_offset: Offset,
    pub(super) token: Token,
    pub(super) at: Instant,
}

pub(super) type Outcome = Result<BatchAck, SendError>;

/// The outcome of a batch, for all who wait for one of its records.
pub(super) type OutcomeFuture = Shared<oneshot::Receiver<Outcome>>;

/// Where a batch's outcome is told, and where it is heard.
pub(super) fn outcome() -> (oneshot::Sender<Outcome>, OutcomeFuture) {
    let (sender, receiver) = oneshot::channel();
    (sender, receiver.shared())
}

/// The outcome of one record, some time later. Dropping it changes nothing for the record.
#[derive(Clone, Debug)]
#[must_use = "a record may fail after it was sent: await its delivery, or flush"]
pub struct Delivery {
    batch: OutcomeFuture,
    index: u32,
    sent_at: Instant,
}

impl Delivery {
    pub(super) fn new(batch: OutcomeFuture, index: u32, sent_at: Instant) -> Self {
        Self { batch, index, sent_at }
    }
}

impl Future for Delivery {
    type Output = Result<Ack, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ack = match heard(ready!(self.batch.poll_unpin(context))) {
            Ok(ack) => ack,
            Err(error) => return Poll::Ready(Err(error)),
        };
        Poll::Ready(Ok(Ack {
            partition: ack.partition,
            offset: Offset(ack.base_offset.0 + u64::from(self.index)),
            token: ack.token,
            latency: ack.at.saturating_duration_since(self.sent_at),
        }))
    }
}

/// An outcome that nobody will tell any more is unknown.
pub(super) fn heard(outcome: Result<Outcome, oneshot::Canceled>) -> Outcome {
    outcome.unwrap_or_else(|_| Err(SendError::unknown("the producer was stopped before the record was acknowledged")))
}
