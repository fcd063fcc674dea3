//! The batches of one partition on their way: what may be sent now, and what an answer changes.
//!
//! Pure: time and answers come in, decisions go out; the sender does what they say. Order is kept by three rules:
//!
//! - Batches leave in the order of the queue, at most `window` of them from the oldest unanswered one on: the log knows
//!   again only so many. The window starts at one and grows with each success, since a node accepts any sequence from a
//!   producer that is new to it: the first batch has to be there before the second is sent.
//! - After a failure nothing leaves until every batch in flight is answered; then the oldest goes first, alone.
//! - Sequence numbers are given when a batch first leaves and stay with it, so that the log appends it once. When the
//!   *oldest* batch is out of order, one before it was given up, and neither that batch nor any behind it is in the log.
//!   Then they start over from 0 in a higher epoch, whose first batch fences every copy of an older one that is still on
//!   its way. Until it is there, a copy on a lost connection may yet be appended: a batch with such a stray copy is given
//!   up, since it could be there twice.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::channel::oneshot;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::{Code, Error, PartitionId, ProducerId};
use tokio::sync::OwnedSemaphorePermit;

use super::delivery::{BatchAck, Delivery, Outcome, OutcomeFuture, outcome};
use super::record::OutRecord;
use super::verdict::Verdict;
use crate::SendError;
use crate::retry::backoff;

/// As many batches as the log remembers of each producer in a partition.
const MAX_WINDOW: u64 = 5;

/// What all queues of a producer share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) compression: Compression,
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    /// The largest batch that the topic accepts, as sent.
    pub(super) max_message_bytes: usize,
    pub(super) deadline: Duration,
}

/// Who an idempotent producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: ProducerId,
    pub(super) epoch: i16,
}

impl Identity {
    /// The same producer in its next epoch; `None` after the last.
    pub(super) fn raised(self) -> Option<Self> {
        Some(Self { epoch: self.epoch.checked_add(1)?, ..self })
    }
}

/// What makes a batch that is sent twice one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Identity,
    pub(super) sequence: i32,
}

/// A batch's number within its queue. It gets another one when its sequence numbers change, so that no answer to a copy
/// with the old ones is taken for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The records of a batch.
#[derive(Debug)]
pub(super) enum Body {
    /// Still to be compressed.
    Open(BatchBuilder),
    /// As it was sent before.
    Sealed(Bytes),
    /// With the sender, which compresses it.
    Away,
}

/// A batch that is to leave now.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) ticket: Ticket,
    pub(super) body: Body,
    pub(super) stamp: Option<Stamp>,
}

#[derive(Debug)]
struct Batch {
    ticket: Ticket,
    body: Body,
    records: u32,
    bytes: usize,
    /// Takes no more records, and need not linger.
    closed: bool,
    opened_at: Instant,
    stamp: Option<Stamp>,
    in_flight: bool,
    /// An attempt may have reached the log.
    doubt: bool,
    /// An attempt was on a connection that was lost, and may reach the log at any time.
    stray: bool,
    /// `None` once the outcome was told, which for a batch past its deadline is before the last answer.
    teller: Option<oneshot::Sender<Outcome>>,
    outcome: OutcomeFuture,
    room: OwnedSemaphorePermit,
}

/// The batches of one partition, oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    partition: PartitionId,
    limits: Limits,
    /// `None` for a producer that is not idempotent.
    identity: Option<Identity>,
    next_sequence: i32,
    batches: VecDeque<Batch>,
    next_ticket: u64,
    /// Bytes of the last batch before it was compressed: about what the next one will take.
    filled_bytes: usize,
    window: u64,
    /// A failure: nothing leaves until nothing is in flight.
    settling: bool,
    /// The oldest batch was out of order.
    renewing: bool,
    failures: u32,
    retry_at: Option<Instant>,
    last_error: Option<Error>,
}

impl Queue {
    pub(super) fn new(partition: PartitionId, limits: Limits, identity: Option<Identity>) -> Self {
        Self {
            partition,
            limits,
            identity,
            next_sequence: 0,
            batches: VecDeque::new(),
            next_ticket: 0,
            filled_bytes: 0,
            window: 1,
            settling: false,
            renewing: false,
            failures: 0,
            retry_at: None,
            last_error: None,
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The outcomes of everything on its way.
    pub(super) fn outcomes(&self) -> impl Iterator<Item = OutcomeFuture> + '_ {
        self.batches.iter().filter(|batch| batch.teller.is_some()).map(|batch| batch.outcome.clone())
    }

    /// Lets no batch linger any longer.
    pub(super) fn close_open(&mut self) {
        if let Some(batch) = self.batches.back_mut() {
            batch.closed = true;
        }
    }

    /// Adds a record that takes at most `bytes`; `opened` tells whether a new batch began with it.
    pub(super) fn push(
        &mut self,
        record: &OutRecord,
        bytes: usize,
        timestamp_ms: i64,
        room: OwnedSemaphorePermit,
        now: Instant,
    ) -> Pushed {
        let fits = self.batches.back().is_some_and(|batch| batch.takes(bytes, self.limits.batch_bytes));
        let batch_bytes = self.limits.batch_bytes;
        let batch = if fits { self.join(room) } else { self.open(room, now) };
        batch.add(record, timestamp_ms);
        batch.closed |= batch.bytes >= batch_bytes;
        let delivery = Delivery::new(batch.outcome.clone(), batch.records - 1, now);
        Pushed { delivery, opened: !fits, closed: batch.closed }
    }

    fn join(&mut self, room: OwnedSemaphorePermit) -> &mut Batch {
        let batch = self.batches.back_mut().expect("there is a batch to join");
        batch.room.merge(room);
        batch
    }

    fn open(&mut self, room: OwnedSemaphorePermit, now: Instant) -> &mut Batch {
        self.close_open();
        let (teller, outcome) = outcome();
        // Batches of a full pipeline differ by a part of a record.
        let capacity = self.filled_bytes + self.filled_bytes / 16;
        let builder = BatchBuilder::with_capacity(self.limits.compression, capacity);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.batches.push_back(Batch {
            ticket,
            bytes: builder.estimated_bytes(),
            body: Body::Open(builder),
            records: 0,
            closed: false,
            opened_at: now,
            stamp: None,
            in_flight: false,
            doubt: false,
            stray: false,
            teller: Some(teller),
            outcome,
            room,
        });
        self.batches.back_mut().expect("a batch was just opened")
    }

    /// When [`Queue::depart`] has something to give, if nothing else happens; `None`: not before an answer or a record.
    pub(super) fn due(&self) -> Option<Instant> {
        let batch = self.batches.iter().find(|batch| !batch.in_flight)?;
        let oldest = self.batches.front()?;
        let window = if self.identity.is_some() { self.window } else { 1 };
        let beyond_window = batch.ticket.0 - oldest.ticket.0 >= window;
        let unsettled = self.settling && self.batches.iter().any(|batch| batch.in_flight);
        if self.renewing || beyond_window || unsettled {
            return None;
        }
        let ready = if batch.closed || batch.stamp.is_some() || batch.doubt || self.failures > 0 {
            batch.opened_at
        } else {
            batch.opened_at + self.limits.linger
        };
        Some(self.retry_at.map_or(ready, |at| at.max(ready)))
    }

    /// The next batch to send, if it is due.
    pub(super) fn depart(&mut self, now: Instant) -> Option<Departure> {
        if self.due()? > now {
            return None;
        }
        self.settling = false;
        self.retry_at = None;
        let batch = self.batches.iter_mut().find(|batch| !batch.in_flight)?;
        batch.in_flight = true;
        batch.closed = true;
        if batch.stamp.is_none()
            && let Some(identity) = self.identity
        {
            batch.stamp = Some(Stamp { identity, sequence: self.next_sequence });
            self.next_sequence = sequence_after(self.next_sequence, batch.records);
        }
        if matches!(batch.body, Body::Open(_)) {
            self.filled_bytes = batch.bytes;
        }
        let body = match &batch.body {
            Body::Sealed(bytes) => Body::Sealed(bytes.clone()),
            Body::Open(_) | Body::Away => std::mem::replace(&mut batch.body, Body::Away),
        };
        Some(Departure { ticket: batch.ticket, body, stamp: batch.stamp })
    }

    /// Keeps the bytes that were sent, for when they have to be sent again.
    pub(super) fn keep(&mut self, ticket: Ticket, bytes: Bytes) {
        if let Some(at) = self.find(ticket) {
            self.batches[at].bytes = bytes.len();
            self.batches[at].body = Body::Sealed(bytes);
        }
    }

    /// Ends a batch that departed for the first time and was not sent after all: its sequence numbers go to the next.
    pub(super) fn refuse(&mut self, ticket: Ticket, error: Error) {
        let Some(at) = self.find(ticket) else { return };
        if let Some(stamp) = self.batches[at].stamp {
            self.next_sequence = stamp.sequence;
        }
        self.give_up(at, error);
    }

    /// About how large the next batch to send will be; codecs make it smaller, or very little larger.
    pub(super) fn next_bytes(&self) -> usize {
        self.batches.iter().find(|batch| !batch.in_flight).map_or(0, |batch| batch.bytes)
    }

    fn find(&self, ticket: Ticket) -> Option<usize> {
        self.batches.binary_search_by_key(&ticket, |batch| batch.ticket).ok()
    }

    /// Takes in an answer.
    pub(super) fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        let Some(at) = self.find(ticket) else { return };
        self.batches[at].in_flight = false;
        match verdict {
            Verdict::Acked(ack) => self.acked(at, ack),
            Verdict::Refused(error) => self.give_up(at, error),
            Verdict::Unclear(error) => {
                self.batches[at].doubt = true;
                self.give_up(at, error);
            }
            Verdict::Doubt(error) => {
                self.batches[at].doubt = true;
                if self.identity.is_some() { self.retry(at, error, now) } else { self.give_up(at, error) }
            }
            Verdict::Again(error) => self.retry(at, error, now),
            Verdict::OutOfOrder(error) if self.identity.is_none() => self.give_up(at, error),
            Verdict::OutOfOrder(error) => {
                self.renewing |= at == 0;
                self.retry(at, error, now);
            }
        }
    }

    fn acked(&mut self, at: usize, ack: BatchAck) {
        self.remove(at, Ok(ack));
        self.window = (self.window + 1).min(MAX_WINDOW);
        self.failures = 0;
        self.last_error = None;
    }

    /// An answer that ends the batch. Those behind it are out of order now, and will be told so.
    fn give_up(&mut self, at: usize, error: Error) {
        let outcome = if self.batches[at].doubt || self.batches[at].stray {
            SendError::unknown(error.message)
        } else {
            SendError::Failed { code: error.code, message: error.message }
        };
        self.remove(at, Err(outcome));
    }

    fn retry(&mut self, at: usize, error: Error, now: Instant) {
        self.settling = true;
        self.window = 1;
        // A failure makes others of the batches behind it, which are one and the same.
        if self.retry_at.is_none() {
            self.failures += 1;
            self.retry_at = Some(now + backoff(self.failures));
        }
        if error.code != Code::OutOfOrderSequence || self.last_error.is_none() {
            self.last_error = Some(error);
        }
        if self.batches[at].teller.is_none() {
            self.batches.remove(at);
        }
    }

    fn remove(&mut self, at: usize, outcome: Outcome) {
        if let Some(batch) = self.batches.remove(at) {
            batch.tell(outcome);
        }
    }

    /// The connection was lost, and with it every answer.
    pub(super) fn connection_lost(&mut self, error: &Error, now: Instant) {
        let mut lost = Vec::new();
        for batch in self.batches.iter_mut().filter(|batch| batch.in_flight) {
            batch.stray = true;
            lost.push(batch.ticket);
        }
        for ticket in lost {
            self.settle(ticket, Verdict::Doubt(error.clone()), now);
        }
        self.last_error = Some(error.clone());
    }

    /// When the next batch passes its deadline.
    pub(super) fn expires(&self) -> Option<Instant> {
        self.batches.iter().find(|batch| batch.teller.is_some()).map(|batch| batch.opened_at + self.limits.deadline)
    }

    /// Ends the batches whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        let limit = self.limits.deadline;
        let is_late = |batch: &Batch| batch.teller.is_some() && batch.opened_at + limit <= now;
        while let Some(at) = self.batches.iter().position(is_late) {
            let error = self.late();
            let batch = &mut self.batches[at];
            if batch.in_flight {
                // It stays until its answer, since that says what to do with those behind it.
                let unknown = SendError::unknown(error.message);
                batch.teller.take().map(|teller| teller.send(Err(unknown)));
            } else {
                self.give_up(at, error);
            }
        }
    }

    fn late(&self) -> Error {
        let why = self.last_error.as_ref().map_or("no answer", |error| &error.message);
        let message =
            format!("partition {}: not acknowledged within {:?}: {why}", self.partition, self.limits.deadline);
        Error::new(Code::Timeout, message)
    }

    /// The identity to be renewed, once none of the batches is in flight any more.
    pub(super) fn outworn_identity(&self) -> Option<Identity> {
        let settled = !self.batches.iter().any(|batch| batch.in_flight);
        self.identity.filter(|_| self.renewing && settled)
    }

    /// Starts over under another identity. None of the waiting batches is in the log, nor will be but for stray copies.
    pub(super) fn renew(&mut self, identity: Identity) {
        self.identity = Some(identity);
        self.next_sequence = 0;
        self.renewing = false;
        while let Some(at) = self.batches.iter().position(|batch| batch.stray) {
            let error = self.astray();
            self.give_up(at, error);
        }
        for batch in &mut self.batches {
            batch.ticket = Ticket(self.next_ticket);
            self.next_ticket += 1;
            batch.stamp = None;
            batch.doubt = false;
        }
    }

    fn astray(&self) -> Error {
        let message = format!(
            "partition {}: sent on a connection that was lost, behind a batch that was given up; sending it again could \
             write it twice",
            self.partition
        );
        Error::new(Code::Timeout, message)
    }
}

/// What became of a record that was pushed.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) delivery: Delivery,
    /// A new batch began with it.
    pub(super) opened: bool,
    /// The batch takes no more.
    pub(super) closed: bool,
}

impl Batch {
    fn takes(&self, bytes: usize, batch_bytes: usize) -> bool {
        !self.closed && matches!(self.body, Body::Open(_)) && self.bytes + bytes <= batch_bytes
    }

    fn add(&mut self, record: &OutRecord, timestamp_ms: i64) {
        let Body::Open(builder) = &mut self.body else { return };
        builder.push(timestamp_ms, record.key.as_deref(), record.value.as_deref(), &record.header_slices());
        self.bytes = builder.estimated_bytes();
        self.records += 1;
    }

    fn tell(self, outcome: Outcome) {
        // Whoever wanted to know may have left.
        self.teller.map(|teller| teller.send(outcome));
    }
}

/// Sequence numbers go from `i32::MAX` back to 0.
fn sequence_after(sequence: i32, records: u32) -> i32 {
    ((i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1)) as i32
}
